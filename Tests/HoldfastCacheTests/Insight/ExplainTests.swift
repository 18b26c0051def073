// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
import HoldfastCore
import HoldfastTesting
import Testing

@Suite("Explaining a key", .timeLimit(.minutes(5)))
struct ExplainTests {
    private let clock = ManualClock()

    private var staleOptions: CacheOptions {
        tenSeconds.with {
            $0.staleWhileRevalidate = .seconds(5)
            $0.staleIfError = .seconds(20)
            $0.errorBackoff = .seconds(2)
        }
    }

    @Test("Says of a value where it came from, how old it is and how long it lives")
    func hit() async throws {
        try await withCache(clock: self.clock, options: tenSeconds) { cache in
            _ = try await cache.value(for: "a") { context in
                context.tags = ["x", "b"]
                context.entityTag = "v7"
                return "secret"
            }
            try cache.set("other", for: "b")
            self.clock.advance(by: .seconds(4))
            let a = cache.explain("a")
            #expect(a.verdict == .hit)
            let entry = try #require(a.entry)
            #expect(entry.origin == .loader && entry.age == .seconds(4) && entry.freshFor == .seconds(6))
            #expect(entry.tags == ["b", "x"] && entry.entityTag == "v7" && entry.weight == 1 && !entry.isNegative)
            #expect(cache.explain("b").entry?.origin == .set)
            #expect(a.description.contains("from the loader") && a.description.contains("test/a: hit"))
            #expect(!a.description.contains("secret"))
        }
    }

    @Test("Says when a value was loaded and how long that took, for the last loads of a part")
    func lastLoad() async throws {
        try await withCache(clock: self.clock, options: tenSeconds) { cache in
            let gate = Gate()
            let load = Task {
                try await cache.value(for: "a") {
                    await gate.pass()
                    return "v"
                }
            }
            await gate.arrived()
            self.clock.advance(by: .seconds(2))
            #expect(cache.explain("a").lastLoad == nil)
            gate.open()
            _ = try await load.value
            self.clock.advance(by: .seconds(1))
            let past = try #require(cache.explain("a").lastLoad)
            #expect(past.leader == .thisProcess(nil, nil) && past.ago == .seconds(1) && past.took == .seconds(2))
            #expect(cache.explain("a").description.contains("last load: 1.0 s ago, led by this process without a lock"))
            for number in 0..<10_000 { _ = try await cache.value(for: "\(number)") { "v" } }
            #expect(cache.explain("a").lastLoad == nil)
            #expect(cache.explain("9999").lastLoad != nil)
        }
    }

    @Test("Asking changes nothing: no read is counted, nothing is removed, and an idle entry still ends")
    func changesNothing() async throws {
        let options = CacheOptions().with { $0.idleTimeToLive = .seconds(10) }
        try await withCache(clock: self.clock, options: options) { cache in
            try cache.set("a", for: "a", options: options)
            let before = cache.statistics()
            self.clock.advance(by: .seconds(9))
            #expect(cache.explain("a").entry?.keptFor == .seconds(1))
            #expect(cache.explain("none").verdict == .absent)
            self.clock.advance(by: .seconds(2))
            #expect(cache.explain("a").history.first?.cause == .expired)
            #expect(cache.statistics().hits == before.hits && cache.statistics().misses == before.misses)
            #expect(cache.cached("a") == nil)
        }
    }

    @Test("Tells a key that was never there from one that left, and says why it left")
    func causes() async throws {
        try await withCache(clock: self.clock, options: tenSeconds) { cache in
            #expect(cache.explain("a").history.isEmpty && cache.explain("a").historyIsComplete)
            #expect(cache.explain("a").description.contains("it was never there"))
            for key in ["removed", "tagged", "user/1", "expired"] {
                let options = tenSeconds.with { if key == "tagged" { $0.tags = ["shop"] } }
                try cache.set("v", for: key, options: options)
            }
            cache.remove("removed")
            cache.invalidate(tag: "shop")
            cache.invalidate(prefix: "user/")
            self.clock.advance(by: .seconds(3))
            func last(_ key: String) -> CacheExplanation.Incident? { cache.explain(key).history.first }
            #expect(last("removed")?.cause == .removed && last("removed")?.ago == .seconds(3))
            #expect(last("tagged")?.cause == .invalidatedByTag && last("tagged")?.detail == "shop")
            #expect(cache.cached("tagged") == nil)
            // The same once a read has removed it.
            #expect(last("tagged")?.ago == .seconds(3) && last("tagged")?.detail == "shop")
            #expect(last("user/1")?.cause == .invalidatedByPrefix && last("user/1")?.detail == "user/")
            self.clock.advance(by: .seconds(9))
            #expect(last("expired")?.cause == .expired && last("expired")?.ago == .seconds(2))
            try cache.set("v", for: "all")
            cache.invalidateAll()
            #expect(last("all")?.cause == .invalidatedByAll)
        }
    }

    @Test("An expired entry that a sweep removed is said to have ended when it did, not when it was swept")
    func swept() async throws {
        try await withCache(clock: self.clock, options: tenSeconds) { cache in
            try cache.set("v", for: "a")
            self.clock.advance(by: .seconds(60))
            #expect(await eventually { cache.statistics().expirations == 1 })
            #expect(cache.explain("a").history.first?.ago == .seconds(50))
        }
    }

    @Test("An evicted key is remembered until 128 others left")
    func evicted() throws {
        let service = try CacheService(clock: self.clock)
        let cache = try service.cache("small", of: Int.self, keyedBy: Int.self) {
            $0.capacity = .entries(1)
            $0.eviction = .lru
        }
        for number in 0...128 { try cache.set(number, for: number) }
        #expect(cache.explain(0).history.first?.cause == .evicted)
        #expect(cache.explain(0).historyIsComplete)
        #expect(cache.explain(0).obstacle == .notRunning)
        try cache.set(129, for: 129)
        #expect(cache.explain(0).history.isEmpty && !cache.explain(0).historyIsComplete)
        #expect(cache.explain(1).history.map(\.cause) == [.evicted])
        #expect(cache.explain(0).description.contains("or that was long ago"))
    }

    @Test("Incidents come the latest first, also around the end of the ring")
    func order() throws {
        let service = try CacheService(clock: self.clock)
        let cache = try service.cache("small", of: Int.self, keyedBy: Int.self)
        for round in 0..<70 {
            for key in 0..<3 { try cache.set(round, for: key) }
            self.clock.advance(by: .seconds(1))
            if round % 2 == 0 { cache.remove(0) } else { cache.invalidateAll() }
        }
        let history = cache.explain(0).history
        #expect(history.count > 30)
        #expect(history.map(\.ago) == history.map(\.ago).sorted())
        #expect(history.prefix(3).map(\.cause) == [.invalidatedByAll, .removed, .invalidatedByAll])
    }

    @Test("A failed load shows the error's type and code, and not its text")
    func failing() async throws {
        struct Refused: Error, CustomStringConvertible { var description: String { "password hunter2" } }
        try await withCache(clock: self.clock, options: self.staleOptions) { cache in
            await #expect(throws: Refused.self) { try await cache.value(for: "a") { throw Refused() } }
            let now = cache.explain("a")
            #expect(now.verdict == .failing && now.failure?.error == "Refused")
            #expect(now.history.first?.cause == .loadFailed && now.history.first?.detail == "Refused")
            #expect(!now.description.contains("hunter2"))
            self.clock.advance(by: .seconds(3))
            #expect(cache.explain("a").verdict == .absent && cache.explain("a").failure == nil)
            #expect(cache.explain("a").history.first?.ago == .seconds(3))
        }
    }

    @Test("A load under way shows since when, and how many wait")
    func underWay() async throws {
        try await withCache(clock: self.clock, options: tenSeconds) { cache in
            let gate = Gate()
            async let first = cache.value(for: "a") {
                await gate.pass()
                return "v"
            }
            await gate.arrived()
            async let second = cache.value(for: "a") { "w" }
            #expect(await eventually { cache.explain("a").load?.callers == 2 })
            self.clock.advance(by: .seconds(1))
            let now = cache.explain("a")
            #expect(now.load?.since == .seconds(1) && now.load?.isDetached == false && now.verdict == .absent)
            #expect(now.description.contains("2 callers wait"))
            gate.open()
            let values = try await [first, second]
            #expect(values == ["v", "v"])
            #expect(cache.explain("a").load == nil)
        }
    }

    @Test("Stale values say whether they are given, rest, or are only a fallback")
    func stale() async throws {
        try await withCache(clock: self.clock, options: self.staleOptions) { cache in
            try cache.set("v", for: "a")
            self.clock.advance(by: .seconds(12))
            #expect(cache.explain("a").verdict == .revalidating)
            #expect(cache.explain("a").entry?.freshFor == .seconds(-2))
            self.clock.advance(by: .seconds(4))
            #expect(cache.explain("a").verdict == .stale)
            let given = try await cache.value(for: "a") { throw Failure() }
            #expect(given == "v")
            let now = cache.explain("a")
            #expect(now.verdict == .resting && now.entry.map { $0.restsFor > .zero } == true)
            #expect(now.history.first?.detail == "Failure")
        }
    }

    @Test("What was loaded and not stored says so, and a load that was given up too")
    func notStored() async throws {
        let options = tenSeconds.with { $0.hardDeadline = .seconds(5) }
        try await withCache(clock: self.clock, options: options) { cache in
            _ = try await cache.value(for: "skipped") { context in
                context.skipCaching()
                return "v"
            }
            #expect(cache.explain("skipped").history.first?.cause == .notStored)
            let gate = Gate()
            async let superseded = cache.value(for: "superseded") {
                await gate.pass()
                return "v"
            }
            await gate.arrived()
            cache.remove("superseded")
            gate.open()
            _ = try await superseded
            #expect(cache.explain("superseded").history.first?.cause == .loadSuperseded)
            let late = Gate()
            let caller = Task {
                try await cache.value(for: "late") {
                    await late.pass()
                    return "v"
                }
            }
            await late.arrived()
            self.clock.advance(by: .seconds(6))
            _ = await caller.result
            let now = cache.explain("late")
            #expect(now.history.first?.cause == .loadAbandoned && now.abandonedLoads == 1)
            late.open()
            #expect(await eventually { cache.explain("late").abandonedLoads == 0 })
        }
    }
}
