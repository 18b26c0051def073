// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import HoldfastRedis
import HoldfastTesting
import Synchronization
import Testing

/// Failovers to a replica that had not got what the master knew: real servers.
@Suite("Failovers that forget", .timeLimit(.minutes(5)), .serialized)
struct SentinelFailoverTests {
    /// Has the replicas forget everything, the master die, and another take over.
    private func failOver(_ servers: RedisSentinelServers) async throws -> RedisServer {
        let old = try #require(try servers.master())
        try self.forget(servers, except: old)
        old.kill()
        return try await self.successor(of: old, servers)
    }

    private func forget(_ servers: RedisSentinelServers, except master: RedisServer) throws {
        for replica in servers.servers where replica.port != master.port {
            try replica.execute("CONFIG", "SET", "replica-read-only", "no")
            try replica.execute("FLUSHALL")
        }
    }

    /// Waits until another server is the master for most Sentinels.
    private func successor(of old: RedisServer, _ servers: RedisSentinelServers) async throws -> RedisServer {
        var new: RedisServer?
        try await eventually("no failover", within: .seconds(20)) {
            new = try servers.master()
            return new != nil && new?.port != old.port
        }
        return try #require(new)
    }

    /// Has a master give tokens as one would whose clock is a day ahead: the next one's is behind them.
    private func setAhead(_ name: String, on server: RedisServer) throws {
        let time = try server.execute("TIME").split(separator: "\n")
        let second = try #require(time.first.flatMap { Int($0) })
        let token = "\((second + 86_400) * 1_000_000)"
        try server.execute("SET", "hf:{\(name)}:h", "F\(token)\(String(repeating: "-", count: 32)).|")
    }

    @Test
    func `a hand-over gives no token below one that was seen, whoever makes it`() async throws {
        let servers = try await RedisSentinelServers()
        let calm = servers.url + "?timeout=10s"
        let (a, b) = try (RedisLockStore(url: calm), RedisLockStore(url: calm))
        let old = try #require(try servers.master())
        for name in ["x", "y", "up"] { try self.setAhead(name, on: old) }
        let held = Make.request("x", lease: .seconds(60))
        let waiter = Make.request("x", lease: .seconds(60), acceptance: .seconds(30))
        let token = try #require(try await a.acquire(held).token)
        // This one only ever saw the token of who was in its way.
        #expect(try await b.acquire(waiter).place?.blockers.first?.fencingToken == token)
        let new = try await self.failOver(servers)
        // Somebody who knows nothing of before comes first.
        let stranger = try RedisLockStore(url: new.calm)
        let first = Make.request("x", lease: .seconds(60))
        #expect(try #require(try await stranger.acquire(first).token) < token, "the counter went back")
        try await eventually("it does not wait") { (try? await b.acquire(waiter).place) != nil }
        let again = Make.request("x", lease: .seconds(60), acceptance: .seconds(30))
        try await eventually("it does not wait") { (try? await a.acquire(again).place) != nil }
        #expect(try await stranger.release(first.key) == .released)
        #expect(try new.execute("GET", "x") == waiter.id.secret, "it was handed over")
        let second = try #require(try await b.acquire(waiter).token)
        #expect(second > token)
        #expect(try await b.acquire(waiter) == .granted(second), "a token stays what it was")
        #expect(try await b.release(waiter.key) == .released)
        #expect(try #require(try await a.acquire(again).token) > second)

        // Whoever releases knows tokens too; this one is handed to somebody who does not.
        let last = Make.request("y", lease: .seconds(60))
        let floor = try #require(try await a.acquire(last).token)
        #expect(floor > second)
        let newcomer = Make.request("y", lease: .seconds(60), acceptance: .seconds(30))
        #expect(try await stranger.acquire(newcomer).place != nil)
        try new.execute("DEL", "hf:{y}:h")
        #expect(try await a.release(last.key) == .released)
        #expect(try #require(try await stranger.acquire(newcomer).token) > floor)
    }

    @Test
    func `a renewal, an upgrade and what comes after them keep above the tokens that were seen`() async throws {
        let servers = try await RedisSentinelServers()
        let store = try RedisLockStore(url: servers.url + "?timeout=10s")
        let old = try #require(try servers.master())
        try self.setAhead("x", on: old)
        let held = Make.request("x", mode: .update, lease: .seconds(60))
        let token = try #require(try await store.acquire(held).token)
        guard case .converted(let raised) = try await store.convert(Conversion(held.key, to: .exclusive)) else {
            Issue.record("no upgrade")
            return
        }
        #expect(raised > token)
        let new = try await self.failOver(servers)
        let next = Make.request("x", lease: .seconds(60))
        var given: FencingToken?
        try await eventually("it does not go on") {
            given = try? await store.acquire(next).token
            return given != nil
        }
        #expect(try #require(given) > raised)
        // The record goes, the lock stays: a renewal writes it anew.
        try new.execute("DEL", "hf:{x}:h")
        let renewal = Renewal(key: next.key, lease: .seconds(60))
        #expect(try await store.renew([renewal]) == [.renewed(revokeRequested: false)])
        #expect(try await store.release(next.key) == .released)
        let stranger = try RedisLockStore(url: new.calm)
        #expect(try #require(try await stranger.acquire(Make.request("x")).token) > (try #require(given)))
    }

    @Test
    func `R9 a stale master grants beside the new one, and tokens tell a fenced store who came later`() async throws {
        let servers = try await RedisSentinelServers()
        let client = try RedisLockStore(url: servers.url + "?timeout=3s")
        let old = try #require(try servers.master())
        // A client that stays with the old master, as one cut off with it would.
        let stale = try RedisLockStore(url: old.calm)
        let cell = InMemoryFencedStore<Int>()
        let held = Make.request("x", lease: .seconds(60))
        let first = try #require(try await stale.acquire(held).token)
        try await cell.write(1, fencedBy: first)
        // It hangs, so that what it gave is not known to the next one, and comes back.
        try self.forget(servers, except: old)
        old.pause()
        let new = try await self.successor(of: old, servers)
        var second: FencingToken?
        try await eventually("the client stays with the old master", within: .seconds(9)) {
            second = try? await client.acquire(Make.request("x", lease: .seconds(60), contention: .fail)).token
            return second != nil
        }
        old.resume()
        let later = try #require(second)
        #expect(later > first)
        try await cell.write(2, fencedBy: later)
        // Two believe that they hold the lock: that is what a failover does, and why there are tokens.
        let renewal = Renewal(key: held.key, lease: .seconds(60))
        #expect(try await stale.renew([renewal]) == [.renewed(revokeRequested: false)])
        await #expect(throws: LockError.self) { try await cell.write(3, fencedBy: first) }
        for round in 0..<20 {
            let name = try Resource("double/\(round)")
            let (theirs, ours) = (Make.request(name), Make.request(name))
            let before = try #require(try await stale.acquire(theirs).token)
            let after = try #require(try await client.acquire(ours).token, "round \(round)")
            #expect(after > before, "round \(round)")
            #expect(try new.execute("GET", "double/\(round)") == ours.id.secret, "round \(round)")
        }
        #expect(try await cell.read()?.value == 2)
        // Where the old master must have replicas, it grants nothing.
        try old.execute("CONFIG", "SET", "min-replicas-max-lag", "1")
        try old.execute("CONFIG", "SET", "min-replicas-to-write", "1")
        let refusal = await #expect(throws: LockError.self) { try await stale.acquire(Make.request("y")) }
        #expect(refusal?.message.contains("NOREPLICAS") == true, "\(refusal as Any)")
    }

    @Test
    func `R8 clients that ask all the time are back within a second of the switch`() async throws {
        let time = try await atBest(within: .seconds(1)) { try await self.timeUntilBack() }
        #expect(time < .seconds(1))
    }

    /// How long after a switch five of eight clients that ask all the time are served again.
    private func timeUntilBack() async throws -> Duration {
        let servers = try await RedisSentinelServers()
        let old = try #require(try servers.master())
        let back = Served()
        return try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<8 {
                let store = try RedisLockStore(url: servers.url + "?timeout=400ms")
                #expect(try await store.acquire(Make.request(try Resource("before/\(number)"))).token != nil)
                group.addTask {
                    // What was given just before is held for its lease, since the next master has it too.
                    for round in 0... {
                        let request = Make.request(try Resource("after/\(number)/\(round)"), contention: .fail)
                        let isDown = old.pid == nil
                        let isGranted = (try? await store.acquire(request).token) != nil
                        if isGranted, isDown {
                            back.append(number)
                            return
                        }
                        _ = try? await store.release(request.key)
                        try await Task.sleep(for: .milliseconds(5))
                    }
                }
            }
            old.kill()
            _ = try await self.successor(of: old, servers)
            let switched = ContinuousClock.now
            try await group.waitForAll()
            let times = back.all.map { switched.duration(to: $0.at) }.sorted()
            #expect(times.count == 8 && times[7] < .seconds(8), "\(times)")
            return try #require(times.dropFirst(4).first)
        }
    }

    @Test
    func `those who wait are served within two seconds of the promotion, each once`() async throws {
        let time = try await atBest(within: .seconds(2)) { try await self.timeUntilServed() }
        #expect(time < .seconds(2))
    }

    /// How long after a promotion three of five waiters are served.
    private func timeUntilServed() async throws -> Duration {
        let servers = try await RedisSentinelServers()
        let old = try #require(try servers.master())
        let holder = try RedisLockStore(url: servers.url + "?timeout=10s")
        #expect(try await holder.acquire(Make.request("x", lease: .seconds(60))).token != nil)
        let served = Served()
        var configuration = LockServiceConfiguration()
        configuration.outageLimit = .seconds(40)
        return try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<5 {
                let store = try RedisLockStore(url: servers.url)
                group.addTask { [configuration] in
                    try await withLockService(store: store, configuration: configuration) { locks in
                        try await locks.withLock("x", waitingAtMost: .seconds(40)) { _ in served.append(number) }
                    }
                }
                try await eventually("waiter \(number) does not wait") {
                    try old.execute("ZCARD", "hf:{x}:q") == "\(number + 1)"
                }
            }
            let new = try await self.failOver(servers)
            let promoted = ContinuousClock.now
            try await group.waitForAll()
            let times = served.all.map { promoted.duration(to: $0.at) }.sorted()
            #expect(times.count == 5 && times[4] < .seconds(8), "\(times)")
            #expect(Set(served.all.map(\.number)).count == 5)
            #expect(try new.execute("EXISTS", "x", "hf:{x}:q") == "0")
            return try #require(times.dropFirst(2).first)
        }
    }
}

/// Who was served when.
private final class Served: Sendable {
    private let list = Mutex<[(number: Int, at: ContinuousClock.Instant)]>([])

    init() {}

    var all: [(number: Int, at: ContinuousClock.Instant)] { self.list.withLock { $0 } }

    func append(_ number: Int) { self.list.withLock { $0.append((number, .now)) } }
}
