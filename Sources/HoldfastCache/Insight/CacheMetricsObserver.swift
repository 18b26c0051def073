// SPDX-License-Identifier: Apache-2.0

#if Metrics
import HoldfastCore
public import Metrics
import Synchronization

/// Counts what caches do with swift-metrics, under the names of ``CacheNames``.
///
/// ```swift
/// let caches = try CacheService(observer: CacheMetricsObserver())
/// ```
///
/// Hits and what else happens often is counted by the caches themselves and told every
/// ``CacheServiceConfiguration/reportInterval``, so a hit costs no more with metrics than without; what is rarer is counted
/// when it happens. Series are bounded: caches × groups × results. One observer for one service.
public final class CacheMetricsObserver: CacheObserver {
    private struct Series: Hashable {
        let label: String
        let dimensions: [String]
    }

    private struct State {
        /// What was counted of each cache up to the last report.
        var told: [String: CacheStatistics] = [:]
        var counters: [Series: Counter] = [:]
        var gauges: [Series: Gauge] = [:]
        var timers: [Series: Timer] = [:]
    }

    private let factory: any MetricsFactory
    private let state = Mutex(State())

    /// Makes an observer.
    ///
    /// - Parameter factory: Where meters are made; the process' own by default.
    public init(factory: (any MetricsFactory)? = nil) { self.factory = factory ?? MetricsSystem.factory }

    // MARK: - Events

    /// Counts an event that no report tells.
    ///
    /// - Parameter event: What happened.
    public func observe(_ event: CacheEvent) {
        switch event {
        case .loaded(let cache, let duration, _):
            self.time(CacheNames.loadSeconds, [(CacheNames.cache, cache), (CacheNames.outcome, "loaded")], duration)
        case .loadFailed(let cache, let duration, _):
            self.time(CacheNames.loadSeconds, [(CacheNames.cache, cache), (CacheNames.outcome, "failed")], duration)
        case .timed(let cache, let step, let duration):
            self.time(CacheNames.stepSeconds, [(CacheNames.cache, cache), (CacheNames.step, step.rawValue)], duration)
        case .staleServed(let cache, let reason):
            self.count(
                CacheNames.staleServesTotal,
                [(CacheNames.cache, cache), (CacheNames.reason, reason.rawValue)],
                1
            )
        case .tierOutage(let tier, _): self.count(CacheNames.tierOutagesTotal, [(CacheNames.tier, tier)], 1)
        case .tierFellBack(let tier, _): self.count(CacheNames.tierFallbacksTotal, [(CacheNames.tier, tier)], 1)
        case .bulkheadFull(let cache): self.count(CacheNames.bulkheadTotal, [(CacheNames.cache, cache)], 1)
        case .written(let cache, _, let duration):
            self.time(CacheNames.writeSeconds, [(CacheNames.cache, cache)], duration)
        case .journalFailed(let cache, _), .journalNotShortened(let cache, _):
            self.count(CacheNames.journalFailuresTotal, [(CacheNames.cache, cache)], 1)
        // Reports tell how many there were.
        case .loadAbandoned, .loadSuperseded, .unlockedFill, .tierFailed, .unreadable, .unshared, .invalidationFailed,
            .writeFailed, .writeParked, .deadLettersFull, .writesLeft, .journalTorn, .journalUnreadable, .tierReturned,
            .tierReturnFailed:
            break
        }
    }

    // MARK: - Reports

    /// Counts what happened since the last report, and says how things stand.
    ///
    /// - Parameter report: How the service does.
    public func report(_ report: CacheReport) {
        for (cache, now) in report.caches {
            let before = self.state.withLock { $0.told.updateValue(now, forKey: cache) } ?? CacheStatistics()
            self.report(cache, now, since: before)
        }
        self.set(CacheNames.loadsUnderWay, [], Double(report.loads))
        if let isListening = report.isListening { self.set(CacheNames.listening, [], isListening ? 1 : 0) }
        if let isOut = report.hasFallenBack { self.set(CacheNames.fallenBack, [], isOut ? 1 : 0) }
        for (service, circuit) in [("tier", report.tier), ("locks", report.locks)] {
            guard let circuit else { continue }
            self.set(CacheNames.circuit, [(CacheNames.service, service)], circuit.share)
        }
    }

    private func report(_ cache: String, _ now: CacheStatistics, since before: CacheStatistics) {
        let base = [(CacheNames.cache, cache)]
        func tell(_ label: String, _ path: KeyPath<CacheStatistics, UInt64>, _ dimension: (String, String)? = nil) {
            self.count(label, base + (dimension.map { [$0] } ?? []), now[keyPath: path] &- before[keyPath: path])
        }
        tell(CacheNames.requestsTotal, \.hits, (CacheNames.result, "hit"))
        tell(CacheNames.requestsTotal, \.negativeHits, (CacheNames.result, "negative"))
        tell(CacheNames.requestsTotal, \.staleServes, (CacheNames.result, "stale"))
        tell(CacheNames.requestsTotal, \.misses, (CacheNames.result, "miss"))
        tell(CacheNames.joinsTotal, \.joins)
        tell(CacheNames.loadsTotal, \.loads, (CacheNames.outcome, "loaded"))
        tell(CacheNames.loadsTotal, \.loadFailures, (CacheNames.outcome, "failed"))
        tell(CacheNames.loadsTotal, \.abandonedLoads, (CacheNames.outcome, "abandoned"))
        tell(CacheNames.loadsTotal, \.supersededLoads, (CacheNames.outcome, "superseded"))
        tell(CacheNames.unlockedFillsTotal, \.unlockedFills)
        tell(CacheNames.tierRequestsTotal, \.tierHits, (CacheNames.result, "hit"))
        tell(CacheNames.tierRequestsTotal, \.tierMisses, (CacheNames.result, "miss"))
        tell(CacheNames.tierRequestsTotal, \.tierFailures, (CacheNames.result, "failed"))
        tell(CacheNames.tierRequestsTotal, \.unreadable, (CacheNames.result, "unreadable"))
        tell(CacheNames.unsharedTotal, \.unshared)
        tell(CacheNames.invalidationFailuresTotal, \.invalidationFailures)
        tell(CacheNames.writesTotal, \.writes, (CacheNames.outcome, "written"))
        tell(CacheNames.writesTotal, \.writeFailures, (CacheNames.outcome, "failed"))
        tell(CacheNames.writesTotal, \.parkedWrites, (CacheNames.outcome, "parked"))
        self.set(CacheNames.pendingWrites, base, Double(now.pendingWrites))
        self.set(CacheNames.deadLetters, base, Double(now.deadLetters))
        tell(CacheNames.removalsTotal, \.evictions, (CacheNames.cause, "evicted"))
        tell(CacheNames.removalsTotal, \.expirations, (CacheNames.cause, "expired"))
        tell(CacheNames.removalsTotal, \.invalidations, (CacheNames.cause, "invalidated"))
        self.set(CacheNames.entries, base, Double(now.count))
        self.set(CacheNames.weight, base, Double(now.weight))
        for (group, statistics) in now.groups {
            self.report(base + [(CacheNames.group, group)], statistics, since: before.groups[group] ?? .init())
        }
    }

    private func report(
        _ base: [(String, String)],
        _ now: CacheGroupStatistics,
        since before: CacheGroupStatistics
    ) {
        func tell(_ label: String, _ path: KeyPath<CacheGroupStatistics, UInt64>, _ dimension: (String, String)) {
            self.count(label, base + [dimension], now[keyPath: path] &- before[keyPath: path])
        }
        tell(CacheNames.groupRequestsTotal, \.hits, (CacheNames.result, "hit"))
        tell(CacheNames.groupRequestsTotal, \.negativeHits, (CacheNames.result, "negative"))
        tell(CacheNames.groupRequestsTotal, \.staleServes, (CacheNames.result, "stale"))
        tell(CacheNames.groupRequestsTotal, \.misses, (CacheNames.result, "miss"))
        tell(CacheNames.groupLoadsTotal, \.loads, (CacheNames.outcome, "loaded"))
        tell(CacheNames.groupLoadsTotal, \.loadFailures, (CacheNames.outcome, "failed"))
    }

    // MARK: - Meters

    private func count(_ label: String, _ dimensions: [(String, String)], _ number: UInt64) {
        let counter = self.meter(\.counters, label, dimensions) {
            Counter(label: label, dimensions: dimensions, factory: self.factory)
        }
        // Also by nothing, so that a series is there before its first event.
        counter.increment(by: Int64(clamping: number))
    }

    private func set(_ label: String, _ dimensions: [(String, String)], _ value: Double) {
        let gauge = self.meter(\.gauges, label, dimensions) {
            Gauge(label: label, dimensions: dimensions, factory: self.factory)
        }
        gauge.record(value)
    }

    private func time(_ label: String, _ dimensions: [(String, String)], _ duration: Duration) {
        let timer = self.meter(\.timers, label, dimensions) {
            Timer(label: label, dimensions: dimensions, factory: self.factory)
        }
        timer.recordNanoseconds(duration.nanoseconds)
    }

    /// The meter of a series, made at its first use; outside of the lock, since factories are not ours.
    private func meter<Meter>(
        _ path: WritableKeyPath<State, [Series: Meter]>,
        _ label: String,
        _ dimensions: [(String, String)],
        _ make: () -> Meter
    ) -> Meter where Meter: Sendable {
        let series = Series(label: label, dimensions: dimensions.flatMap { [$0.0, $0.1] })
        if let meter = self.state.withLock({ $0[keyPath: path][series] }) { return meter }
        let meter = make()
        return self.state.withLock { state in
            if let other = state[keyPath: path][series] { return other }
            state[keyPath: path][series] = meter
            return meter
        }
    }
}

extension CircuitState {
    fileprivate var share: Double {
        switch self {
        case .closed: 0
        case .halfOpen: 0.5
        case .open: 1
        }
    }
}
#endif
