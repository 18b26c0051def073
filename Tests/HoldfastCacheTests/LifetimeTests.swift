// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
import HoldfastTesting
import Testing

@Suite("Lifetimes", .timeLimit(.minutes(5)))
struct LifetimeTests {
    @Test("a value is fresh until its time is over, and then loaded anew")
    func expiry() async throws {
        let clock = ManualClock()
        try await withCache(
            clock: clock,
            options: CacheOptions().with {
                $0.timeToLive = .seconds(10)
                $0.jitter = 0
            }
        ) { cache in
            _ = try await cache.value(for: "k") { "v1" }
            clock.advance(by: .milliseconds(9999))
            #expect(cache.cached("k") == "v1")
            clock.advance(by: .milliseconds(1))
            #expect(cache.cached("k") == nil)
            let value = try await cache.value(for: "k") { "v2" }
            #expect(value == "v2")
        }
    }

    @Test("expired entries leave without being read")
    func sweep() async throws {
        let clock = ManualClock()
        try await withCache(clock: clock, options: CacheOptions().with { $0.timeToLive = .seconds(10) }) { cache in
            for number in 0..<100 { try cache.set("v", for: "\(number)") }
            #expect(cache.statistics().count == 100)
            await clock.timers(atLeast: 1)
            clock.advance(by: .seconds(13))
            #expect(await eventually { cache.statistics().count == 0 })
            #expect(cache.statistics().expirations == 100)
        }
    }

    @Test("jitter is on by default and spreads the ends of entries over a tenth to both sides")
    func jitter() throws {
        var ends: [Int] = []
        let clock = ManualClock()
        let cache = try CacheService(clock: clock).cache("test", of: Int.self, keyedBy: Int.self) {
            $0.options.timeToLive = .seconds(100)
        }
        for key in 0..<1000 { try cache.set(key, for: key) }
        for second in 1...120 {
            clock.advance(by: .seconds(1))
            ends += Array(repeating: second, count: (0..<1000).count { cache.contains($0) })
        }
        let alive = { (second: Int) in ends.count { $0 == second } }
        #expect(alive(89) == 1000)
        #expect(alive(111) == 0)
        #expect((400...600).contains(alive(100)))
    }

    @Test("a read keeps an entry with an idle time, and silence ends it")
    func idle() throws {
        let clock = ManualClock()
        let cache = try CacheService(clock: clock).cache("test", of: String.self, keyedBy: String.self) {
            $0.options.idleTimeToLive = .seconds(10)
        }
        try cache.set("v", for: "k")
        for _ in 0..<5 {
            clock.advance(by: .seconds(9))
            #expect(cache.cached("k") == "v")
        }
        clock.advance(by: .seconds(10))
        #expect(cache.cached("k") == nil)
    }

    @Test("a stale value is given at once while one load replaces it")
    func staleWhileRevalidate() async throws {
        let clock = ManualClock()
        try await withCache(
            clock: clock,
            options: CacheOptions().with {
                $0.timeToLive = .seconds(10)
                $0.jitter = 0
                $0.staleWhileRevalidate = .seconds(5)
            }
        ) { cache in
            let (gate, runs) = (Gate(), Counter())
            try cache.set("v1", for: "k")
            clock.advance(by: .seconds(12))
            for _ in 0..<10 {
                let value = try await cache.value(for: "k") { context in
                    runs.next()
                    #expect(context.isBackground)
                    #expect(context.stale?.value == "v1")
                    await gate.pass()
                    return "v2"
                }
                #expect(value == "v1")
            }
            await gate.arrived()
            gate.open()
            #expect(await eventually { cache.cached("k") == "v2" })
            #expect(runs.value == 1)
            #expect(cache.statistics().staleServes == 10)
            clock.advance(by: .seconds(15))
            // Too old to be shown.
            let value = try await cache.value(for: "k") { "v3" }
            #expect(value == "v3")
        }
    }

    @Test("a stale value is given when loading fails, and nothing is loaded during the back-off")
    func staleIfError() async throws {
        let clock = ManualClock()
        try await withCache(
            clock: clock,
            options: CacheOptions().with {
                $0.timeToLive = .seconds(10)
                $0.jitter = 0
                $0.staleIfError = .seconds(100)
                $0.errorBackoff = .seconds(10)
            }
        ) { cache in
            let runs = Counter()
            try cache.set("v1", for: "k")
            clock.advance(by: .seconds(11))
            for _ in 0..<3 {
                let value = try await cache.value(for: "k") { throw Failure(number: runs.next()) }
                #expect(value == "v1")
            }
            #expect(runs.value == 1)
            clock.advance(by: .milliseconds(12_501))
            let value = try await cache.value(for: "k") { throw Failure(number: runs.next()) }
            #expect(value == "v1")
            #expect(runs.value == 2)
            clock.advance(by: .seconds(90))
            await #expect(throws: Failure.self) {
                try await cache.value(for: "k") { throw Failure(number: runs.next()) }
            }
        }
    }

    @Test("a refresh that fails again and again does not end refreshing (caffeine 1807)")
    func failingRefreshes() async throws {
        let clock = ManualClock()
        try await withCache(
            clock: clock,
            options: CacheOptions().with {
                $0.timeToLive = .seconds(100)
                $0.jitter = 0
                $0.refreshAhead = .after(fraction: 0.5)
                $0.errorBackoff = .seconds(1)
            }
        ) { cache in
            let runs = Counter()
            try cache.set("v1", for: "k")
            clock.advance(by: .seconds(51))
            for failure in 1...5 {
                #expect(try await cache.value(for: "k") { throw Failure(number: runs.next()) } == "v1")
                #expect(await eventually { cache.statistics().loadFailures == UInt64(failure) })
                clock.advance(by: .seconds(2))
            }
            #expect(runs.value == 5)
            #expect(try await cache.value(for: "k") { "v2" } == "v1")
            #expect(await eventually { cache.cached("k") == "v2" })
        }
    }

    @Test("who will not wait gets the stale value, and the load goes on and is stored once")
    func softDeadline() async throws {
        let clock = ManualClock()
        try await withCache(
            clock: clock,
            options: CacheOptions().with {
                $0.timeToLive = .seconds(10)
                $0.jitter = 0
                $0.staleIfError = .seconds(100)
                $0.softDeadline = .milliseconds(50)
            }
        ) { cache in
            let gate = Gate()
            try cache.set("v1", for: "k")
            clock.advance(by: .seconds(11))
            let caller = Task {
                try await cache.value(for: "k") {
                    await gate.pass()
                    return "v2"
                }
            }
            await gate.arrived()
            clock.advance(by: .milliseconds(50))
            let early = try await caller.value
            #expect(early == "v1")
            gate.open()
            #expect(await eventually { cache.cached("k") == "v2" })
            #expect(cache.statistics().loads == 1)
        }
    }

    @Test("what is not there is remembered, as an error and as an optional (aiocache 452)", arguments: [true, false])
    func negative(throwsIt: Bool) async throws {
        let clock = ManualClock()
        try await withCache(
            of: String?.self,
            clock: clock,
            options: CacheOptions().with {
                $0.timeToLive = .seconds(100)
                $0.negativeTimeToLive = .seconds(10)
                $0.jitter = 0
            }
        ) { cache in
            let runs = Counter()
            @Sendable func ask() async throws -> String? {
                do {
                    return try await cache.value(for: "k") {
                        runs.next()
                        if throwsIt { throw NotFound() }
                        return nil
                    }
                } catch is NotFound { return nil }
            }
            for _ in 0..<3 {
                let value = try await ask()
                #expect(value == nil)
            }
            #expect(runs.value == 1)
            clock.advance(by: .seconds(11))
            _ = try await ask()
            #expect(runs.value == 2)
        }
    }

    @Test("nothing that is set lives as long as nothing does, and is counted so")
    func nothingIsSet() async throws {
        let clock = ManualClock()
        let options = CacheOptions().with {
            $0.timeToLive = .seconds(10)
            $0.negativeTimeToLive = .seconds(1)
            $0.jitter = 0
        }
        try await withCache(of: String?.self, clock: clock, options: options) { cache in
            try cache.set(nil, for: "a")
            try cache.update("b") { _ in .some(nil) }
            for key in ["a", "b"] {
                let now = try await cache.value(for: key) { "loaded" }
                #expect(now == nil)
            }
            #expect(cache.statistics().negativeHits == 2 && cache.statistics().hits == 0)
            clock.advance(by: .seconds(2))
            for key in ["a", "b"] {
                let then = try await cache.value(for: key) { "loaded" }
                #expect(then == "loaded")
            }
            try cache.set(nil, for: "a", options: options.with { $0.negativeTimeToLive = .zero })
            #expect(cache.statistics().count == 1)
        }
    }

    @Test("a value that is unmodified for callers with ever other tags keeps its own")
    func unmodifiedTags() async throws {
        let clock = ManualClock()
        let options = CacheOptions().with {
            $0.timeToLive = .seconds(10)
            $0.staleIfError = .seconds(60)
        }
        try await withCache(clock: clock, options: options) { cache in
            for number in 0..<40 {
                _ = try await cache.value(for: "a", options: options.with { $0.tags = ["call \(number)"] }) { context in
                    guard context.stale == nil else { return try context.notModified() }
                    context.tags = ["own"]
                    return "v"
                }
                clock.advance(by: .seconds(12))
            }
            #expect(cache.statistics().loads == 40 && cache.statistics().loadFailures == 0)
            cache.invalidate(tag: "own")
            let value = try await cache.value(for: "a") { "new" }
            #expect(value == "new")
        }
    }

    @Test("what is not there is not remembered when the options say so")
    func noNegative() async throws {
        try await withCache(options: CacheOptions().with { $0.negativeTimeToLive = .zero }) { cache in
            let runs = Counter()
            for _ in 0..<3 {
                await #expect(throws: NotFound.self) {
                    try await cache.value(for: "k") {
                        runs.next()
                        throw NotFound()
                    }
                }
            }
            #expect(runs.value == 3)
        }
    }

    @Test("a loader says how long its value lives, that it is unmodified, or that it is not to be kept")
    func adaptive() async throws {
        let clock = ManualClock()
        try await withCache(
            clock: clock,
            options: CacheOptions().with {
                $0.timeToLive = .seconds(100)
                $0.staleIfError = .seconds(1000)
                $0.jitter = 0
            }
        ) { cache in
            _ = try await cache.value(for: "k") { context in
                context.timeToLive = .seconds(1)
                context.entityTag = "e1"
                return "v1"
            }
            clock.advance(by: .seconds(2))
            let same = try await cache.value(for: "k") { context in
                #expect(context.stale?.entityTag == "e1")
                #expect(context.stale?.age == .seconds(2))
                return try context.notModified()
            }
            #expect(same == "v1")
            #expect(cache.cached("k") == "v1")
            _ = try await cache.value(for: "other") { context in
                context.skipCaching()
                return "v"
            }
            #expect(!cache.contains("other"))
            await #expect(throws: CacheError.self) {
                try await cache.value(for: "cold") { context in try context.notModified() }
            }
        }
    }

    @Test("XFetch refreshes early as often as the paper says")
    func probabilistic() {
        // P(early at time t before the end) = exp(-t / (beta * delta)): 36.8 % at t = delta.
        var options = CacheOptions()
        options.timeToLive = .seconds(100)
        options.jitter = 0
        options.refreshAhead = .probabilistic(beta: 1)
        var generator = SeededGenerator(seed: 7)
        for (before, expected) in [(1, 0.368), (2, 0.135), (3, 0.050)] {
            let life = Lifetime(options, isNegative: false, now: 0, loadTime: 1_000_000_000, using: &generator)
            let time = life.freshUntil - Int64(before) * 1_000_000_000
            let early = (0..<20_000).count { _ in life.wantsRefresh(at: time, using: &generator) }
            #expect(abs(Double(early) / 20_000 - expected) < 0.015)
        }
    }

    @Test("an expired value is not given unless the options allow stale ones")
    func expireByHand() async throws {
        let clock = ManualClock()
        for life: Duration? in [nil, .seconds(10)] {
            try await withCache(clock: clock, options: CacheOptions().with { $0.timeToLive = life }) { cache in
                try cache.set("old", for: "k")
                cache.expire("k")
                #expect(!cache.contains("k"))
                let new = try await cache.value(for: "k") { "new" }
                #expect(new == "new")
            }
        }
        let options = CacheOptions().with {
            $0.timeToLive = .seconds(10)
            $0.staleIfError = .seconds(5)
            $0.jitter = 0
            $0.errorBackoff = .zero
        }
        try await withCache(clock: clock, options: options) { cache in
            try cache.set("old", for: "k")
            cache.expire("k")
            clock.advance(by: .seconds(4))
            let stale = try await cache.value(for: "k") { throw Failure() }
            #expect(stale == "old")
            clock.advance(by: .seconds(1))
            await #expect(throws: Failure.self) { try await cache.value(for: "k") { throw Failure() } }
        }
    }

    @Test("options that cannot be kept are refused, alone and together")
    func refusals() throws {
        let wrong: [(inout CacheOptions) -> Void] = [
            { $0.timeToLive = .zero }, { $0.timeToLive = .seconds(-1) }, { $0.jitter = 0.6 }, { $0.jitter = -0.1 },
            { $0.idleTimeToLive = .zero }, { $0.negativeTimeToLive = .seconds(-1) }, { $0.staleIfError = .seconds(1) },
            { $0.staleWhileRevalidate = .seconds(1) }, { $0.hardDeadline = .zero },
            { $0.hardDeadline = .seconds(7200) },
            { $0.softDeadline = .seconds(31) }, { $0.refreshAhead = .after(fraction: 0.5) },
            {
                $0.timeToLive = .seconds(1)
                $0.refreshAhead = .after(fraction: 1)
            },
            {
                $0.timeToLive = .seconds(1)
                $0.refreshAhead = .probabilistic(beta: 0)
            },
            { $0.tags = [""] }, { $0.tags = [String(repeating: "t", count: 129)] },
            { $0.tags = Set((0..<33).map(String.init)) }, { $0.errorBackoff = .seconds(-1) },
        ]
        let service = try CacheService()
        for (number, change) in wrong.enumerated() {
            let error = #expect(throws: CacheError.self) {
                try service.cache("c\(number)", of: Int.self, keyedBy: Int.self) { change(&$0.options) }
            }
            #expect(error?.code == .invalidArgument)
        }
    }
}
