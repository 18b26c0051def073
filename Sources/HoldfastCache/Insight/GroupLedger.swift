// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// What a cache did for the keys of one group since it was made.
public struct CacheGroupStatistics: Sendable, Hashable {
    /// How often a fresh value was there.
    public var hits: UInt64 = 0
    /// How often it was remembered that there is nothing.
    public var negativeHits: UInt64 = 0
    /// How often nothing was there.
    public var misses: UInt64 = 0
    /// How many of those who missed joined a load that was under way.
    public var joins: UInt64 = 0
    /// How often a caller got a value that was not fresh.
    public var staleServes: UInt64 = 0
    /// How many loads gave a value.
    public var loads: UInt64 = 0
    /// How many failed.
    public var loadFailures: UInt64 = 0
    /// How long loads took.
    public var loadTimes = LatencyHistogram()

    /// Nothing happened yet.
    public init() {}
}

/// Counts by groups of keys, as the author of a cache groups them; see ``CacheConfiguration/group``.
@usableFromInline
final class GroupLedger<Key: Sendable>: Sendable {
    private let group: @Sendable (Key) -> String
    private let groups = Mutex<[String: CacheGroupStatistics]>([:])

    init(_ group: @escaping @Sendable (Key) -> String) { self.group = group }

    /// Counts something of a key; asks for its group outside of all locks.
    func count(_ key: Key, _ change: (inout CacheGroupStatistics) -> Void) {
        let name = self.group(key)
        self.groups.withLock { groups in
            let isKnown = groups[name] != nil || groups.count < CacheLimits.maximumGroups
            change(&groups[isKnown ? name : CacheLimits.otherGroup, default: CacheGroupStatistics()])
        }
    }

    /// Counts a read that found nothing, where only memory was asked.
    @usableFromInline
    func countMiss(_ key: Key) { self.count(key) { $0.misses &+= 1 } }

    /// What was counted so far.
    var all: [String: CacheGroupStatistics] { self.groups.withLock { $0 } }
}
