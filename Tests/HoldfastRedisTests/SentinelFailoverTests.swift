// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import HoldfastRedis
import HoldfastTesting
import Synchronization
import Testing

/// Failovers to a replica that had not got what the master knew: real servers.
@Suite("Failovers that forget", .timeLimit(.minutes(3)), .serialized)
struct SentinelFailoverTests {
    /// Has the replicas forget everything, the master die, and another take over.
    private func failOver(_ servers: RedisSentinelServers) async throws -> RedisServer {
        let old = try #require(try servers.master())
        for replica in servers.servers where replica.port != old.port {
            try replica.execute("CONFIG", "SET", "replica-read-only", "no")
            try replica.execute("FLUSHALL")
        }
        old.kill()
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
        let (a, b) = try (RedisLockStore(url: servers.url), RedisLockStore(url: servers.url))
        let old = try #require(try servers.master())
        for name in ["x", "y", "up"] { try self.setAhead(name, on: old) }
        let held = Make.request("x", lease: .seconds(60))
        let waiter = Make.request("x", lease: .seconds(60))
        let token = try #require(try await a.acquire(held).token)
        // This one only ever saw the token of who was in its way.
        #expect(try await b.acquire(waiter).place?.blockers.first?.fencingToken == token)
        let new = try await self.failOver(servers)
        // Somebody who knows nothing of before comes first.
        let stranger = try RedisLockStore(url: new.url)
        let first = Make.request("x", lease: .seconds(60))
        #expect(try #require(try await stranger.acquire(first).token) < token, "the counter went back")
        try await eventually("it does not wait") { (try? await b.acquire(waiter).place) != nil }
        let again = Make.request("x", lease: .seconds(60))
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
        let newcomer = Make.request("y", lease: .seconds(60))
        #expect(try await stranger.acquire(newcomer).place != nil)
        try new.execute("DEL", "hf:{y}:h")
        #expect(try await a.release(last.key) == .released)
        #expect(try #require(try await stranger.acquire(newcomer).token) > floor)
    }

    @Test
    func `a renewal, an upgrade and what comes after them keep above the tokens that were seen`() async throws {
        let servers = try await RedisSentinelServers()
        let store = try RedisLockStore(url: servers.url)
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
        let stranger = try RedisLockStore(url: new.url)
        #expect(try #require(try await stranger.acquire(Make.request("x")).token) > (try #require(given)))
    }

    @Test
    func `those who wait are served within two seconds of the promotion, each once`() async throws {
        let servers = try await RedisSentinelServers()
        let old = try #require(try servers.master())
        let holder = try RedisLockStore(url: servers.url)
        #expect(try await holder.acquire(Make.request("x", lease: .seconds(60))).token != nil)
        let served = Served()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<5 {
                let store = try RedisLockStore(url: servers.url)
                group.addTask {
                    try await withLockService(store: store) { locks in
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
            let times = served.all.map { promoted.duration(to: $0.at) }
            #expect(times.allSatisfy { $0 < .seconds(2) }, "\(times)")
            #expect(Set(served.all.map(\.number)).count == 5)
            #expect(try new.execute("EXISTS", "x", "hf:{x}:q") == "0")
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
