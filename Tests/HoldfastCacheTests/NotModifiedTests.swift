// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
import HoldfastCore
import HoldfastTesting
import Testing

@Suite("Values that are still right", .timeLimit(.minutes(5)))
struct NotModifiedTests {
    /// Options of calls: what the first loader says is something else.
    private static let options = CacheOptions().with {
        $0.timeToLive = .seconds(10)
        $0.staleIfError = .seconds(1000)
        $0.jitter = 0
    }

    /// Loads a value that lives 100 s, with a tag and an entity tag.
    private static func first(_ context: LoadContext<String>) -> String {
        context.timeToLive = .seconds(100)
        context.tags.insert("site/1")
        context.entityTag = "e1"
        return "body"
    }

    @Test("keep their tags, their entity tag and the life they were given, as often as that is said")
    func keeps() async throws {
        let clock = ManualClock()
        try await withCache(clock: clock, options: Self.options) { cache in
            _ = try await cache.value(for: "k") { context in Self.first(context) }
            for round in 1...3 {
                clock.advance(by: .seconds(101))
                #expect(!cache.contains("k"))
                let options = Self.options.with { $0.tags = ["call/\(round)"] }
                let seen = Kept<String>()
                let same = try await cache.value(for: "k", options: options) { context in
                    let value = try context.notModified()
                    for tag in context.tags.sorted() { seen.add(tag) }
                    seen.add(context.entityTag ?? "none")
                    seen.add(context.timeToLive?.brief ?? "none")
                    return value
                }
                #expect(same == "body")
                #expect(Array(seen.all.suffix(4)) == ["call/\(round)", "site/1", "e1", Duration.seconds(100).brief])
                clock.advance(by: .seconds(99))
                #expect(cache.contains("k"))
            }
            #expect(cache.explain("k").entry?.tags == ["call/1", "call/2", "call/3", "site/1"])
            #expect(cache.explain("k").entry?.entityTag == "e1")
            cache.invalidate(tag: "site/1")
            #expect(cache.cached("k") == nil)
        }
    }

    @Test("have of what the loader said before what he said, and of the rest what they had")
    func loaderWins() async throws {
        let clock = ManualClock()
        try await withCache(clock: clock, options: Self.options) { cache in
            _ = try await cache.value(for: "k") { context in Self.first(context) }
            clock.advance(by: .seconds(101))
            _ = try await cache.value(for: "k") { context in
                context.timeToLive = .seconds(10)
                context.tags = ["site/2"]
                return try context.notModified()
            }
            #expect(cache.explain("k").entry?.tags == ["site/2"])
            #expect(cache.explain("k").entry?.entityTag == "e1")
            #expect(cache.explain("k").entry?.freshFor == .seconds(10))
            clock.advance(by: .seconds(11))
            _ = try await cache.value(for: "k") { context in
                context.entityTag = "e2"
                let value = try context.notModified()
                // What is said afterwards is said of what there is.
                context.tags.insert("site/3")
                context.timeToLive = .seconds(20)
                return value
            }
            #expect(cache.explain("k").entry?.tags == ["site/2", "site/3"])
            #expect(cache.explain("k").entry?.entityTag == "e2")
            #expect(cache.explain("k").entry?.freshFor == .seconds(20))
            clock.advance(by: .seconds(21))
            // Of options that are set at once, tags that differ are said.
            _ = try await cache.value(for: "k") { context in
                context.options.timeToLive = .seconds(10)
                return try context.notModified()
            }
            #expect(cache.explain("k").entry?.tags == ["site/2", "site/3"])
            #expect(cache.explain("k").entry?.freshFor == .seconds(10))
        }
    }

    @Test("get the life they were given also after it was ended by hand, and no jitter twice")
    func endedByHand() async throws {
        let clock = ManualClock()
        try await withCache(clock: clock, options: Self.options.with { $0.jitter = 0.5 }) { cache in
            _ = try await cache.value(for: "k") { context in Self.first(context) }
            let given = try #require(cache.explain("k").entry?.freshFor)
            for _ in 1...3 {
                clock.advance(by: .seconds(1))
                cache.expire("k")
                cache.expire("k")
                clock.advance(by: .seconds(1))
                _ = try await cache.value(for: "k") { context in try context.notModified() }
                #expect(cache.explain("k").entry?.freshFor == given)
            }
        }
    }

    @Test("keep all that among processes too, wherever they were loaded", arguments: [true, false])
    func shared(isHere: Bool) async throws {
        try await withNodes(2, options: Self.options) { (shared, nodes) async throws in
            _ = try await nodes[0].cache.value(for: "k") { context in Self.first(context) }
            // The other process has it in memory, or knows it from the tier only.
            if isHere { _ = try await nodes[1].value("k", "never") }
            shared.clock.advance(by: .seconds(101))
            let same = try await nodes[1].cache.value(for: "k") { context in try context.notModified() }
            #expect(same == "body")
            let entry = await nodes[1].cache.explain("k").entry
            #expect(entry?.tags == ["site/1"])
            #expect(entry?.entityTag == "e1")
            #expect(entry?.freshFor == .seconds(100))
            let tier = await nodes[0].cache.explain("k").tier
            #expect(tier?.tags == ["site/1"])
            #expect(tier?.entityTag == "e1")
            #expect(tier?.freshFor == .seconds(100))
            try await nodes[0].cache.invalidate(tag: "site/1")
            let isGone = await eventually { nodes.allSatisfy { $0.cache.cached("k") == nil } }
            #expect(isGone)
            let new = try await nodes[1].value("k", "new")
            #expect(new == "new")
        }
    }
}
