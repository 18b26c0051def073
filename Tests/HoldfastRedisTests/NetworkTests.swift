// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import HoldfastRedis
import HoldfastTesting
import Synchronization
import Testing

/// A majority of three behind a network that is cut, slow, or loses what it carries.
@Suite("A majority behind a bad network", .timeLimit(.minutes(5)), .serialized)
struct NetworkTests {
    /// One way of being slow, and a lease.
    struct Slowness: Sendable, CustomTestStringConvertible {
        let delay: ClosedRange<Int>
        let lease: Duration
        /// Whether answers come too late for the lease now and then.
        let isTight: Bool

        var testDescription: String { "\(self.delay) ms each way, a lease of \(self.lease)" }
    }

    /// Makes sure that connections are there and scripts known.
    private func warm(_ locks: LockService, _ way: ProxiedServers) async throws {
        try await eventually("no connections") {
            guard let lease = try? await locks.tryAcquire("warm") else { return false }
            let isEverywhere = try way.servers.allSatisfy { try $0.execute("EXISTS", "warm") == "1" }
            await lease.release()
            return isEverywhere
        }
    }

    // MARK: - Cut off

    @Test
    func `N1 holders cut off from all servers are told before their deadlines, and nobody is let in until then`()
        async throws
    {
        let bar = Duration.milliseconds(100)
        let late = try await atBest(within: bar) { try await self.lateness() }
        #expect(late < bar)
    }

    /// How long after their deadlines twenty holders are told that they were cut off.
    private func lateness() async throws -> Duration {
        let way = try await ProxiedServers(3)
        let other = try way.direct()
        return try await withLockService(store: try way.store(timeout: .milliseconds(500))) { locks in
            try await self.warm(locks, way)
            var leases: [Lease] = []
            for number in 0..<20 {
                leases.append(try await locks.acquire(try Resource("cut/\(number)"), lease: .seconds(2)))
            }
            for proxy in way.proxies { proxy.hold() }
            let late = try await withThrowingTaskGroup(of: Duration.self) { group in
                for lease in leases {
                    group.addTask {
                        var told: ContinuousClock.Instant?
                        for await event in lease.events {
                            guard case .lost = event else { continue }
                            told = .now
                            break
                        }
                        let end = lease.validUntil
                        #expect(throws: LockError.self) { try lease.checkValid() }
                        return end.duration(to: try #require(told))
                    }
                    group.addTask {
                        try await eventually("it is never free") {
                            try await Task.sleep(for: .milliseconds(20))
                            let request = Make.request(lease.resource, contention: .fail)
                            return (try? await other.acquire(request).token) != nil
                        }
                        #expect(ContinuousClock.now >= lease.validUntil, "two believe that they hold it")
                        return .zero
                    }
                }
                return try await group.reduce(.zero) { max($0, $1) }
            }
            for proxy in way.proxies { proxy.pass() }
            return late
        }
    }

    // MARK: - Slow

    @Test(arguments: [
        Slowness(delay: 50...150, lease: .milliseconds(200), isTight: true),
        Slowness(delay: 50...150, lease: .seconds(2), isTight: false),
        Slowness(delay: 300...700, lease: .milliseconds(950), isTight: true),
        Slowness(delay: 300...700, lease: .seconds(6), isTight: false),
    ])
    func `N2 over slow links nothing is granted whose validity was used up`(how: Slowness) async throws {
        let way = try await ProxiedServers(3)
        let outcome = Outcome()
        try await withLockService(store: try way.store(timeout: .seconds(4))) { locks in
            try await self.warm(locks, way)
            for proxy in way.proxies {
                proxy.slow(by: .milliseconds(how.delay.lowerBound) ... .milliseconds(how.delay.upperBound))
            }
            try await withThrowingTaskGroup(of: Void.self) { group in
                for task in 0..<20 {
                    group.addTask {
                        for round in 0..<2 {
                            let name = try Resource("slow/\(task)/\(round)")
                            let asked = ContinuousClock.now
                            // An error says that it was too late for a majority to know the token.
                            let lease = try? await locks.tryAcquire(name, lease: how.lease)
                            let now = ContinuousClock.now
                            guard let lease else {
                                outcome.count(isGranted: false)
                                continue
                            }
                            outcome.count(isGranted: true)
                            let end = asked.advanced(by: how.lease)
                            #expect(now < end && lease.validUntil <= end, "\(name) was used up")
                            await lease.release()
                        }
                    }
                }
                try await group.waitForAll()
            }
            for proxy in way.proxies { proxy.pass() }
        }
        let (granted, late) = (outcome.granted, outcome.late)
        #expect(how.isTight ? late > 0 : granted >= 38, "\(granted) granted, \(late) too late")
        try await eventually("something is left") {
            try way.servers.allSatisfy { try $0.execute("EVAL", "return #redis.call('KEYS','slow/*')", "0") == "0" }
        }
    }

    @Test
    func `services that contend over slow links never overlap`() async throws {
        let (counter, waits) = try await self.contend(rounds: 5, limit: .seconds(20)) { way in
            for proxy in way.proxies { proxy.slow(by: .milliseconds(50) ... .milliseconds(150)) }
        }
        #expect(counter.overlaps == 0 && counter.refused == 0)
        #expect(counter.value == waits.granted && waits.granted >= 15)
    }

    // MARK: - Lossy

    @Test(arguments: [0.05, 0.2])
    func `N3 where pieces are lost and sent again nobody overlaps, and nearly all are granted in time`(
        loss: Double
    ) async throws {
        let (counter, waits) = try await self.contend(rounds: 10, limit: .seconds(20), rest: 200) { way in
            for proxy in way.proxies { proxy.slow(by: .zero ... .milliseconds(1), losing: loss) }
        }
        #expect(counter.overlaps == 0 && counter.refused == 0)
        #expect(counter.value == waits.granted)
        #expect(waits.granted >= 29, "\(waits.granted) of 30 were granted in time: \(waits.reasons)")
    }

    @Test
    func `N5 where connections are reset nobody overlaps, and nearly all are granted in time`() async throws {
        let chaos = Chaos()
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                while !chaos.isOver {
                    chaos.cut()
                    try await Task.sleep(for: .milliseconds(Int.random(in: 2...20)))
                }
            }
            let (counter, waits) = try await self.contend(rounds: 100, limit: .seconds(10)) { way in
                chaos.join(way)
            }
            chaos.end()
            #expect(counter.overlaps == 0 && counter.refused == 0)
            #expect(counter.value == waits.granted)
            #expect(waits.granted >= 285, "\(waits.granted) of 300 were granted in time: \(waits.reasons)")
            try await group.waitForAll()
        }
    }

    /// Three services, each on a way of its own, count under one lock.
    private func contend(
        rounds: Int,
        limit: Duration,
        rest: Int = 0,
        _ spoil: @escaping @Sendable (ProxiedServers) -> Void
    ) async throws -> (Tally, Outcome) {
        let servers = try await ProxiedServers(3)
        let counter = Tally()
        let outcome = Outcome()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<3 {
                let way = try ProxiedServers(beside: servers)
                let store = try way.store(timeout: .seconds(2))
                group.addTask {
                    try await withLockService(store: store) { locks in
                        try await self.warm(locks, way)
                        spoil(way)
                        for _ in 0..<rounds {
                            // Others get a turn: there is no order on a majority.
                            if rest > 0 { try await Task.sleep(for: .milliseconds(Int.random(in: 0...rest))) }
                            do {
                                try await locks.withLock("counter", lease: .seconds(10), waitingAtMost: limit) {
                                    lease in
                                    let value = counter.enter()
                                    await Task.yield()
                                    counter.leave(writing: value + 1, lease.fencingToken)
                                }
                                outcome.count(isGranted: true)
                            } catch let error as LockError where [.timeout, .storeUnavailable].contains(error.code) {
                                outcome.count(isGranted: false, error)
                            }
                        }
                        for proxy in way.proxies { proxy.pass() }
                    }
                }
            }
            try await group.waitForAll()
        }
        return (counter, outcome)
    }
}

/// How many were granted, and how many too late.
private final class Outcome: Sendable {
    private let counts = Mutex((granted: 0, late: 0))
    private let errors = Mutex<[LockError]>([])

    init() {}

    var granted: Int { self.counts.withLock { $0.granted } }
    var late: Int { self.counts.withLock { $0.late } }

    /// Why some were too late.
    var reasons: [LockError] { self.errors.withLock { $0 } }

    func count(isGranted: Bool, _ error: LockError? = nil) {
        if let error { self.errors.withLock { $0.append(error) } }
        self.counts.withLock { if isGranted { $0.granted += 1 } else { $0.late += 1 } }
    }
}

/// Cuts connections, one way after the other.
private final class Chaos: Sendable {
    private let state = Mutex((ways: [ProxiedServers](), isOver: false))

    init() {}

    var isOver: Bool { self.state.withLock { $0.isOver } }

    func join(_ way: ProxiedServers) { self.state.withLock { $0.ways.append(way) } }
    func end() { self.state.withLock { $0.isOver = true } }
    func cut() { self.state.withLock { $0.ways }.randomElement()?.proxies.randomElement()?.cut() }
}
