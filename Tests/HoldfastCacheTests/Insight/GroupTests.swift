// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
import HoldfastCore
import HoldfastTesting
import Testing

@Suite("Statistics by groups and layers", .timeLimit(.minutes(5)))
struct GroupTests {
    private let clock = ManualClock()

    /// Runs a cache whose keys are grouped by what comes before the slash.
    private func withGroups(
        options: CacheOptions = tenSeconds,
        _ body: (Cache<String, String>) async throws -> Void
    ) async throws {
        let service = try CacheService(clock: self.clock)
        let cache = try service.cache("test", of: String.self, keyedBy: String.self) {
            $0.options = options
            $0.group = { String($0.prefix { $0 != "/" }) }
        }
        try await withCacheService(service) { _ in try await body(cache) }
    }

    @Test("Each read is counted by its group, also those that would be given at a glance")
    func reads() async throws {
        try await self.withGroups { cache in
            _ = try await cache.value(for: "a/1") { "v" }
            for _ in 0..<3 { #expect(cache.cached("a/1") == "v") }
            for _ in 0..<2 { _ = try await cache.value(for: "a/1") { "w" } }
            #expect(cache.cached("b/1") == nil)
            await #expect(throws: NotFound.self) { try await cache.value(for: "b/1") { throw NotFound() } }
            await #expect(throws: NotFound.self) { try await cache.value(for: "b/1") { throw NotFound() } }
            let groups = cache.statistics().groups
            #expect(groups["a"].map { [$0.hits, $0.misses, $0.loads] } == [5, 1, 1])
            #expect(groups["b"].map { [$0.hits, $0.misses, $0.negativeHits, $0.loads] } == [0, 2, 1, 1])
            #expect(groups.count == 2)
        }
    }

    @Test("The sums over all groups are those of the cache")
    func sums() async throws {
        let options = tenSeconds.with {
            $0.staleWhileRevalidate = .seconds(5)
            $0.staleIfError = .seconds(100)
            $0.errorBackoff = .seconds(1)
        }
        try await self.withGroups(options: options) { cache in
            for round in 0..<30 {
                let key = "\(round % 3)/\(round % 5)"
                _ = try? await cache.value(for: key) {
                    if round % 4 == 3 { throw Failure() }
                    return "v"
                }
                if round % 6 == 5 { self.clock.advance(by: .seconds(11)) }
                _ = cache.cached(key)
                if round % 7 == 6 { self.clock.advance(by: .seconds(6)) }
            }
            #expect(await eventually { cache.statistics().loadTimes.count == cache.statistics().loads })
            let all = cache.statistics()
            func sum(_ path: KeyPath<CacheGroupStatistics, UInt64>) -> UInt64 {
                all.groups.values.map { $0[keyPath: path] }.reduce(0, +)
            }
            #expect(sum(\.hits) == all.hits && all.hits > 0)
            #expect(sum(\.misses) == all.misses && all.misses > 0)
            #expect(sum(\.staleServes) == all.staleServes && all.staleServes > 0)
            #expect(sum(\.loads) == all.loads)
            #expect(sum(\.loadFailures) == all.loadFailures && all.loadFailures > 0)
        }
    }

    @Test("Keys of too many groups are counted as others, so that nobody fills the metrics by making up tenants")
    func bound() async throws {
        try await self.withGroups { cache in
            for number in 0..<200 { _ = cache.cached("\(number)/x") }
            let groups = cache.statistics().groups
            #expect(groups.count == CacheLimits.maximumGroups + 1)
            #expect(groups[CacheLimits.otherGroup]?.misses == 200 - UInt64(CacheLimits.maximumGroups))
        }
    }

    @Test("Without groups nothing is counted by them")
    func none() async throws {
        try await withCache { cache in
            _ = try await cache.value(for: "a") { "v" }
            #expect(cache.cached("a") == "v")
            #expect(cache.statistics().groups.isEmpty)
        }
    }

    @Test("Layers say what each gave, and how long tier, turn and loader took")
    func layers() async throws {
        try await withNodes(2) { shared, nodes in
            let clock = shared.clock
            _ = try await nodes[0].cache.value(for: "a") {
                clock.advance(by: .milliseconds(300))
                return "v"
            }
            _ = try await nodes[1].value("a", "w")
            _ = nodes[1].cache.cached("a")
            let (first, second) = (nodes[0].statistics, nodes[1].statistics)
            #expect(first.loaderTimes.count == 1 && first.loaderTimes.longest == .milliseconds(300))
            #expect(first.tierReadTimes.count == 2 && first.tierWriteTimes.count == 1 && first.lockWaitTimes.count == 1)
            #expect(second.loaderTimes.count == 0 && second.tierReadTimes.count == 1)
            #expect(second.layers.map(\.hits) == [1, 1, 0] && second.layers.map(\.misses) == [1, 0, 0])
            #expect(first.layers.map(\.layer) == [.memory, .tier, .loader])
            #expect(first.layers[2].hits == 1 && first.layers[1].misses == 2)
        }
    }

    @Test("What the breaker keeps from the tier is not taken for a fast answer")
    func refusals() async throws {
        try await withNodes(1) { shared, nodes in
            shared.tier.fault = .fail
            for number in 0..<5 { _ = try await nodes[0].value("\(number)", "v") }
            #expect(nodes[0].caches.report().tier == .open)
            #expect(nodes[0].statistics.tierFailures > 3)
            // Three calls, each made twice.
            #expect(nodes[0].statistics.tierReadTimes.count == 6)
        }
    }

    @Test("Buckets hold all durations, in order")
    func buckets() {
        var histogram = LatencyHistogram()
        for number in 1...100 { histogram.record(.milliseconds(number * number)) }
        let buckets = histogram.buckets
        #expect(buckets.map(\.count).reduce(0, +) == 100)
        #expect(buckets.map(\.upTo) == buckets.map(\.upTo).sorted())
        let short = buckets.filter { $0.upTo <= .milliseconds(2500) }.map(\.count).reduce(0, +)
        #expect((45...50).contains(short))
    }
}
