// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import HoldfastRedis
import HoldfastTesting
import Synchronization
import Testing

/// Handing over within one store: the answer to the release says who has the lock.
@Suite("Handing over within one store", .timeLimit(.minutes(5)))
struct HandOverTests {
    /// What a store says, with when it is said known to be over once the call that caused it is.
    private final class Log: Sendable {
        private let signals = Mutex<[StoreSignal]>([])
        private let subscription = Mutex<SignalSubscription?>(nil)

        init(of store: any LockStore) {
            self.subscription.withLock { $0 = store.subscribe { [weak self] in self?.append($0) } }
        }

        deinit { self.subscription.withLock { $0?.cancel() } }

        private func append(_ signal: StoreSignal) { self.signals.withLock { $0.append(signal) } }

        var all: [StoreSignal] { self.signals.withLock { $0 } }

        /// What was handed over, in order.
        var tokens: [(id: RequestID, token: FencingToken, since: ContinuousClock.Instant)] {
            self.all.compactMap {
                if case .handedOver(let id, let token, let since) = $0 { (id, token, since) } else { nil }
            }
        }
    }

    private func unasked(_ resource: Resource = "x", mode: LockMode = .exclusive) -> LockRequest {
        var request = Make.request(resource, mode: mode, lease: .seconds(60), acceptance: .seconds(5))
        request.acceptsUnasked = true
        return request
    }

    /// How often a server ran a command since the last reset.
    private func calls(_ command: String, _ server: RedisServer) throws -> Int {
        let lines = try server.execute("INFO", "commandstats").split(whereSeparator: \.isNewline)
        let line = lines.first { $0.hasPrefix("cmdstat_\(command):") }
        return line.flatMap { $0.firstMatch(of: /calls=(\d+)/) }.flatMap { Int($0.output.1) } ?? 0
    }

    @Test
    func `the next in line holds for its whole lease after one script and no message`() async throws {
        let server = try await RedisServer()
        let store = try RedisLockStore(url: server.calm)
        let (holder, waiter, last) = (Make.request("x"), self.unasked(), self.unasked())
        let token = try #require(try await store.acquire(holder).token)
        for request in [waiter, last] { #expect(try await store.acquire(request).place != nil) }
        let log = Log(of: store)
        try server.execute("CONFIG", "RESETSTAT")
        let before = ContinuousClock.now
        #expect(try await store.release(holder.key) == .released)
        let after = ContinuousClock.now
        #expect(try self.calls("evalsha", server) + self.calls("eval", server) == 2, "NOSCRIPT once, then the text")
        #expect(try self.calls("publish", server) == 0)
        let given = try #require(log.tokens.first)
        #expect(given.id == waiter.id && given.token > token)
        #expect(given.since >= before && given.since <= after)
        // Who is next hears when to look, as it would by message.
        #expect(log.all.last == .check(last.id, after: .seconds(5)))
        let holders = try await store.status(of: "x").holders
        #expect(holders.map(\.reference) == [waiter.id.reference] && holders.map(\.isAccepting) == [false])
        #expect(try #require(holders[0].remaining) > .seconds(50))
        // Whoever asks all the same is told the same.
        #expect(try await store.acquire(waiter).token == given.token)
        #expect(try await store.release(holder.key) == .alreadyLost)
        #expect(try await store.status(of: "x").holders.map(\.reference) == [waiter.id.reference])
        try server.execute("CONFIG", "RESETSTAT")
        #expect(try await store.release(waiter.key) == .released)
        #expect(try self.calls("evalsha", server) == 1)
        #expect(log.tokens.map(\.id) == [waiter.id, last.id])
        // Nobody waits any more.
        try server.execute("CONFIG", "RESETSTAT")
        #expect(try await store.release(last.key) == .released)
        #expect(try self.calls("evalsha", server) == 1 && self.calls("set", server) == 1)
        #expect(try await store.status(of: "x").isFree)
        #expect(try server.execute("EXISTS", "x", "hf:{x}:q", "hf:{x}:w") == "0")
    }

    @Test
    func `who waits by another store, or does not accept unasked, is told by message and accepts, in order`()
        async throws
    {
        let server = try await RedisServer()
        let (store, other) = (try RedisLockStore(url: server.calm), try RedisLockStore(url: server.calm))
        let holder = Make.request("x")
        let (own, foreign, asking, last) = (
            self.unasked(), self.unasked(), Make.request("x", acceptance: .seconds(30)), self.unasked()
        )
        var tokens = [try #require(try await store.acquire(holder).token)]
        for (request, its) in [(own, store), (foreign, other), (asking, store), (last, store)] {
            #expect(try await its.acquire(request).place != nil)
        }
        let (log, signals, own2) = (Log(of: store), Signals(of: other), Signals(of: store))
        #expect(try await store.release(holder.key) == .released)
        tokens.append(try #require(log.tokens.first { $0.id == own.id }?.token))
        // Who is next has its message though it waits elsewhere.
        #expect(await signals.first { $0 == .check(foreign.id, after: .seconds(5)) } != nil)
        #expect(try await store.release(own.key) == .released)
        #expect(await signals.first { $0 == .granted(foreign.id) } != nil)
        #expect(try await store.status(of: "x").holders.map(\.isAccepting) == [true])
        tokens.append(try #require(try await other.acquire(foreign).token))
        #expect(try await other.release(foreign.key) == .released)
        #expect(await own2.first { $0 == .granted(asking.id) } != nil)
        tokens.append(try #require(try await store.acquire(asking).token))
        // Whose grant it is does not matter, but who asks.
        #expect(try await other.release(asking.key) == .released)
        #expect(await own2.first { $0 == .granted(last.id) } != nil)
        tokens.append(try #require(try await store.acquire(last).token))
        #expect(log.tokens.map(\.id) == [own.id])
        #expect(zip(tokens, tokens.dropFirst()).allSatisfy { $0 < $1 })
    }

    @Test
    func `readers are let in together, own and foreign ones, and the writer behind them waits`() async throws {
        let server = try await RedisServer()
        let (store, other) = (try RedisLockStore(url: server.calm), try RedisLockStore(url: server.calm))
        let holder = Make.request("x")
        let readers = (0..<4).map { _ in self.unasked(mode: .shared) }
        let writer = self.unasked()
        #expect(try await store.acquire(holder).token != nil)
        for (number, reader) in readers.enumerated() {
            #expect(try await (number == 2 ? other : store).acquire(reader).place != nil)
        }
        #expect(try await store.acquire(writer).place?.position == 4)
        let (log, signals) = (Log(of: store), Signals(of: other))
        #expect(try await store.release(holder.key) == .released)
        #expect(log.tokens.map(\.id) == [readers[0].id, readers[1].id, readers[3].id])
        #expect(zip(log.tokens, log.tokens.dropFirst()).allSatisfy { $0.token < $1.token })
        #expect(log.all.last == .check(writer.id, after: .seconds(5)))
        #expect(await signals.first { $0 == .granted(readers[2].id) } != nil)
        let holders = try await store.status(of: "x").holders
        #expect(holders.map(\.reference) == readers.map(\.id.reference))
        #expect(holders.map(\.isAccepting) == [false, false, true, false])
        #expect(holders.filter { !$0.isAccepting }.allSatisfy { $0.remaining ?? .zero > .seconds(50) })
        for reader in readers { #expect(try await store.release(reader.key) == .released) }
        #expect(log.tokens.last?.id == writer.id)
        #expect(try await store.status(of: "x").holders.map(\.reference) == [writer.id.reference])
    }

    @Test
    func `permits are handed over within one store, one for one`() async throws {
        let server = try await RedisServer()
        let store = try RedisLockStore(url: server.calm)
        let held = (0..<2).map { _ in Make.request("p", mode: .permit(of: 2)) }
        let waiters = (0..<3).map { _ in self.unasked("p", mode: .permit(of: 2)) }
        for request in held { #expect(try await store.acquire(request).token != nil) }
        for request in waiters { #expect(try await store.acquire(request).place != nil) }
        let log = Log(of: store)
        #expect(try await store.release(held[0].key) == .released)
        #expect(log.tokens.map(\.id) == [waiters[0].id])
        #expect(try await store.release(waiters[0].key) == .released)
        #expect(try await store.release(held[1].key) == .released)
        #expect(log.tokens.map(\.id) == waiters.map(\.id))
        #expect(try await store.status(of: "p").holders.map(\.isAccepting) == [false, false])
    }

    @Test
    func `what vanishes after a hand-over makes the resource rest, as a holder does`() async throws {
        let server = try await RedisServer()
        let store = try RedisLockStore(url: server.calm)
        let holder = Make.request("x")
        var waiter = Make.request("x", lease: .milliseconds(300), lockDelay: .seconds(20))
        waiter.acceptsUnasked = true
        #expect(try await store.acquire(holder).token != nil)
        #expect(try await store.acquire(waiter).place != nil)
        #expect(try await store.release(holder.key) == .released)
        try await Task.sleep(for: .milliseconds(350))
        #expect(try await store.acquire(Make.request("x", contention: .fail)).isBusy)
        #expect(try await store.status(of: "x").restingFor != nil)
    }

    // MARK: - Lost answers

    /// Has a store connected, and the server know the scripts, so that the next release is one command.
    private func warm(_ store: any LockStore) async throws {
        let (holder, waiter) = (Make.request("warm"), self.unasked("warm"))
        try await eventually("no lock") { (try? await store.acquire(holder).token) ?? nil != nil }
        #expect(try await store.acquire(waiter).place != nil)
        for request in [holder, waiter] { #expect(try await store.release(request.key) == .released) }
    }

    @Test
    func `after a release whose answer was lost all who wait ask, and one of them is told that it holds`() async throws
    {
        let way = try await ProxiedServers(1)
        let store = try way.store(timeout: .seconds(1))
        let (holder, waiter, last) = (Make.request("x", lease: .seconds(60)), self.unasked(), self.unasked())
        try await self.warm(store)
        #expect(try await store.acquire(holder).token != nil)
        for request in [waiter, last] { #expect(try await store.acquire(request).place != nil) }
        let log = Log(of: store)
        way.proxies[0].dropReplies()
        await #expect(throws: LockError.self) { try await store.release(holder.key) }
        way.proxies[0].pass()
        #expect(log.tokens.isEmpty)
        for request in [waiter, last] {
            #expect(log.all.contains { if case .check(request.id, after: _) = $0 { true } else { false } })
        }
        try await eventually("not told") { (try? await store.acquire(waiter).token) ?? nil != nil }
        let holders = try await way.direct().status(of: "x").holders
        #expect(holders.map(\.reference) == [waiter.id.reference])
    }

    @Test
    func `a release that was sent twice hands over nothing by when it was sent`() async throws {
        let way = try await ProxiedServers(1)
        let store = try way.store(timeout: .seconds(5))
        let (holder, waiter) = (Make.request("x", lease: .seconds(60)), self.unasked())
        try await self.warm(store)
        #expect(try await store.acquire(holder).token != nil)
        #expect(try await store.acquire(waiter).place != nil)
        let log = Log(of: store)
        let before = try way.scripts()[0]
        way.proxies[0].dropReplies()
        async let reply = store.release(holder.key)
        try await eventually("it was not sent") { try way.scripts()[0] > before }
        way.proxies[0].cut()
        way.proxies[0].pass()
        #expect(try await reply == .released)
        #expect(log.tokens.isEmpty)
        #expect(log.all.contains { if case .check(waiter.id, after: _) = $0 { true } else { false } })
        #expect(try await store.acquire(waiter).token != nil)
    }

    @Test
    func `a service whose release was answered to nobody has its next waiter in soon`() async throws {
        let way = try await ProxiedServers(1)
        let store = try way.store(timeout: .milliseconds(500))
        try await self.warm(store)
        try await withLockService(store: store) { first in
            try await withLockService(store: store) { second in
                let lease = try await first.acquire("x", lease: .seconds(60))
                try await withThrowingTaskGroup(of: Void.self) { group in
                    group.addTask { try await second.withLock("x", lease: .seconds(60)) { _ in } }
                    try await eventually("nobody waits") { try await store.status(of: "x").waiters.count == 1 }
                    way.proxies[0].dropReplies()
                    _ = await lease.release()
                    way.proxies[0].pass()
                    let started = ContinuousClock.now
                    try await group.waitForAll()
                    #expect(started.duration(to: .now) < .seconds(10))
                }
            }
        }
    }

    // MARK: - With services

    @Test
    func `services that share a store take turns with two scripts each, and every token is new`() async throws {
        let server = try await RedisServer()
        let store = try RedisLockStore(url: server.calm)
        let tally = Tally()
        let (workers, rounds) = (6, 50)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<workers {
                group.addTask {
                    try await withLockService(store: store) { locks in
                        for _ in 0..<rounds {
                            try await locks.withLock("x") { lease in
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
        #expect(tally.value == workers * rounds && tally.refused == 0 && tally.overlaps == 0)
        let scripts = try self.calls("evalsha", server) + self.calls("eval", server)
        // Three for each turn before: to wait, to let go, and to accept.
        #expect(scripts < workers * rounds * 5 / 2, "\(scripts) scripts")
        #expect(try await store.status(of: "x").isFree)
    }

    @Test
    func `a waiter that is cancelled as it is handed the lock lets it go at once`() async throws {
        let server = try await RedisServer()
        let store = try RedisLockStore(url: server.calm)
        try await withLockService(store: store) { first in
            try await withLockService(store: store) { second in
                for round in 0..<120 {
                    let name = try Resource("c\(round % 4)")
                    let lease = try await first.acquire(name, lease: .seconds(60))
                    let waiter = Task { try await second.withLock(name, lease: .seconds(60)) { _ in } }
                    try await eventually("nobody waits") { try await store.status(of: name).waiters.count == 1 }
                    // Before it, after it, and in between.
                    switch round % 3 {
                    case 0:
                        waiter.cancel()
                        for _ in 0..<(round / 3) { await Task.yield() }
                        await lease.release()
                    case 1:
                        await lease.release()
                        waiter.cancel()
                    default:
                        async let released: Void = { _ = await lease.release() }()
                        for _ in 0..<(round / 3 * 7) { await Task.yield() }
                        waiter.cancel()
                        await released
                    }
                    _ = await waiter.result
                    #expect(try await store.status(of: name).isFree, "round \(round)")
                }
            }
        }
    }

    @Test
    func `a waiter whose time is up as it is handed the lock lets it go at once, or has it`() async throws {
        let server = try await RedisServer()
        let store = try RedisLockStore(url: server.calm)
        try await withLockService(store: store) { first in
            try await withLockService(store: store) { second in
                for round in 0..<40 {
                    let lease = try await first.acquire("x", lease: .seconds(60))
                    let limit = Duration.milliseconds(20)
                    async let outcome: Void = second.withLock("x", lease: .seconds(60), waitingAtMost: limit) { _ in }
                    try await Task.sleep(for: limit - .milliseconds(5) + .microseconds(250 * round))
                    await lease.release()
                    do { try await outcome } catch { #expect((error as? LockError)?.code == .timeout) }
                    #expect(try await store.status(of: "x").isFree, "round \(round)")
                }
            }
        }
    }

    // MARK: - Where others have a say

    @Test
    func `where replicas or other masters have a say, nobody is handed a lock unasked`() async throws {
        let master = try await RedisServer()
        let replica = try await RedisServer(arguments: ["--replicaof", "127.0.0.1 \(master.port)"])
        try await eventually("no replica") {
            try replica.execute("INFO", "replication").contains("master_link_status:up")
        }
        let way = try await ProxiedServers(3)
        let stores: [any LockStore] = [
            try RedisLockStore(url: master.url + "?replicas=1&timeout=10s"), try way.direct(),
        ]
        for store in stores {
            let waiter = self.unasked()
            var holder = Make.request("x", contention: .fail)
            try await eventually("no lock") {
                holder = Make.request("x", contention: .fail)
                return (try? await store.acquire(holder).token) != nil
            }
            #expect(try await store.acquire(waiter).place != nil)
            let (log, signals) = (Log(of: store), Signals(of: store))
            #expect(try await store.release(holder.key) == .released)
            #expect(
                await signals.first { signal in
                    switch signal {
                    case .granted(waiter.id), .check(waiter.id, after: _): true
                    case _: false
                    }
                } != nil
            )
            try await eventually("not granted") { try await store.acquire(waiter).token != nil }
            #expect(log.tokens.isEmpty)
        }
    }
}
