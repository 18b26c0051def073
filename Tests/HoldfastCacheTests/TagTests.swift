// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
import HoldfastTesting
import Testing

@Suite("Tags", .timeLimit(.minutes(5)))
struct TagTests {
    private static func tags(_ number: Int) -> CacheOptions {
        CacheOptions().with { $0.tags = ["\(number)/a", "\(number)/b", "\(number)/c"] }
    }

    @Test("each tag of an entry can be invalidated, also when room is made among tags while the entry comes in")
    func eachOfMany() throws {
        let cache = try CacheService().cache("test", of: Int.self, keyedBy: Int.self)
        // Three each, so that room is made between two tags of one entry.
        let count = 5000
        for number in 0..<count { try cache.set(number, for: number, options: Self.tags(number)) }
        for number in 0..<count { cache.invalidate(tag: "\(number)/\(["a", "b", "c"][number % 3])") }
        #expect((0..<count).filter { cache.contains($0) } == [])
    }

    @Test("tags of entries that are gone take no memory for ever, and each of those that are there can be invalidated")
    func bounded() throws {
        let capacity = 1000
        let cache = try CacheService().cache("test", of: Int.self, keyedBy: Int.self) {
            $0.capacity = .entries(capacity)
        }
        let count = 40_000
        var most = 0
        for number in 0..<count {
            try cache.set(number, for: number, options: Self.tags(number))
            // Some are invalidated while they are in use, and leave only when there is no more room.
            if number % 7 == 0 { cache.invalidate(tag: "\(number)/b") }
            most = max(most, cache.rememberedTags)
        }
        // Room is made when there are twice as many as were in use the last time.
        #expect(most <= 2 * 3 * (capacity + 1))
        let there = (0..<count).filter { cache.contains($0) }
        #expect(there.count > capacity / 2)
        for number in there { cache.invalidate(tag: "\(number)/\(["a", "b", "c"][number % 3])") }
        #expect(there.filter { cache.contains($0) } == [])
    }

    @Test("what callers no longer wait for is not stored when a tag of it was invalidated meanwhile")
    func softDeadline() async throws {
        let clock = ManualClock()
        let options = CacheOptions().with {
            $0.timeToLive = .seconds(10)
            $0.jitter = 0
            $0.staleIfError = .seconds(100)
            $0.softDeadline = .milliseconds(50)
        }
        try await withCache(clock: clock, options: options) { cache in
            let gate = Gate()
            try cache.set("stale", for: "k")
            clock.advance(by: .seconds(11))
            let caller = Task {
                try await cache.value(for: "k") { context in
                    context.tags = ["t"]
                    await gate.pass()
                    return "old"
                }
            }
            await gate.arrived()
            clock.advance(by: .milliseconds(50))
            let early = try await caller.value
            #expect(early == "stale")
            cache.invalidate(tag: "t")
            gate.open()
            #expect(await eventually { cache.statistics().loads == 1 })
            #expect(cache.statistics().supersededLoads == 1)
            #expect(cache.cached("k") == nil)
            let new = try await cache.value(for: "k") { "new" }
            #expect(new == "new")
        }
    }

    @Test("an invalidated entry of the longest life is not given again, however long its tag was invalidated ago")
    func marksOutliveEntries() async throws {
        let options = CacheOptions().with {
            $0.timeToLive = CacheLimits.longestLife
            $0.jitter = 0
        }
        try await withNodes(2, options: options, hasBus: false, hasLocks: false) { (shared, nodes) async throws in
            for key in ["tagged", "other"] {
                let value = try await nodes[0].cache.value(for: key) { context in
                    context.tags = [key]
                    return "v"
                }
                #expect(value == "v")
            }
            try await nodes[0].cache.invalidate(tag: "tagged")
            for days in [11, 18] {
                shared.clock.advance(by: .seconds(days * 24 * 60 * 60))
                // The process has nothing in memory.
                let tagged = try await nodes[1].cache.get("tagged")
                #expect(tagged == nil)
            }
            let other = try await nodes[1].cache.get("other")
            #expect(other == "v")
            let tier = await nodes[1].cache.explain("tagged").tier
            #expect(tier?.standing == .invalidated(.tag("tagged")))
        }
    }
}
