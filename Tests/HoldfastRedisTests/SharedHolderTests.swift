// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import HoldfastRedis
import HoldfastTesting
import Testing

/// Holders beside each other, as the server and plain Redlock libraries see them.
@Suite(.timeLimit(.minutes(5)))
struct SharedHolderTests {
    @Test
    func `a plain Redlock locker is kept out while readers hold, until the last lease ends`() async throws {
        let server = try await RedisServer()
        let store = try RedisLockStore(url: server.calm)
        let short = Make.request("x", mode: .shared, lease: .seconds(2))
        let long = Make.request("x", mode: .shared, lease: .seconds(20))
        #expect(try await store.acquire(long).token != nil)
        #expect(try await store.acquire(short).token != nil)
        #expect(try server.execute("GET", "x") == "hf:shared")
        #expect(try server.execute("SET", "x", "foreign", "NX", "PX", "1000") != "OK")
        #expect(try #require(Int(server.execute("PTTL", "x"))) > 10_000)
        // The one who ends last has gone, so the marker ends with the other.
        #expect(try await store.release(long.key) == .released)
        #expect(try #require(Int(server.execute("PTTL", "x"))) <= 2000)
        try await Task.sleep(for: .milliseconds(2050))
        #expect(try server.execute("SET", "x", "foreign", "NX", "PX", "9000") == "OK")
        let reply = try await store.acquire(Make.request("x", mode: .shared, contention: .fail))
        guard case .busy(let blockers) = reply else {
            Issue.record("a reader beside a foreign holder: \(reply)")
            return
        }
        #expect(blockers.map(\.reference) == [nil])
        #expect(try await store.release(short.key) == .alreadyLost)
        #expect(try server.execute("GET", "x") == "foreign")
    }

    @Test
    func `a dead reader's share ends with its own lease, though others renew theirs`() async throws {
        let server = try await RedisServer()
        let store = try RedisLockStore(url: server.calm)
        let signals = Signals(of: store)
        let dead = Make.request("x", mode: .permit(of: 2), lease: .seconds(5))
        let alive = Make.request("x", mode: .permit(of: 2), lease: .seconds(5))
        let next = Make.request("x", mode: .permit(of: 2), acceptance: .seconds(30))
        #expect(try await store.acquire(dead).token != nil)
        #expect(try await store.acquire(alive).token != nil)
        #expect(try await store.renew([Renewal(key: alive.key, lease: .seconds(30))]) != [.lost(.expired)])
        let place = try #require(try await store.acquire(next).place)
        #expect(place.blockers.count == 2)
        #expect(place.checkAfter < .milliseconds(5100))
        try await Task.sleep(for: place.checkAfter)
        // Whoever comes next sees that it ended, and hands its permit on.
        #expect(try await store.renew([Renewal(key: dead.key, lease: .seconds(30))]) == [.lost(.expired)])
        #expect(await signals.first { $0 == .granted(next.id) } != nil)
        #expect(try await store.acquire(next).token != nil)
        let holders = try await store.status(of: "x").holders
        #expect(holders.map(\.reference) == [alive.id.reference, next.id.reference])
    }

    @Test
    func `one release wakes fifty readers in one command`() async throws {
        let server = try await RedisServer()
        let store = try RedisLockStore(url: server.calm)
        let holder = Make.request("x")
        let readers = (0..<50).map { _ in Make.request("x", mode: .shared, acceptance: .seconds(9)) }
        let writer = Make.request("x")
        #expect(try await store.acquire(holder).token != nil)
        for reader in readers { #expect(try await store.acquire(reader).place != nil) }
        #expect(try await store.acquire(writer).place?.position == 50)
        let signals = Signals(of: store)
        try server.execute("CONFIG", "RESETSTAT")
        #expect(try await store.release(holder.key) == .released)
        var told: Set<RequestID> = []
        for await signal in signals.stream {
            if case .granted(let id) = signal { told.insert(id) }
            // The writer behind them hears when they should have accepted, after all of them.
            if case .check(let id, after: let patience) = signal {
                #expect(id == writer.id)
                #expect(patience == .seconds(9))
                break
            }
        }
        #expect(told == Set(readers.map(\.id)))
        #expect(try server.execute("INFO", "commandstats").contains("cmdstat_evalsha:calls=1,"))
        let holders = try await store.status(of: "x").holders
        #expect(holders.map(\.reference) == readers.map(\.id.reference))
        #expect(Set(holders.map(\.fencingToken)).count == 50)
        #expect(holders.allSatisfy { $0.isAccepting })
    }

    @Test
    func `who deletes the key has taken the lock from all readers, and nothing of them is left`() async throws {
        let server = try await RedisServer()
        let store = try RedisLockStore(url: server.calm)
        let readers = (0..<3).map { _ in Make.request("x", mode: .shared) }
        for reader in readers { #expect(try await store.acquire(reader).token != nil) }
        let updater = Make.request("x", mode: .update)
        #expect(try await store.acquire(updater).token != nil)
        let upgrade = Conversion(updater.key, to: .exclusive, contention: .queue)
        guard case .waiting = try await store.convert(upgrade) else {
            Issue.record("an upgrade beside readers does not wait")
            return
        }
        try server.execute("DEL", "x")
        let writer = Make.request("x")
        #expect(try await store.acquire(writer).token != nil)
        #expect(try server.execute("GET", "x") == writer.id.secret)
        let renewals = (readers + [updater]).map { Renewal(key: $0.key, lease: .seconds(9)) }
        #expect(try await store.renew(renewals) == Array(repeating: .lost(.expired), count: 4))
        #expect(try await store.convert(upgrade) == .lost)
        #expect(try await store.release(writer.key) == .released)
        // The number of its last change, for a minute.
        let change = "hf:{x}:t:\(updater.id.secret):c"
        let left = try server.execute("KEYS", "*").split(separator: "\n").map(String.init)
        #expect(left.filter { $0 != change } == ["hf:{x}:h"])
        #expect(try (Int(server.execute("PTTL", change)) ?? 0) <= 60_000)

        // The same when a foreigner's key is there at once.
        #expect(try await store.acquire(readers[0]).token != nil)
        try server.execute("SET", "x", "foreign", "PX", "9000")
        #expect(try await store.renew([renewals[0]]) == [.lost(.expired)])
        #expect(try server.execute("GET", "x") == "foreign")
        #expect(try server.execute("EXISTS", "hf:{x}:s", "hf:{x}:e") == "0")
    }

    @Test
    func `no key lives for ever, whatever was held, waited for and asked about`() async throws {
        let server = try await RedisServer()
        let store = try RedisLockStore(url: server.calm)
        for name in ["a", "b", "c"] as [Resource] {
            let reader = Make.request(name, mode: .shared)
            #expect(try await store.acquire(reader).token != nil)
            let waiter = Make.request(name, fairness: .barging, holding: [reader.id.reference])
            #expect(try await store.acquire(waiter).place != nil)
            #expect(try await store.waits(of: waiter.owner, for: name).map(\.resource) == [name])
            _ = try await store.withdraw(Make.request(name).key)
        }
        let keys = try server.execute("KEYS", "*").split(separator: "\n").map(String.init)
        #expect(keys.count == 3 * 8)
        for key in keys {
            let life = try #require(Int(server.execute("PTTL", key)))
            #expect((1...172_800_000).contains(life), "\(key)")
        }
    }

    @Test
    func `a thousand readers hold, renew and leave`() async throws {
        let server = try await RedisServer()
        let store = try RedisLockStore(url: server.calm)
        let readers = (0..<1000).map { _ in Make.request("x", mode: .shared, lease: .seconds(50)) }
        for reader in readers { #expect(try await store.acquire(reader).token != nil) }
        let reply = try await store.acquire(Make.request("x", contention: .fail))
        guard case .busy(let blockers) = reply else {
            Issue.record("a writer beside readers: \(reply)")
            return
        }
        // Those whose leases end first; readers of one millisecond end together.
        #expect(blockers.count == 100)
        #expect(Set(blockers.map(\.reference)).isSubset(of: readers.prefix(200).map(\.id.reference)))
        #expect(try await store.status(of: "x").holders.map(\.reference) == readers.map(\.id.reference))
        let replies = try await store.renew(readers.map { Renewal(key: $0.key, lease: .seconds(60)) })
        #expect(replies.allSatisfy { $0 == .renewed(revokeRequested: false) })
        #expect(try await store.revoke("x").asked.count == 1000)
        for reader in readers.dropLast(100) { #expect(try await store.release(reader.key) == .released) }
        #expect(try await store.forceRelease("x").count == 100)
        for reader in readers.suffix(100) { #expect(try await store.acquire(reader) == .finished) }
        #expect(try server.execute("EXISTS", "x", "hf:{x}:s", "hf:{x}:e") == "0")
    }
}
