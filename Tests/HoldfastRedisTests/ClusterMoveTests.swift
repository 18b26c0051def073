// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import HoldfastRedis
import HoldfastTesting
import Synchronization
import Testing

/// Slots that are on their way for long: operators stop half-way, and a slot of many keys takes its time.
@Suite("Cluster slots on their way", .timeLimit(.minutes(5)), .serialized)
struct ClusterMoveTests {
    private func store(_ servers: RedisClusterServers, _ settings: String = "") throws -> RedisLockStore {
        try RedisLockStore(url: "\(servers.url)?timeout=10s&\(settings)")
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
            let held = try await locks.acquire(names[0], lease: .seconds(5))
            let shared = try await locks.acquire(names[1], mode: .shared, lease: .seconds(5))
            let before = try await locks.withLock(names[2]) { $0.fencingToken }
            let (given, shown) = (
                try await locks.acquire(names[3], lease: .seconds(5)),
                try await locks.acquire(names[4], mode: .shared, lease: .seconds(5))
            )
            try await servers.move(slotOf: "x", to: to) {
                // What is there stays, what was there is taken again, what was never there is taken too.
                let again = try await locks.acquire(names[2], lease: .seconds(5))
                #expect(again.fencingToken > before)
                let new = try await locks.acquire(names[5], lease: .seconds(5))
                try await Task.sleep(for: .seconds(9))
                for lease in [held, shared, given, shown, again, new] { try lease.checkValid() }
                #expect(await given.release() == .released)
                #expect(await shown.release() == .released)
                #expect(await again.release() == .released)
                #expect(try await locks.withLock(names[3], lease: .seconds(5)) { $0.fencingToken } > given.fencingToken)
                #expect(try await locks.tryAcquire(names[0]) == nil, "two hold the lock")
                #expect(await new.release() == .released)
                #expect(try await locks.withLock(names[6], lease: .seconds(5)) { _ in true })
                #expect(try await locks.withLock(names[6], lease: .seconds(5)) { _ in true })
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
            #expect(await signals.first(within: .seconds(10)) { $0 == .granted(waiter.id) } != nil)
            #expect(try await b.acquire(waiter).token != nil)
            #expect(try await a.release(held[0].key) == .released)
        }
        #expect(try await a.release(held[1].key) == .released)
        #expect(try await b.release(waiter.key) == .released)
    }

    @Test
    func `a lock whose last waiter went away is renewed and given back while its slot is on its way`() async throws {
        let servers = try await RedisClusterServers()
        let names = try self.names(3)
        let (from, to) = try self.target(servers)
        let (a, b) = (try self.store(servers), try self.store(servers))
        let held = names.map { Make.request($0, lease: .seconds(30)) }
        for request in held { #expect(try await a.acquire(request).token != nil) }
        for request in held.prefix(2) {
            let waiter = Make.request(request.resource, lease: .seconds(30))
            #expect(try await b.acquire(waiter).place != nil)
            #expect(try await b.withdraw(waiter.key) == .withdrawn)
        }
        try await servers.move(slotOf: "x", to: to) {
            // All of the first is there already, and half of the second.
            let there = [names[0].name, "hf:{\(names[0].name)}:h", "hf:{\(names[1].name)}:h"]
            for key in there {
                #expect(try from.execute("MIGRATE", "127.0.0.1", "\(to.port)", key, "0", "5000") == "OK")
            }
            for request in held {
                let replies = try await a.renew([Renewal(key: request.key, lease: .seconds(30))])
                #expect(replies == [.renewed(revokeRequested: false)])
                #expect(try await a.release(request.key) == .released)
            }
        }
    }

    @Test
    func `a lock in update mode becomes exclusive while its slot is on its way`() async throws {
        let servers = try await RedisClusterServers()
        let names = try self.names(2)
        let (_, to) = try self.target(servers)
        let a = try self.store(servers)
        let (x, u) = (
            Make.request(names[0], lease: .seconds(30)), Make.request(names[1], mode: .update, lease: .seconds(30))
        )
        #expect(try await a.acquire(x).token != nil)
        let before = try #require(try await a.acquire(u).token)
        try await servers.move(slotOf: "x", to: to) {
            guard case .converted(let token) = try await a.convert(Conversion(u.key, to: .exclusive)) else {
                Issue.record("it stays in update mode")
                return
            }
            #expect(token > before)
            // The other way takes keys that cannot be made there: an error that leaves all as it was.
            let error = await #expect(throws: LockError.self) {
                try await a.convert(Conversion(x.key, to: .shared))
            }
            #expect(error?.code == .storeUnavailable)
            let replies = try await a.renew([x, u].map { Renewal(key: $0.key, lease: .seconds(30)) })
            #expect(replies == Array(repeating: .renewed(revokeRequested: false), count: 2))
        }
        guard case .converted = try await a.convert(Conversion(x.key, to: .shared)) else {
            Issue.record("it stays exclusive")
            return
        }
        #expect(try await a.release(x.key) == .released)
        #expect(try await a.release(u.key) == .released)
    }

    @Test
    func `a reader who is next in a slot on its way is not passed over for the writer behind it`() async throws {
        let servers = try await RedisClusterServers()
        let name = try self.names(1)[0]
        let (_, to) = try self.target(servers)
        let (a, b, c) = (try self.store(servers), try self.store(servers), try self.store(servers))
        let holder = Make.request(name, lease: .seconds(30))
        let reader = Make.request(name, mode: .shared, lease: .seconds(30), acceptance: .seconds(5))
        let writer = Make.request(name, lease: .seconds(30), acceptance: .seconds(5))
        #expect(try await a.acquire(holder).token != nil)
        #expect(try await b.acquire(reader).place?.position == 0)
        #expect(try await c.acquire(writer).place?.position == 1)
        let (toReader, toWriter) = (Signals(of: b), Signals(of: c))
        try await servers.move(slotOf: "x", to: to) {
            #expect(try await a.release(holder.key) == .released)
            // It cannot be made a holder there: it is told to ask, and gets the lock where the slot goes.
            let told = await toReader.first(within: .seconds(10)) {
                $0 == .check(reader.id, after: .zero) || $0 == .granted(reader.id)
            }
            #expect(told != nil, "nobody told it")
            #expect(try await b.acquire(reader).token != nil)
            #expect(try await c.acquire(writer).token == nil, "a writer beside a reader")
            #expect(await toWriter.first(within: .milliseconds(100)) { $0 == .granted(writer.id) } == nil)
            #expect(try await b.release(reader.key) == .released)
            try await eventually("the writer never gets it") { try await c.acquire(writer).token != nil }
        }
        #expect(try await c.release(writer.key) == .released)
    }

    @Test
    func `a key whose carrier died between the two steps is carried on`() async throws {
        let servers = try await RedisClusterServers()
        let name = try self.names(1)[0]
        let (from, to) = try self.target(servers)
        let a = try self.store(servers)
        let held = Make.request(name, lease: .seconds(30))
        #expect(try await a.acquire(held).token != nil)
        try await servers.move(slotOf: "x", to: to) {
            let record = "hf:{\(name.name)}:h"
            #expect(try from.execute("MIGRATE", "127.0.0.1", "\(to.port)", record, "0", "5000") == "OK")
            let secret = try from.execute("GET", name.name)
            // The copy is there, and lives for less than what it is a copy of.
            let copy = "printf 'ASKING\\nSET \(name.name) \(secret) NX PX 9000\\n' | redis-cli -p \(to.port)"
            let copier = try ChildProcess("/bin/sh", ["-c", copy])
            try await eventually("no copy") { copier.hasExited }
            #expect(try await a.status(of: name).holders.first?.remaining ?? .zero > .seconds(10))
            let replies = try await a.renew([Renewal(key: held.key, lease: .seconds(30))])
            #expect(replies == [.renewed(revokeRequested: false)])
            #expect(try await a.release(held.key) == .released)
        }
    }
}
