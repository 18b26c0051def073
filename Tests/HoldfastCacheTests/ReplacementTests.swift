// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
import HoldfastTesting
import Testing

/// What a value that takes the place of another inherits from it: nothing.
@Suite("Replacements", .timeLimit(.minutes(5)))
struct ReplacementTests {
    private static let short = CacheOptions().with {
        $0.timeToLive = .seconds(10)
        $0.jitter = 0
    }

    private func cache(
        _ clock: ManualClock,
        _ configure: (inout CacheConfiguration<Int, Int>) -> Void = { _ in }
    ) throws -> Cache<Int, Int> {
        try CacheService(clock: clock).cache("test", of: Int.self, keyedBy: Int.self, configure: configure)
    }

    @Test("a value without an end may follow one that expires, and the reverse")
    func ends() throws {
        let clock = ManualClock()
        let cache = try self.cache(clock)
        try cache.set(1, for: 1, options: Self.short)
        try cache.set(2, for: 1)
        try cache.set(1, for: 2)
        try cache.set(2, for: 2, options: Self.short)
        clock.advance(by: .seconds(11))
        #expect(cache.cached(1) == 2)
        #expect(cache.cached(2) == nil)
    }

    @Test("tags are those of the last value")
    func tags() throws {
        let cache = try self.cache(ManualClock())
        let tagged = CacheOptions().with { $0.tags = ["a"] }
        try cache.set(1, for: 1, options: tagged)
        try cache.set(2, for: 1)
        try cache.set(1, for: 2)
        try cache.set(2, for: 2, options: tagged)
        try cache.set(3, for: 3, options: tagged.with { $0.tags = ["b"] })
        cache.invalidate(tag: "a")
        #expect(cache.cached(1) == 2)
        #expect(cache.cached(2) == nil)
        #expect(cache.cached(3) == 3)
    }

    @Test("a slot that is used again knows nothing of what was there before")
    func slots() throws {
        let clock = ManualClock()
        let cache = try self.cache(clock) { $0.shards = 1 }
        try cache.set(1, for: 1, options: Self.short.with { $0.tags = ["a"] })
        cache.remove(1)
        try cache.set(2, for: 2)
        cache.invalidate(tag: "a")
        clock.advance(by: .seconds(11))
        #expect(cache.cached(2) == 2)
        #expect(cache.statistics().count == 1)
    }

    @Test("who evicts by deadlines goes by the last one")
    func deadlines() throws {
        let cache = try self.cache(ManualClock()) {
            $0.capacity = .entries(2)
            $0.eviction = .expiry
        }
        try cache.set(1, for: 1, options: Self.short)
        try cache.set(2, for: 2, options: Self.short.with { $0.timeToLive = .seconds(20) })
        try cache.set(1, for: 1, options: Self.short.with { $0.timeToLive = .seconds(30) })
        try cache.set(3, for: 3, options: Self.short.with { $0.timeToLive = .seconds(40) })
        #expect(!cache.contains(2))
        #expect(cache.contains(1) && cache.contains(3))
    }

    @Test(
        "a write is a use, and one of another weight makes room",
        arguments: [Eviction.lru, .lfu, .s3fifo, .adaptive]
    )
    func weights(eviction: Eviction) throws {
        let cache = try self.cache(ManualClock()) {
            $0.capacity = .weight(100)
            $0.weigher = { _, value in value }
            $0.eviction = eviction
        }
        for key in 1...4 { try cache.set(25, for: key) }
        for _ in 0..<40 { try cache.set(25, for: 1) }
        #expect(cache.statistics().weight == 100)
        try cache.set(50, for: 1)
        #expect(cache.contains(1))
        #expect(cache.statistics().weight <= 100)
        #expect((1...4).count { cache.contains($0) } == 3)
    }

    @Test("the replaced value is told of, once, and the one that stays is not")
    func removals() throws {
        let told = Counter()
        let cache = try self.cache(ManualClock()) {
            $0.onRemoval = { _, value, cause in
                if cause == .replaced, value == 1 { told.next() }
            }
        }
        try cache.set(1, for: 1)
        try cache.set(2, for: 1)
        #expect(told.value == 1)
    }
}
