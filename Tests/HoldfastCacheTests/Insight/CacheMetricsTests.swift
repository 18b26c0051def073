// SPDX-License-Identifier: Apache-2.0

#if Metrics
import HoldfastCache
import HoldfastCore
import HoldfastTesting
import Metrics
import MetricsTestKit
import Synchronization
import Testing

@Suite("Metrics of caches", .timeLimit(.minutes(5)))
struct CacheMetricsTests {
    private let clock = ManualClock()

    /// Keeps the reports that it gets.
    private final class Reports: CacheObserver {
        private let reports = Mutex<[CacheReport]>([])

        var all: [CacheReport] { self.reports.withLock { $0 } }

        func observe(_ event: CacheEvent) {}
        func report(_ report: CacheReport) { self.reports.withLock { $0.append(report) } }
    }

    @Test("Reports come every interval and at the end, and add up to the statistics, each read counted once")
    func reports() async throws {
        let (factory, reports) = (TestMetrics(), Reports())
        let service = try CacheService(
            observer: CacheObserverGroup([CacheMetricsObserver(factory: factory), reports]),
            clock: self.clock
        )
        let cache = try service.cache("pages", of: String.self, keyedBy: String.self) {
            $0.group = { String($0.prefix(1)) }
        }
        func requests(_ result: String) throws -> Int64 {
            try factory.expectCounter(CacheNames.requestsTotal, [("cache", "pages"), ("result", result)]).totalValue
        }
        try await withCacheService(service) { _ in
            _ = try await cache.value(for: "a") { "v" }
            _ = cache.cached("a")
            // The sweeper sleeps a second at a time.
            for _ in 0..<12 {
                self.clock.advance(by: .seconds(1))
                #expect(await eventually { self.clock.timerCount > 0 })
            }
            #expect(await eventually { reports.all.count >= 1 })
            #expect(try requests("hit") == 1)
            for _ in 0..<5 { _ = cache.cached("a") }
            await #expect(throws: Failure.self) { try await cache.value(for: "b") { throw Failure() } }
        }
        #expect(try requests("hit") == 6)
        #expect(try requests("miss") == 2)
        #expect(reports.all.count == 2 && reports.all.last?.caches["pages"]?.hits == 6)
        let loads = try factory.expectCounter(CacheNames.loadsTotal, [("cache", "pages"), ("outcome", "failed")])
        #expect(loads.totalValue == 1)
        let group = try factory.expectCounter(
            CacheNames.groupRequestsTotal,
            [("cache", "pages"), ("group", "a"), ("result", "hit")]
        )
        #expect(group.totalValue == 6)
        let times = try factory.expectTimer(CacheNames.loadSeconds, [("cache", "pages"), ("outcome", "loaded")])
        #expect(times.values.count == 1)
        let entries = try factory.expectGauge(CacheNames.entries, [("cache", "pages")])
        #expect(entries.lastValue == 1)
    }

    @Test("A tier that fails shows as an open circuit, an outage and failed requests, and no key is a dimension")
    func outage() async throws {
        let (factory, shared) = (TestMetrics(), Shared())
        let service = try CacheService(
            tier: shared.tier,
            observer: CacheMetricsObserver(factory: factory),
            clock: shared.clock
        )
        let cache = try service.sharedCache("pages", of: String.self, keyedBy: String.self)
        try await withCacheService(service) { _ in
            _ = try await cache.value(for: "secret-key") { "v" }
            shared.tier.fault = .fail
            for number in 0..<4 { _ = try await cache.value(for: "key\(number)") { "v" } }
        }
        #expect(try factory.expectGauge(CacheNames.circuit, [("service", "tier")]).lastValue == 1)
        #expect(try factory.expectCounter(CacheNames.tierOutagesTotal, [("tier", "memory")]).totalValue == 1)
        let failed = try factory.expectCounter(
            CacheNames.tierRequestsTotal,
            [("cache", "pages"), ("result", "failed")]
        )
        #expect(failed.totalValue >= 4)
        let reads = try factory.expectTimer(CacheNames.stepSeconds, [("cache", "pages"), ("step", "tierRead")])
        // One that worked, and three calls that were each made twice.
        #expect(reads.values.count == 7)
        let values =
            factory.counters.flatMap { $0.dimensions.map(\.1) } + factory.timers.flatMap { $0.dimensions.map(\.1) }
        #expect(!values.contains { $0.contains("key") })
    }
}
#endif
