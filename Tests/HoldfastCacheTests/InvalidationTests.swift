// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
import HoldfastTesting
import Testing

/// What is done to a cache while a value of it is being loaded.
enum Change: String, Sendable, CaseIterable {
    case remove, set, expire, tag, prefix, all, update

    func apply(to cache: Cache<String, String>) throws {
        switch self {
        case .remove: cache.remove("k/1")
        case .set: try cache.set("set", for: "k/1")
        case .expire: cache.expire("k/1")
        case .tag: cache.invalidate(tag: "t")
        case .prefix: cache.invalidate(prefix: "k/")
        case .all: cache.invalidateAll()
        case .update: try cache.update("k/1") { _ in "updated" }
        }
    }
}

@Suite("Invalidations", .timeLimit(.minutes(5)))
struct InvalidationTests {
    @Test(
        "nothing loaded before an invalidation is stored after it, in the foreground (FusionCache 625)",
        arguments: Change.allCases
    )
    func foreground(change: Change) async throws {
        try await withCache { cache in
            let gate = Gate()
            let first = Task {
                try await cache.value(for: "k/1") { context in
                    context.tags = ["t"]
                    await gate.pass()
                    return "old"
                }
            }
            await gate.arrived()
            try change.apply(to: cache)
            // Whoever asks from now on does not get what was being loaded before.
            let reads = cache.statistics().misses + cache.statistics().hits
            let second = Task { try await cache.value(for: "k/1") { "new" } }
            #expect(await eventually { cache.statistics().misses + cache.statistics().hits > reads })
            #expect(cache.statistics().joins == 0)
            gate.open()
            let old = try await first.value
            let value = try await second.value
            #expect(old == "old")
            #expect(value != "old")
            let after = try await cache.value(for: "k/1") { "after" }
            #expect(after != "old")
            #expect(cache.statistics().supersededLoads == 1)
        }
    }

    @Test("nor in the background (FusionCache 535)", arguments: Change.allCases)
    func background(change: Change) async throws {
        let clock = ManualClock()
        try await withCache(
            clock: clock,
            options: CacheOptions().with {
                $0.timeToLive = .seconds(10)
                $0.jitter = 0
                $0.staleWhileRevalidate = .seconds(100)
                $0.tags = ["t"]
            }
        ) { cache in
            try cache.set("stale", for: "k/1")
            clock.advance(by: .seconds(11))
            let gate = Gate()
            let stale = try await cache.value(for: "k/1") {
                await gate.pass()
                return "old"
            }
            #expect(stale == "stale")
            await gate.arrived()
            try change.apply(to: cache)
            gate.open()
            #expect(await eventually { cache.statistics().loads == 1 })
            #expect(cache.cached("k/1") != "old")
            #expect(cache.statistics().supersededLoads == 1)
        }
    }

    /// Who knows that a value carries a tag.
    enum Knower: CaseIterable, Sendable {
        case cache, leader, loader, reader
    }

    @Test(
        "who comes after a tag was invalidated does not wait for a load from before it, alone or for several keys",
        arguments: Knower.allCases,
        [true, false]
    )
    func joinsNoOldLoad(knower: Knower, isBulk: Bool) async throws {
        let tagged = CacheOptions().with { $0.tags = ["t"] }
        try await withCache(options: knower == .cache ? tagged : CacheOptions()) { cache in
            let gate = Gate()
            let early = (0..<2).map { _ in
                Task {
                    try await cache.value(for: "k", options: knower == .leader ? tagged : nil) { context in
                        if knower == .loader { context.tags = ["t"] }
                        await gate.pass()
                        return "old"
                    }
                }
            }
            await gate.arrived()
            #expect(await eventually { cache.statistics().joins == 1 })
            cache.invalidate(tag: "t")
            let options = knower == .reader ? tagged : nil
            let late = Task { () async throws -> String? in
                guard isBulk else { return try await cache.value(for: "k", options: options) { "new" } }
                return try await cache.values(for: ["k"], options: options) { _ in ["k": "new"] }["k"]
            }
            #expect(await eventually { cache.statistics().loads == 1 })
            gate.open()
            let new = try await late.value
            #expect(new == "new")
            for one in early {
                let old = try await one.value
                #expect(old == "old")
            }
            // The first load is not stored over the second.
            #expect(cache.cached("k") == "new")
            #expect(cache.statistics().supersededLoads == 1)
        }
    }

    @Test("who comes after other tags were invalidated, however many, waits for the load that is under way")
    func joinsInSpiteOfOthers() async throws {
        let tagged = CacheOptions().with { $0.tags = ["t"] }
        try await withCache(options: tagged) { cache in
            cache.invalidate(tag: "t")
            let (gate, runs) = (Gate(), Counter())
            @Sendable func read() async throws -> String {
                try await cache.value(for: "k") { context in
                    context.tags.insert("loaded")
                    runs.next()
                    await gate.pass()
                    return "v"
                }
            }
            let first = Task { try await read() }
            await gate.arrived()
            for number in 0..<5000 { cache.invalidate(tag: "other \(number)") }
            let second = Task { try await read() }
            #expect(await eventually { cache.statistics().misses == 2 })
            gate.open()
            for reader in [first, second] {
                let value = try await reader.value
                #expect(value == "v")
            }
            #expect(runs.value == 1)
        }
    }

    @Test("two of one instant are told apart, since no clock decides (moka 155)")
    func frozenClock() async throws {
        try await withCache { cache in
            for round in 0..<100 {
                try cache.set("old", for: "k\(round)")
                cache.invalidateAll()
                #expect(!cache.contains("k\(round)"))
                try cache.set("new", for: "k\(round)")
                #expect(cache.cached("k\(round)") == "new")
                var tagged = CacheOptions()
                tagged.tags = ["t\(round)"]
                try cache.set("old", for: "tagged", options: tagged)
                cache.invalidate(tag: "t\(round)")
                #expect(!cache.contains("tagged"))
                try cache.set("new", for: "tagged", options: tagged)
                #expect(cache.cached("tagged") == "new")
            }
        }
    }

    @Test("an entry that is written while all is forgotten can be forgotten later (laravel 61328)")
    func writtenDuringFlush() async throws {
        let cache = try CacheService().cache("test", of: Int.self, keyedBy: Int.self) {
            $0.capacity = .entries(100_000)
            $0.options.tags = ["all of them"]
        }
        await withTaskGroup(of: Void.self) { group in
            for worker in 0..<4 {
                group.addTask {
                    for key in 0..<5000 { try? cache.set(key, for: worker * 5000 + key) }
                }
            }
            group.addTask { for _ in 0..<50 { cache.invalidateAll() } }
            group.addTask { for _ in 0..<50 { cache.invalidate(tag: "all of them") } }
        }
        cache.invalidate(tag: "all of them")
        #expect((0..<20_000).allSatisfy { cache.cached($0) == nil })
        for key in 0..<100 { try cache.set(key, for: key) }
        #expect((0..<100).allSatisfy { cache.cached($0) == $0 })
        cache.invalidateAll()
        #expect(cache.statistics().count == 0)
    }

    @Test("a tag and a prefix take what is theirs and nothing else")
    func scopes() throws {
        let cache = try CacheService().cache("test", of: Int.self, keyedBy: String.self)
        var tagged = CacheOptions()
        tagged.tags = ["red", "round"]
        try cache.set(1, for: "users/1", options: tagged)
        try cache.set(2, for: "users/2")
        try cache.set(3, for: "usersAbc")
        cache.invalidate(tag: "re")
        #expect(cache.contains("users/1"))
        cache.invalidate(tag: "round")
        #expect(!cache.contains("users/1"))
        cache.invalidate(prefix: "users/")
        #expect(!cache.contains("users/2"))
        #expect(cache.contains("usersAbc"))
    }

    @Test("any number of invalidated tags take no memory for ever, nor is a load from before stored (laravel 43850)")
    func manyTags() async throws {
        try await withCache { cache in
            let gate = Gate()
            let early = Task {
                try await cache.value(for: "early") { context in
                    context.tags = ["t7"]
                    await gate.pass()
                    return "old"
                }
            }
            await gate.arrived()
            for number in 0..<100_000 { cache.invalidate(tag: "t\(number)") }
            #expect(cache.rememberedTags <= 1024)
            gate.open()
            _ = try await early.value
            #expect(!cache.contains("early"))
            _ = try await cache.value(for: "late") { context in
                context.tags = ["t7"]
                return "new"
            }
            #expect(cache.contains("late"))
        }
    }

    @Test("a prefix is told from one that only looks alike, and forgets the failures of its keys")
    func prefixByBytes() async throws {
        try await withCache { cache in
            let gate = Gate()
            async let load = cache.value(for: "\u{E9}/1") {
                await gate.pass()
                return "old"
            }
            await gate.arrived()
            cache.invalidate(prefix: "\u{E9}/")
            cache.invalidate(prefix: "e\u{301}/")
            gate.open()
            _ = try await load
            #expect(!cache.contains("\u{E9}/1"))
        }
        try await withCache(options: CacheOptions().with { $0.errorBackoff = .seconds(60) }) { cache in
            for key in ["a/1", "b/1"] {
                _ = try? await cache.value(for: key) { () async throws -> String in throw Failure() }
            }
            cache.invalidate(prefix: "a/")
            let value = try await cache.value(for: "a/1") { "v" }
            #expect(value == "v")
            await #expect(throws: Failure.self) { try await cache.value(for: "b/1") { "v" } }
        }
    }

    @Test("updates by many lose none")
    func updates() async throws {
        let cache = try CacheService().cache("test", of: Int.self, keyedBy: String.self)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<4 {
                group.addTask { for _ in 0..<500 { try cache.update("n") { ($0 ?? 0) + 1 } } }
            }
            try await group.waitForAll()
        }
        #expect(cache.cached("n") == 2000)
        try cache.update("n") { _ in nil }
        #expect(!cache.contains("n"))
    }

    @Test(
        "readers of one part at the same time are counted, each read, and get what is theirs",
        arguments: [10, 100_000]
    )
    func readers(capacity: Int) async throws {
        let cache = try CacheService().cache("test", of: Int.self, keyedBy: Int.self) {
            $0.capacity = .entries(capacity)
        }
        for key in 0..<10 { try cache.set(key, for: key) }
        let reads = 20_000
        await withTaskGroup(of: Int.self) { group in
            for task in 0..<4 {
                group.addTask {
                    (0..<reads).count { number in
                        // Now and then a change, which has the seats emptied.
                        if number % 1000 == task { try? cache.set(number % 10, for: number % 10) }
                        return cache.cached(number % 10) != number % 10
                    }
                }
            }
            #expect(await group.reduce(0, +) == 0)
        }
        #expect(cache.statistics().hits == UInt64(4 * reads))
    }
}
