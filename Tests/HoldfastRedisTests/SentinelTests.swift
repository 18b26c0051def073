// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import HoldfastRedis
import HoldfastTesting
import Synchronization
import Testing

/// Behind Sentinel: real servers, real failovers.
@Suite("Sentinel", .timeLimit(.minutes(5)), .serialized)
struct SentinelTests {
    private func eventually(_ what: Comment, within limit: Duration, _ holds: () async throws -> Bool) async throws {
        let end = ContinuousClock.now.advanced(by: limit)
        while ContinuousClock.now < end {
            if try await holds() { return }
            try await Task.sleep(for: .milliseconds(10))
        }
        Issue.record(what)
    }

    /// Waits until another server is the master for the Sentinels.
    private func failover(from old: RedisServer, _ servers: RedisSentinelServers) async throws -> RedisServer {
        var new: RedisServer?
        try await self.eventually("no failover", within: .seconds(20)) {
            new = try servers.master()
            return new != nil && new?.port != old.port
        }
        return try #require(new)
    }

    // MARK: - Pure

    @Test
    func `who knows of most failovers is believed, once most have answered`() {
        let old = MasterReport(address: RedisAddress(host: "a", port: 1), epoch: 1)
        let new = MasterReport(address: RedisAddress(host: "b", port: 2), epoch: 2)
        #expect(MasterReport.choice([.some(old), nil, nil]) == nil)
        #expect(MasterReport.choice([.some(old), .some(new), nil]) == .some(new))
        #expect(MasterReport.choice([.some(old), .some(nil), nil]) == nil)
        #expect(MasterReport.choice([.some(old), .some(nil), .some(nil)]) == .some(old))
        #expect(MasterReport.choice([.some(nil), .some(nil), .some(nil)]) == .some(nil))
    }

    @Test
    func `in the moment of a switch the announced master is believed`() {
        let old = MasterReport(address: RedisAddress(host: "a", port: 1), epoch: 1)
        let new = MasterReport(address: RedisAddress(host: "b", port: 2), epoch: 1)
        let newer = MasterReport(address: RedisAddress(host: "c", port: 3), epoch: 2)
        #expect(MasterReport.choice([.some(old), .some(old), nil], new.address) == nil, "the announcer was not heard")
        #expect(MasterReport.choice([.some(old), .some(old), .some(new)], new.address) == .some(new))
        #expect(MasterReport.choice([.some(new), .some(newer), .some(newer)], new.address) == .some(newer))
    }

    @Test
    func `who heard no announcement asks all that disagree, and believes who names another than before, or most`() {
        let before = MasterReport(address: RedisAddress(host: "a", port: 1), epoch: 1)
        let old = MasterReport(address: RedisAddress(host: "a", port: 1), epoch: 2)
        let new = MasterReport(address: RedisAddress(host: "b", port: 2), epoch: 2)
        #expect(MasterReport.choice([.some(old), .some(new), nil]) == nil)
        #expect(MasterReport.choice([.some(old), .some(new), .some(new)]) == .some(new))
        #expect(MasterReport.choice([.some(old), .some(before), .some(new)]) == .some(new))
        #expect(MasterReport.choice([.some(new), .some(new), nil]) == .some(new))
    }

    @Test
    func `a new token is above all that was seen, an accepted one above what was seen by the time it came to wait`() {
        var seen = SeenTokens()
        let (id, other) = (Make.request("x").id, Make.request("x").id)
        seen.saw(FencingToken(rawValue: 10))
        let asked = seen.floor(of: id)
        #expect(asked.new == 11 && asked.accepted == 11)
        let holder = Holder(
            reference: "12345678",
            owner: nil,
            mode: .exclusive,
            fencingToken: FencingToken(rawValue: 20),
            heldFor: nil,
            remaining: nil
        )
        seen.saw(.waiting(AcquireReply.Waiting(position: 0, checkAfter: .zero, blockers: [holder])), to: id, asked)
        seen.saw(.granted(FencingToken(rawValue: 30)), to: other, seen.floor(of: other))
        #expect(seen.floor(of: id).new == 31 && seen.floor(of: id).accepted == 21)
        #expect(seen.floor == 31)
        seen.forget(id)
        #expect(seen.count == 0 && seen.floor(of: id).accepted == 31)
    }

    @Test
    func `a URL names Sentinels and their master`() throws {
        let url = "redis+sentinel://u:p@a,b:7000,[::1]/main/2?prefix=lk:&replicas=1&sentinel-password=s%40"
        let configuration = try RedisConfiguration(url: url)
        let sentinels = try #require(configuration.sentinels)
        #expect(sentinels.addresses.map(\.description) == ["a:26379", "b:7000", "[::1]:26379"])
        #expect(sentinels.name == "main" && sentinels.password == "s@")
        #expect(configuration.database == 2 && configuration.replicas == 1 && configuration.password == "p")
        #expect(configuration.description == "redis+sentinel://a:26379,b:7000,[::1]:26379/main")
        #expect(try RedisConfiguration(url: "rediss+sentinel://a/main").tls != nil)
    }

    @Test(arguments: [
        "redis+sentinel://a,b", "redis+sentinel://a/", "redis+sentinel://a/main/x", "redis+sentinel://a:x/main",
        "redis+sentinel://a/main?replicas=many", "redis+sentinel://a/main?lone-master=no",
        "redis://a?lone-master=refuse", "redis://a?sentinel-password=canary", "redis+sentinel://a/m/1/2",
    ])
    func `what makes no sense is refused`(url: String) {
        let error = #expect(throws: LockError.self) { try RedisConfiguration(url: url) }
        #expect(error?.code == .invalidArgument)
        #expect(error?.message.contains("canary") == false)
    }

    @Test
    func `no Sentinel is an error that says so`() async throws {
        let store = try RedisLockStore(url: "redis+sentinel://127.0.0.1:1/main?timeout=300ms")
        let error = await #expect(throws: LockError.self) { try await store.acquire(Make.request("x")) }
        #expect(error?.code == .storeUnavailable)
    }

    @Test
    func `a master that would write on without its replicas is refused where that is asked for`() async throws {
        let servers = try await RedisSentinelServers()
        let master = servers.servers[0]
        let store = try RedisLockStore(url: "\(servers.url)?lone-master=refuse")
        let error = await #expect(throws: LockError.self) { try await store.acquire(Make.request("x")) }
        #expect(error?.code == .storeRefused)
        #expect(error?.message.contains("min-replicas-to-write") == true)
        let findings = try await RedisLockStore(url: servers.url).diagnose()
        #expect(findings.first { $0.name == "min-replicas-to-write" }?.severity == .warning)
        _ = try master.execute("CONFIG", "SET", "min-replicas-to-write", "1")
        let guarded = try RedisLockStore(url: "\(servers.url)?lone-master=refuse")
        let reply = try await guarded.acquire(Make.request("x"))
        #expect(reply.token != nil)
        withExtendedLifetime(servers) {}
    }

    // MARK: - Failovers

    @Test
    func `a master that dies: the replicated lock is kept, and everybody goes on with the next (redisson 4822)`()
        async throws
    {
        let servers = try await RedisSentinelServers()
        let calm = servers.url + "?timeout=10s"
        let (a, b) = try (RedisLockStore(url: calm), RedisLockStore(url: calm))
        let held = Make.request("held", lease: .seconds(60))
        let token = try #require(try await a.acquire(held).token)
        let waiter = Make.request("held", lease: .seconds(60))
        #expect(try await b.acquire(waiter).place != nil)
        let old = try #require(try servers.master())
        try await Task.sleep(for: .milliseconds(100))
        old.kill()
        _ = try await self.failover(from: old, servers)
        // Within 2 s of the promotion every client can lock again, and a busy machine may take as much.
        for store in [a, b] {
            try await self.eventually("it does not go on", within: .seconds(4)) {
                let request = Make.request("other", contention: .fail)
                guard (try? await store.acquire(request).token) != nil else { return false }
                _ = try? await store.release(request.key)
                return true
            }
        }
        #expect(try await a.renew([Renewal(key: held.key, lease: .seconds(60))]) == [.renewed(revokeRequested: false)])
        #expect(try await a.release(held.key) == .released)
        // The waiter's place came along, and it was told or asks by itself.
        try await self.eventually("the waiter waits for ever", within: .seconds(5)) {
            guard let next = try? await b.acquire(waiter).token else { return false }
            #expect(next > token)
            return true
        }
    }

    @Test
    func `a failover that loses the key: the holder is told at the next renewal, and tokens go on`() async throws {
        let servers = try await RedisSentinelServers()
        let store = try RedisLockStore(url: servers.url + "?timeout=10s")
        let old = try #require(try servers.master())
        let first = Make.request("x", lease: .seconds(60))
        _ = try #require(try await store.acquire(first).token)
        _ = try await store.release(first.key)
        try await Task.sleep(for: .milliseconds(100))
        let held = Make.request("x", lease: .seconds(60))
        let token = try #require(try await store.acquire(held).token)
        // What the master had not yet passed on.
        for replica in servers.servers where replica.port != old.port {
            try replica.execute("CONFIG", "SET", "replica-read-only", "no")
            try replica.execute("FLUSHALL")
        }
        old.kill()
        _ = try await self.failover(from: old, servers)
        var reply: [RenewReply]?
        try await self.eventually("no answer", within: .seconds(15)) {
            reply = try? await store.renew([Renewal(key: held.key, lease: .seconds(60))])
            return reply != nil
        }
        #expect(reply == [.lost(.expired)])
        #expect(try #require(try await store.acquire(Make.request("x")).token) > token)
    }

    @Test
    func `R10 a stale master is left within a second of the switch`() async throws {
        let time = try await atBest(within: .seconds(1)) { try await self.timeUntilLeft() }
        #expect(time < .seconds(1))
    }

    /// How long a client stays with a master that comes back when there is another.
    private func timeUntilLeft() async throws -> Duration {
        let servers = try await RedisSentinelServers()
        let store = try RedisLockStore(url: servers.url + "?timeout=5s")
        let old = try #require(try servers.master())
        let request = Make.request("x")
        _ = try #require(try await store.acquire(request).token)
        _ = try await store.release(request.key)
        // It hangs, is replaced, and comes back believing that it is the master still.
        old.pause()
        let new = try await self.failover(from: old, servers)
        old.resume()
        let start = ContinuousClock.now
        try await self.eventually("it stays with the old one", within: .seconds(10)) {
            let next = Make.request("y")
            guard (try? await store.acquire(next).token) != nil else { return false }
            defer { Task { _ = try? await store.release(next.key) } }
            return try new.execute("EXISTS", "y") == "1"
        }
        let time = start.duration(to: .now)
        for number in 0..<20 {
            let name = try Resource("after/\(number)")
            let next = Make.request(name)
            #expect(try await store.acquire(next).token != nil)
            #expect(try new.execute("EXISTS", "after/\(number)") == "1", "grant \(number) is on the stale master")
            #expect(try await store.release(next.key) == .released)
        }
        return time
    }

    @Test
    func `a grant that too few replicas have is given back`() async throws {
        let servers = try await RedisSentinelServers()
        let store = try RedisLockStore(url: servers.url + "?replicas=2&replica-timeout=200ms&timeout=3s")
        let request = Make.request("x")
        _ = try #require(try await store.acquire(request).token)
        #expect(try await store.release(request.key) == .released)
        let master = try #require(try servers.master())
        let replica = try #require(servers.servers.first { $0.port != master.port })
        replica.pause()
        defer { replica.resume() }
        let next = Make.request("x")
        let error = await #expect(throws: LockError.self) { try await store.acquire(next) }
        #expect(error?.code == .storeUnavailable && error?.message.contains("1 of 2 replicas") == true)
        #expect(try master.execute("EXISTS", "x") == "0")
        replica.resume()
        try await self.eventually("it does not go on", within: .seconds(5)) {
            (try? await store.acquire(Make.request("x", contention: .fail)).token) != nil
        }
    }

    @Test
    func `services that contend through failovers lose no update that the fence lets through`() async throws {
        let servers = try await RedisSentinelServers()
        let cell = FencedCell()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<3 {
                let store = try RedisLockStore(url: servers.url)
                group.addTask {
                    try await withLockService(store: store) { locks in
                        let end = ContinuousClock.now.advanced(by: .seconds(10))
                        while ContinuousClock.now < end {
                            // What a failover takes from a holder is an error for that holder, and no more.
                            _ = try? await locks.withLock("cell", lease: .seconds(2), waitingAtMost: .seconds(8)) {
                                lease in
                                let value = try cell.read(lease.fencingToken)
                                await Task.yield()
                                try cell.write(value + 1, lease.fencingToken)
                            }
                        }
                    }
                }
            }
            group.addTask {
                try await Task.sleep(for: .seconds(2))
                let old = try #require(try servers.master())
                old.kill()
                let new = try await self.failover(from: old, servers)
                cell.markSwitch()
                #expect(new.port != old.port)
            }
            try await group.waitForAll()
        }
        #expect(cell.value == cell.written, "updates were lost")
        #expect(cell.repeated == 0, "a token was given twice")
        #expect(cell.sinceSwitch > 0, "nobody goes on after the failover")
    }
}

/// A value that is read, and written later, and refuses who shows a token below the highest that it saw.
///
/// Keeps all updates only if each grant has a token of its own that is above all before.
private final class FencedCell: Sendable {
    private struct State {
        var value = 0
        var written = 0
        var last = FencingToken.zero
        var repeated = 0
        var mark: Int?
    }

    private let state = Mutex(State())

    var value: Int { self.state.withLock { $0.value } }
    /// How many writes were let through.
    var written: Int { self.state.withLock { $0.written } }
    /// How many came with a token that had been read with before.
    var repeated: Int { self.state.withLock { $0.repeated } }
    var sinceSwitch: Int { self.state.withLock { state in state.mark.map { state.value - $0 } ?? 0 } }

    func markSwitch() { self.state.withLock { $0.mark = $0.value } }

    func read(_ token: FencingToken) throws -> Int {
        try self.state.withLock { state in
            if token == state.last { state.repeated += 1 }
            guard token >= state.last else { throw LockError(.lost, "refused") }
            state.last = token
            return state.value
        }
    }

    func write(_ value: Int, _ token: FencingToken) throws {
        try self.state.withLock { state in
            guard token >= state.last else { throw LockError(.lost, "refused") }
            state.value = value
            state.written += 1
        }
    }
}
