// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// What a load may have to wait for besides its loader.
public enum CacheStep: String, Sendable, Hashable, CaseIterable {
    /// A read of the shared tier.
    case tierRead
    /// A write to the shared tier, a removal or an invalidation there.
    case tierWrite
    /// Its turn among the processes.
    case lockWait
}

/// Measures how long the steps of a shared cache take.
final class LayerMeter: Sendable {
    /// What was measured so far.
    struct Times: Sendable {
        var tierReads = LatencyHistogram()
        var tierWrites = LatencyHistogram()
        var lockWaits = LatencyHistogram()
    }

    private let cache: String
    private let clock: CacheClock
    private let observer: (any CacheObserver)?
    private let measured = Mutex(Times())

    init(cache: String, clock: CacheClock, observer: (any CacheObserver)?) {
        self.cache = cache
        self.clock = clock
        self.observer = observer
    }

    /// What was measured so far.
    var times: Times { self.measured.withLock { $0 } }

    /// Measures a step, also one that fails.
    func measure<Result: Sendable>(_ step: CacheStep, _ body: () async throws -> Result) async rethrows -> Result {
        let start = self.clock.now
        defer { self.record(step, .nanoseconds(self.clock.now - start)) }
        return try await body()
    }

    private func record(_ step: CacheStep, _ duration: Duration) {
        self.measured.withLock { times in
            switch step {
            case .tierRead: times.tierReads.record(duration)
            case .tierWrite: times.tierWrites.record(duration)
            case .lockWait: times.lockWaits.record(duration)
            }
        }
        self.observer?.observe(.timed(cache: self.cache, step: step, duration: duration))
    }
}
