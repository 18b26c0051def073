// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import HoldfastRedis
import HoldfastSQLite
import HoldfastTesting
import HoldfastZooKeeper
import Synchronization
import Testing

/// The primitives go by what all stores promise; here they meet each of them, between two services.
@Suite("Primitives on every store", .timeLimit(.minutes(5)))
struct PrimitivesOnStoresTests {
    /// Counts who is inside at once.
    private final class Room: Sendable {
        private let state = Mutex((inside: 0, most: 0))

        var most: Int { self.state.withLock { $0.most } }

        func visit() async throws {
            self.state.withLock { state in
                state.inside += 1
                state.most = max(state.most, state.inside)
            }
            defer { self.state.withLock { $0.inside -= 1 } }
            try await Task.sleep(for: .milliseconds(5))
        }
    }

    @Test("Memory")
    func memory() async throws {
        let store = MemoryStore()
        try await Self.check("") { store }
    }

    @Test("SQLite")
    func sqlite() async throws {
        let directory = try TemporaryDirectory.make(prefix: "holdfast-primitives-")
        defer { TemporaryDirectory.remove(directory) }
        try await Self.check("") { SQLiteLockStore(path: "\(directory)/locks.db") }
    }

    @Test("Redis")
    func redis() async throws {
        let url = try await SharedRedis.shared.url + "?timeout=10s"
        try await Self.check("primitives/") { try RedisLockStore(url: url) }
    }

    @Test("Redis cluster")
    func cluster() async throws {
        let url = try await SharedCluster.shared.url + "?timeout=10s"
        try await Self.check("primitives/") { try RedisLockStore(url: url) }
    }

    @Test("ZooKeeper", arguments: ["", "?sharing=no", "?sharing=no&layout=kazoo", "?sharing=no&layout=curator-rw"])
    func zookeeper(settings: String) async throws {
        let url = try await SharedZooKeeper.shared.url + settings
        try await Self.check("primitives\(settings.count)/") { try ZooKeeperLockStore(url: url) }
    }

    private static func check(
        _ prefix: String,
        _ makeStore: @escaping @Sendable () throws -> any LockStore
    ) async throws {
        let latch = try Resource("\(prefix)latch")
        try await withLockService(store: try makeStore()) { first in
            // What needs other modes is for stores that have them.
            let isFull = first.capabilities.modes.isSuperset(of: [.shared, .permit])
            try await withLockService(store: try makeStore()) { second in
                try await Self.checkLocks(prefix, first, second)
                try await Self.checkElection(prefix, first, second)
                guard isFull else { return }
                try await Self.checkSemaphore(prefix, first, second)
                try await Self.checkGroups(prefix, first, second)
                guard first.capabilities.sessionLease == nil else {
                    // A count-down has to outlive whoever counted.
                    let refusal = await #expect(throws: LockError.self) {
                        try await CountDownLatch(latch, count: 1, on: second).countDown()
                    }
                    #expect(refusal?.code == .unsupported)
                    return
                }
                try await CountDownLatch(latch, count: 1, on: second).countDown()
            }
            guard isFull, first.capabilities.sessionLease == nil else { return }
            // The service that counted down is gone.
            try await CountDownLatch(latch, count: 1, on: first).wait(waitingAtMost: .zero)
            try await CountDownLatch(latch, count: 1, on: first).reset()
            for try await status in first.survey(ResourcePattern("\(prefix)*")) {
                Issue.record("\(status.resource) is not free")
            }
        }
    }

    private static func checkLocks(_ prefix: String, _ first: LockService, _ second: LockService) async throws {
        let names = try ["a", "b", "c"].map { try Resource(prefix + $0) }
        let room = Room()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<12 {
                let locks = number.isMultiple(of: 2) ? first : second
                // Every two of these sets share a name.
                let set = number.isMultiple(of: 3) ? [names[2], names[0]] : [names[1], names[2], names[0]]
                group.addTask {
                    try await locks.withLocks(set, waitingAtMost: .seconds(30)) { held in
                        try held.checkValid()
                        try await room.visit()
                    }
                }
            }
            try await group.waitForAll()
        }
        #expect(room.most == 1)
    }

    private static func checkSemaphore(_ prefix: String, _ first: LockService, _ second: LockService) async throws {
        let slots = try Resource("\(prefix)slots")
        let room = Room()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<12 {
                let semaphore = try Semaphore(slots, permits: 2, on: number.isMultiple(of: 2) ? first : second)
                group.addTask { try await semaphore.withPermit { _ in try await room.visit() } }
            }
            try await group.waitForAll()
        }
        #expect((1...2).contains(room.most))
    }

    private static func checkElection(_ prefix: String, _ first: LockService, _ second: LockService) async throws {
        let election = try Resource("\(prefix)election")
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            for (index, locks) in [first, second].enumerated() {
                tasks.addTask {
                    let candidate = try LeaderElection(election, on: locks, candidate: "candidate \(index)")
                    try await candidate.withLeadership { term in
                        let leader = try await candidate.leader()
                        #expect(leader?.candidate == "candidate \(index)")
                        #expect(leader?.token == term.token)
                    }
                }
            }
            try await tasks.waitForAll()
        }
    }

    private static func checkGroups(_ prefix: String, _ first: LockService, _ second: LockService) async throws {
        let group = try Resource("\(prefix)group")
        let barrier = try Resource("\(prefix)barrier")
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            for (index, locks) in [first, second].enumerated() {
                tasks.addTask {
                    let meeting = try Barrier(barrier, parties: 2, on: locks)
                    try await GroupMembership(group, on: locks).withMembership(data: "member \(index)") { _ in
                        try await meeting.withBarrier(waitingAtMost: .seconds(20)) { _ in
                            let members = try await GroupMembership(group, on: locks).members()
                            #expect(Set(members.map(\.data)) == ["member 0", "member 1"])
                        }
                    }
                }
            }
            try await tasks.waitForAll()
        }
    }
}
