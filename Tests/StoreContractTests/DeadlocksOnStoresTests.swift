// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import HoldfastRedis
import HoldfastSQLite
import HoldfastTesting
import HoldfastZooKeeper
import Testing

/// Tasks of two services that lock at random, on real stores: every circle is ended, and nobody is told without one.
@Suite("Deadlocks on real stores", .timeLimit(.minutes(5)), .serialized)
struct DeadlocksOnStoresTests {
    /// Side by side, and one after the other: 512 histories for each store.
    private static let worlds = 8
    private static let rounds = 64

    @Test("On SQLite: in 512 histories no deadlock is missed, and none is made up")
    func sqlite() async throws {
        let directory = try TemporaryDirectory.make(prefix: "holdfast-deadlocks-")
        defer { TemporaryDirectory.remove(directory) }
        try await self.check { SQLiteLockStore(path: "\(directory)/locks.db") }
    }

    @Test("On Redis: in 512 histories no deadlock is missed, and none is made up")
    func redis() async throws {
        let server = try await RedisServer()
        let url = server.url + "/0?timeout=10s"
        try await self.check { try RedisLockStore(url: url) }
        withExtendedLifetime(server) {}
    }

    @Test("On a Redis cluster: in 512 histories no deadlock is missed, and none is made up")
    func cluster() async throws {
        let url = try await SharedCluster.shared.url + "?timeout=10s"
        try await self.check { try RedisLockStore(url: url) }
    }

    @Test("On ZooKeeper: in 512 histories no deadlock is missed, and none is made up")
    func zookeeper() async throws {
        let server = try await ZooKeeperServer()
        let url = server.url + "/deadlocks?sharing=no&timeout=10s"
        try await self.check { try ZooKeeperLockStore(url: url) }
        withExtendedLifetime(server) {}
    }

    private func check(_ makeStore: () throws -> any LockStore) async throws {
        var settings = LockServiceConfiguration()
        settings.deadlocks = .detect(after: .milliseconds(20))
        let services = [
            try LockService(store: try makeStore(), configuration: settings),
            try LockService(store: try makeStore(), configuration: settings),
        ]
        try await withThrowingTaskGroup(of: Void.self) { running in
            for service in services { running.addTask { try await service.run() } }
            let victims = try await withThrowingTaskGroup(of: Int.self) { worlds in
                for world in 0..<Self.worlds {
                    worlds.addTask { try await self.world(world, services) }
                }
                return try await worlds.reduce(0, +)
            }
            // About every other history with crossed orders has a circle.
            #expect(victims > Self.worlds * Self.rounds / 20)
            running.cancelAll()
        }
    }

    /// - Returns: How many requests were told to give up.
    private func world(_ world: Int, _ services: [LockService]) async throws -> Int {
        var generator = SeededGenerator(seed: UInt64(world))
        var victims = 0
        for round in 0..<Self.rounds {
            // Where all lock in one order, there can be no circle.
            let isOrdered = round % 4 == 0
            let told = try await withThrowingTaskGroup(of: Int.self) { owners in
                for owner in 0..<3 {
                    var names = ["a", "b", "c"].map { "deadlocks/\(world)/\($0)" }
                    if !isOrdered { names.shuffle(using: &generator) }
                    let wanted = try names.prefix(isOrdered ? 3 : 2).map { try Resource($0) }
                    let modes = wanted.map { _ in generator.chance(0.7) ? LockMode.exclusive : .shared }
                    owners.addTask {
                        try await self.insist(services[owner % 2], wanted[...], modes)
                    }
                }
                return try await owners.reduce(0, +)
            }
            if isOrdered { #expect(told == 0, "a deadlock was made up in world \(world), round \(round)") }
            victims += told
        }
        return victims
    }

    /// Locks one inside the other, again and again until it gets through.
    ///
    /// - Returns: How many times it was told to give up.
    private func insist(
        _ locks: LockService,
        _ wanted: ArraySlice<Resource>,
        _ modes: [LockMode]
    ) async throws -> Int {
        var told = 0
        while true {
            do {
                try await self.nest(locks, wanted, modes)
                return told
            } catch let error as LockError where error.code == .deadlock {
                told += 1
                #expect(error.deadlock?.cycle.isEmpty == false)
            }
        }
    }

    private func nest(_ locks: LockService, _ wanted: ArraySlice<Resource>, _ modes: [LockMode]) async throws {
        guard let first = wanted.first else { return }
        try await locks.withLock(first, mode: modes[wanted.startIndex]) { _ in
            try await Task.sleep(for: .milliseconds(1))
            try await self.nest(locks, wanted.dropFirst(), modes)
        }
    }
}
