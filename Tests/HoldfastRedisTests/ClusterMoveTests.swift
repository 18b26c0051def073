// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import HoldfastRedis
import HoldfastTesting
import Synchronization
import Testing

/// Slots that are on their way for long: operators stop half-way, and a slot of many keys takes its time.
@Suite("Cluster slots on their way", .timeLimit(.minutes(4)), .serialized)
struct ClusterMoveTests {
    private func store(_ servers: RedisClusterServers, _ settings: String = "") throws -> RedisLockStore {
        try RedisLockStore(url: "\(servers.url)?timeout=1s&\(settings)")
    }

    /// Names of one slot.
    private func names(_ count: Int) throws -> [Resource] {
        let slot = RedisSlot(of: "x")
        var names: [Resource] = []
        var number = 0
        while names.count < count {
            if RedisSlot(of: "n\(number)") == slot { names.append(try Resource("n\(number)")) }
            number += 1
        }
        return names
    }

    private func target(_ servers: RedisClusterServers) throws -> (from: RedisServer, to: RedisServer) {
        let from = try #require(try servers.owner(of: "x"))
        let others = try ["0", "1", "2", "3"].compactMap { try servers.owner(of: $0) }.filter { $0 !== from }
        return (from, try #require(others.first))
    }

    @Test
    func `locks of a slot that stays on its way are kept for many leases, given back, and taken`() async throws {
        let servers = try await RedisClusterServers()
        let names = try self.names(7)
        let (from, to) = try self.target(servers)
        try await withLockService(store: try self.store(servers)) { locks in
            let held = try await locks.acquire(names[0], lease: .seconds(1))
            let shared = try await locks.acquire(names[1], mode: .shared, lease: .seconds(1))
            let before = try await locks.withLock(names[2]) { $0.fencingToken }
            let (given, shown) = (
                try await locks.acquire(names[3], lease: .seconds(1)),
                try await locks.acquire(names[4], mode: .shared, lease: .seconds(1))
            )
            try await servers.move(slotOf: "x", to: to) {
                // What is there stays, what was there is taken again, what was never there is taken too.
                let again = try await locks.acquire(names[2], lease: .seconds(1))
                #expect(again.fencingToken > before)
                let new = try await locks.acquire(names[5], lease: .seconds(1))
                try await Task.sleep(for: .seconds(4))
                for lease in [held, shared, given, shown, again, new] { try lease.checkValid() }
                #expect(await given.release() == .released)
                #expect(await shown.release() == .released)
                #expect(await again.release() == .released)
                #expect(try await locks.withLock(names[3], lease: .seconds(1)) { $0.fencingToken } > given.fencingToken)
                #expect(try await locks.tryAcquire(names[0]) == nil, "two hold the lock")
                #expect(await new.release() == .released)
                #expect(try await locks.withLock(names[6], lease: .seconds(1)) { _ in true })
                #expect(try await locks.withLock(names[6], lease: .seconds(1)) { _ in true })
            }
            #expect(try servers.owner(of: "x") === to)
            #expect(try from.execute("GET", names[0].name).hasPrefix("MOVED"))
            for lease in [held, shared] {
                try lease.checkValid()
                #expect(await lease.release() == .released)
            }
            for name in names { #expect(try await locks.withLock(name) { _ in true }) }
        }
    }

    @Test
    func `services contend for locks of a slot that stays on its way, and nobody meets another`() async throws {
        let servers = try await RedisClusterServers()
        let names = try self.names(2)
        let (_, to) = try self.target(servers)
        let tallies = [Tally(), Tally()]
        // One was used before, and its record is there; one is new.
        let first = try self.store(servers)
        let warm = Make.request(names[0])
        #expect(try await first.acquire(warm).token != nil)
        #expect(try await first.release(warm.key) == .released)
        try await servers.move(slotOf: "x", to: to) {
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<3 {
                    let store = try self.store(servers)
                    group.addTask {
                        try await withLockService(store: store) { locks in
                            for number in 0..<30 {
                                let tally = tallies[number % 2]
                                try await locks.withLock(names[number % 2], waitingAtMost: .seconds(20)) { lease in
                                    let value = tally.enter()
                                    await Task.yield()
                                    tally.leave(writing: value + 1, lease.fencingToken)
                                }
                            }
                        }
                    }
                }
                try await group.waitForAll()
            }
        }
        for tally in tallies { #expect(tally.value == 45 && tally.overlaps == 0 && tally.refused == 0) }
    }

    @Test
    func `a lock whose keys are on both sides is kept, and a queue hands on`() async throws {
        let servers = try await RedisClusterServers()
        let names = try self.names(3)
        let (from, to) = try self.target(servers)
        let (a, b) = (try self.store(servers), try self.store(servers))
        let held = names.map { Make.request($0, lease: .seconds(30)) }
        for request in held { #expect(try await a.acquire(request).token != nil) }
        let waiter = Make.request(names[2], lease: .seconds(30), acceptance: .seconds(10))
        #expect(try await b.acquire(waiter).place != nil)
        let signals = Signals(of: b)
        try await servers.move(slotOf: "x", to: to) {
            let port = "\(to.port)"
            #expect(try from.execute("MIGRATE", "127.0.0.1", port, names[0].name, "0", "5000") == "OK")
            #expect(try from.execute("MIGRATE", "127.0.0.1", port, "hf:{\(names[1].name)}:h", "0", "5000") == "OK")
            for _ in 0..<2 {
                let replies = try await a.renew(held.map { Renewal(key: $0.key, lease: .seconds(30)) })
                #expect(replies == Array(repeating: .renewed(revokeRequested: false), count: 3))
            }
            #expect(try await b.acquire(Make.request(names[0], contention: .fail)).isBusy)
            #expect(try await a.release(held[2].key) == .released)
            #expect(await signals.first(within: .seconds(2)) { $0 == .granted(waiter.id) } != nil)
            #expect(try await b.acquire(waiter).token != nil)
            #expect(try await a.release(held[0].key) == .released)
        }
        #expect(try await a.release(held[1].key) == .released)
        #expect(try await b.release(waiter.key) == .released)
    }
}
