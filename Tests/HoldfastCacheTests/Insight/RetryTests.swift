// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCache
import HoldfastCore
import HoldfastTesting
import Synchronization
import Testing

@Suite("Repeating calls of a tier", .timeLimit(.minutes(5)))
struct RetryTests {
    /// Fails the first calls of each kind.
    private final class Flaky: CacheTier {
        let base: MemoryCacheTier
        let calls = Mutex<[String: Int]>([:])
        let failures: Mutex<Int>
        let onCall: @Sendable () -> Void
        var name: String { "flaky" }

        init(_ clock: ManualClock, failures: Int, onCall: @escaping @Sendable () -> Void = {}) {
            self.base = MemoryCacheTier(clock: clock)
            self.failures = Mutex(failures)
            self.onCall = onCall
        }

        private func pass<Answer>(_ kind: String, _ call: () async throws -> Answer) async throws -> Answer {
            self.onCall()
            let count = self.calls.withLock { calls in
                calls[kind, default: 0] += 1
                return calls[kind, default: 0]
            }
            guard count > self.failures.withLock({ $0 }) else { throw CacheError(.tierUnavailable, "flaky") }
            return try await call()
        }

        func run() async throws {}
        func read(_ keys: [String], in namespace: String) async throws -> TierReading {
            try await self.pass("read") { try await self.base.read(keys, in: namespace) }
        }
        func write(_ writes: [TierWrite], in namespace: String) async throws -> [TierWriteReply] {
            try await self.pass("write") { try await self.base.write(writes, in: namespace) }
        }
        func remove(_ keys: [String], in namespace: String, keepFor: Duration) async throws -> [UInt64] {
            try await self.pass("remove") { try await self.base.remove(keys, in: namespace, keepFor: keepFor) }
        }
        func invalidate(_ scope: InvalidationScope, in namespace: String, keepFor: Duration) async throws -> UInt64 {
            try await self.pass("invalidate") {
                try await self.base.invalidate(scope, in: namespace, keepFor: keepFor)
            }
        }
        func marks(of tags: [String], in namespace: String) async throws -> [UInt64] {
            try await self.pass("marks") { try await self.base.marks(of: tags, in: namespace) }
        }
        func keys(in namespace: String, prefix: String, after cursor: String?) async throws -> TierKeyPage {
            try await self.base.keys(in: namespace, prefix: prefix, after: cursor)
        }
    }

    private let clock = ManualClock()

    private func withTier(
        _ tier: Flaky,
        _ retries: RetryPolicy,
        _ body: (SharedCache<String, String>) async throws -> Void
    ) async throws {
        var configuration = CacheServiceConfiguration()
        configuration.tierRetries = retries
        let service = try CacheService(configuration: configuration, tier: tier, clock: self.clock)
        let cache = try service.sharedCache("test", of: String.self, keyedBy: String.self)
        try await withCacheService(service) { _ in try await body(cache) }
    }

    @Test("A read, a removal and an invalidation that fail once are made again, and nobody notices")
    func once() async throws {
        let tier = Flaky(self.clock, failures: 1)
        try await self.withTier(tier, RetryPolicy()) { cache in
            #expect(try await cache.get("a") == nil)
            try await cache.remove("a")
            try await cache.invalidate(tag: "t")
            #expect(tier.calls.withLock { $0 } == ["read": 2, "remove": 2, "invalidate": 2])
            #expect(cache.statistics().tierReadTimes.count == 2)
        }
    }

    @Test("A write is not made again unless the policy says so, since its first copy may have taken effect")
    func writes() async throws {
        var policy = RetryPolicy()
        try await self.withTier(Flaky(self.clock, failures: 1), policy) { cache in
            await #expect(throws: CacheError.self) { try await cache.set("v", for: "a") }
        }
        policy.writes = 1
        let tier = Flaky(self.clock, failures: 1)
        try await self.withTier(tier, policy) { cache in
            try await cache.set("v", for: "a")
            #expect(tier.calls.withLock { $0["write"] } == 2)
        }
    }

    @Test("Further repetitions come after pauses, and only so many")
    func pauses() async throws {
        var policy = RetryPolicy()
        policy.reads = 3
        policy.within = .seconds(60)
        let tier = Flaky(self.clock, failures: 100)
        try await self.withTier(tier, policy) { cache in
            let reader = Task { try await cache.get("a") }
            #expect(await eventually { tier.calls.withLock { $0["read"] } == 2 })
            for count in 3...4 {
                // Nothing happens before the shortest pause is over.
                self.clock.advance(by: .milliseconds(9))
                #expect(tier.calls.withLock { $0["read"] } == count - 1)
                var steps = 0
                while tier.calls.withLock({ $0["read"] }) != count, steps < 1000 {
                    self.clock.advance(by: .milliseconds(10))
                    try await Task.sleep(for: .milliseconds(1))
                    steps += 1
                }
            }
            await #expect(throws: CacheError.self) { try await reader.value }
            #expect(tier.calls.withLock { $0["read"] } == 4)
        }
    }

    @Test("A call that took long is not made again")
    func slow() async throws {
        let clock = self.clock
        let tier = Flaky(clock, failures: 1) { clock.advance(by: .seconds(1)) }
        try await self.withTier(tier, RetryPolicy()) { cache in
            await #expect(throws: CacheError.self) { try await cache.get("a") }
            #expect(tier.calls.withLock { $0["read"] } == 1)
        }
    }

    @Test("The breaker counts calls and not repetitions, and its trial is not repeated")
    func breaker() async throws {
        let tier = Flaky(self.clock, failures: 1000)
        try await self.withTier(tier, RetryPolicy()) { cache in
            for _ in 0..<3 { await #expect(throws: CacheError.self) { try await cache.get("a") } }
            #expect(tier.calls.withLock { $0["read"] } == 6)
            await #expect(throws: CacheError.self) { try await cache.get("a") }
            #expect(tier.calls.withLock { $0["read"] } == 6)
            self.clock.advance(by: .seconds(2))
            await #expect(throws: CacheError.self) { try await cache.get("a") }
            #expect(tier.calls.withLock { $0["read"] } == 7)
        }
    }

    @Test("A policy without sense is refused")
    func validation() throws {
        var configuration = CacheServiceConfiguration()
        configuration.tierRetries.reads = 11
        #expect(throws: CacheError.self) { try CacheService(configuration: configuration) }
        configuration.tierRetries = .never
        configuration.tierRetries.longestPause = .zero
        #expect(throws: CacheError.self) { try CacheService(configuration: configuration) }
    }
}
