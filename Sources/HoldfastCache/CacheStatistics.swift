// SPDX-License-Identifier: Apache-2.0

/// What a cache did since it was made.
public struct CacheStatistics: Sendable, Hashable {
    /// How often a fresh value was there.
    public var hits: UInt64 = 0
    /// How often it was remembered that there is nothing.
    public var negativeHits: UInt64 = 0
    /// How often a caller got a value that was not fresh.
    public var staleServes: UInt64 = 0
    /// How often nothing was there.
    public var misses: UInt64 = 0
    /// How many of those who missed joined a load that was under way.
    public var joins: UInt64 = 0
    /// How many loads gave a value.
    public var loads: UInt64 = 0
    /// How many failed.
    public var loadFailures: UInt64 = 0
    /// How many were given up.
    public var abandonedLoads: UInt64 = 0
    /// How many gave a value that had been invalidated meanwhile.
    public var supersededLoads: UInt64 = 0
    /// How many ran without the lock that they should have had.
    public var unlockedFills: UInt64 = 0
    /// How often the shared tier had what was not in memory.
    public var tierHits: UInt64 = 0
    /// How often it had not.
    public var tierMisses: UInt64 = 0
    /// How often it did not work.
    public var tierFailures: UInt64 = 0
    /// How often it had something that could not be read.
    public var unreadable: UInt64 = 0
    /// How many values were too large or too odd to be written to it.
    public var unshared: UInt64 = 0
    /// How many scheduled invalidations did not reach it.
    public var invalidationFailures: UInt64 = 0
    /// How many changes were written to the source.
    public var writes: UInt64 = 0
    /// How many attempts to write a change failed.
    public var writeFailures: UInt64 = 0
    /// How many changes were tried again.
    public var writeRetries: UInt64 = 0
    /// How many changes were not written, since another of the same key took their place.
    public var coalescedWrites: UInt64 = 0
    /// How many changes became dead letters.
    public var parkedWrites: UInt64 = 0
    /// How many keys have changes that are not written yet.
    public var pendingWrites = 0
    /// How many dead letters there are.
    public var deadLetters = 0
    /// How long loads took, waiting for their turn and the tier included.
    public var loadTimes = LatencyHistogram()
    /// How long their loaders took, also those that failed.
    public var loaderTimes = LatencyHistogram()
    /// How long reads of the shared tier took, also those that failed.
    public var tierReadTimes = LatencyHistogram()
    /// How long writes, removals and invalidations took there, also those that failed.
    public var tierWriteTimes = LatencyHistogram()
    /// How long loads waited for their turn among the processes.
    public var lockWaitTimes = LatencyHistogram()
    /// What was counted by groups of keys; empty without ``CacheConfiguration/group``.
    public var groups: [String: CacheGroupStatistics] = [:]
    /// How many entries left for want of room.
    public var evictions: UInt64 = 0
    /// How many expired.
    public var expirations: UInt64 = 0
    /// How many were removed or invalidated.
    public var invalidations: UInt64 = 0
    /// How many entries are in memory.
    public var count = 0
    /// What they weigh.
    public var weight = 0

    /// The part of the reads that got a fresh value or a remembered absence, 0 to 1; 0 before the first read.
    public var hitRatio: Double {
        let found = Double(self.hits + self.negativeHits)
        let all = found + Double(self.misses) + Double(self.staleServes)
        return all == 0 ? 0 : found / all
    }

    /// The same by layers: memory, then the tier, then the loader.
    public var layers: [CacheLayerStatistics] {
        [
            CacheLayerStatistics(
                layer: .memory,
                hits: self.hits &+ self.negativeHits &+ self.staleServes,
                misses: self.misses
            ),
            CacheLayerStatistics(
                layer: .tier,
                hits: self.tierHits,
                misses: self.tierMisses,
                failures: self.tierFailures,
                times: self.tierReadTimes
            ),
            CacheLayerStatistics(
                layer: .loader,
                hits: self.loads,
                failures: self.loadFailures,
                times: self.loaderTimes
            ),
        ]
    }
}

/// What one layer of a cache did since the cache was made.
public struct CacheLayerStatistics: Sendable, Hashable {
    /// Where values come from.
    public enum Layer: String, Sendable, Hashable, CaseIterable {
        case memory, tier, loader
    }

    /// Which.
    public var layer: Layer
    /// How often it gave something.
    public var hits: UInt64 = 0
    /// How often it had nothing.
    public var misses: UInt64 = 0
    /// How often it did not work.
    public var failures: UInt64 = 0
    /// How long it took to answer; empty for memory, which is not measured.
    public var times = LatencyHistogram()
}

/// Durations, counted in buckets that grow by a quarter: a quantile is right within 12 %.
public struct LatencyHistogram: Sendable, Hashable {
    /// From 1 µs to more than an hour.
    private static let buckets = 100
    private var counts: [UInt64] = []
    /// How many durations were counted.
    public private(set) var count: UInt64 = 0
    /// Their sum.
    public private(set) var total: Duration = .zero
    /// The longest.
    public private(set) var longest: Duration = .zero

    /// Nothing was counted.
    public init() {}

    /// Counts a duration.
    public mutating func record(_ duration: Duration) {
        if self.counts.isEmpty { self.counts = Array(repeating: 0, count: Self.buckets) }
        let (seconds, attoseconds) = duration.components
        let microseconds = Double(seconds) * 1e6 + Double(attoseconds) * 1e-12
        var (bucket, bound) = (0, 1.0)
        while bound < microseconds, bucket < Self.buckets - 1 {
            bound *= 1.25
            bucket += 1
        }
        self.counts[bucket] += 1
        self.count += 1
        self.total += duration
        self.longest = max(self.longest, duration)
    }

    /// Durations of about the same length.
    public struct Bucket: Sendable, Hashable {
        /// What none of them exceeds; those of the last bucket may.
        public let upTo: Duration
        /// How many there are.
        public let count: UInt64
    }

    /// The buckets that are not empty, the shortest durations first.
    public var buckets: [Bucket] {
        var bound = 1.0
        return self.counts.compactMap { count in
            defer { bound *= 1.25 }
            return count == 0 ? nil : Bucket(upTo: .nanoseconds(Int64(bound * 1000)), count: count)
        }
    }

    /// A duration that a part of all does not exceed.
    ///
    /// - Parameter part: 0 to 1: 0.99 for the 99th percentile.
    /// - Returns: The upper bound of its bucket; zero when nothing was counted.
    public func quantile(_ part: Double) -> Duration {
        let rank = UInt64((Double(self.count) * min(max(part, 0), 1)).rounded(.up))
        var (seen, bound) = (UInt64(0), 1.0)
        for count in self.counts {
            seen += count
            if seen >= rank, seen > 0 { return min(.nanoseconds(Int64(bound * 1000)), self.longest) }
            bound *= 1.25
        }
        return self.longest
    }
}
