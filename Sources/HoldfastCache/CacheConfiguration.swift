// SPDX-License-Identifier: Apache-2.0

import Glibc

/// How much a cache keeps in memory, and what leaves when that is full.
public struct CacheCapacity: Sendable, Hashable {
    /// The sum of the weights that fit.
    public let limit: Int
    /// Whether entries weigh what a weigher says, and not 1 each.
    public let isWeighed: Bool

    /// So many entries.
    ///
    /// - Parameter limit: 1 or more.
    /// - Returns: The capacity.
    public static func entries(_ limit: Int) -> CacheCapacity { CacheCapacity(limit: limit, isWeighed: false) }

    /// Entries that together weigh so much: bytes, or what else a weigher says.
    ///
    /// - Parameter limit: 1 or more.
    /// - Returns: The capacity.
    public static func weight(_ limit: Int) -> CacheCapacity { CacheCapacity(limit: limit, isWeighed: true) }
}

/// What a cache is: its memory, its policy, and how its entries live.
public struct CacheConfiguration<Key: Hashable & Sendable, Value: Sendable>: Sendable {
    /// How much is kept in memory.
    ///
    /// 10,000 entries by default.
    public var capacity = CacheCapacity.entries(10_000)
    /// What an entry weighs, 0 or more; 0 is never evicted.
    ///
    /// Called outside of all locks, once for each stored value; its answer counts while the value is there. Explanations
    /// call it too.
    public var weigher: (@Sendable (Key, Value) -> Int)?
    /// What leaves when the memory is full.
    public var eviction = Eviction.adaptive
    /// How entries live unless a call or a loader says otherwise.
    public var options = CacheOptions()
    /// Into how many parts the memory is divided, each with a lock of its own; a power of two.
    ///
    /// `nil` for one that fits the capacity: small caches are not divided, since each part evicts by itself.
    public var shards: Int?
    /// Told of each value that left the memory, after it did, on the thread that made it leave.
    public var onRemoval: (@Sendable (Key, Value, RemovalCause) -> Void)?
    /// How ``Cache/write(_:for:options:)`` and ``Cache/erase(_:)`` write to the source; `nil` for not at all.
    public var writing: CacheWriting<Key, Value>?

    /// The group of a key, for statistics: a tenant, a kind of page.
    ///
    /// The first ``CacheLimits/maximumGroups`` groups are counted, the keys of others as ``CacheLimits/otherGroup``. Called
    /// outside of all locks, for each read; with it a hit takes some tenths of a microsecond longer. `nil` by default, and
    /// then it costs nothing.
    public var group: (@Sendable (Key) -> String)?

    /// The largest value, in bytes, that is written to a shared tier or read from it; of no meaning without one.
    ///
    /// 1 MiB by default.
    public var maximumSharedValue = CacheLimits.defaultMaximumValue
    /// The lease of the lock under which one process loads for all; of no meaning without one.
    ///
    /// It is renewed while the load goes on. When the process dies, another begins after this at the latest. 5 s by
    /// default.
    public var fillLease: Duration = .seconds(5)

    /// Makes a configuration with the defaults.
    public init() {}

    /// The most parts, however many cores there are.
    private static var mostShards: Int { 64 }
    /// How many parts there are for each core: then two threads rarely meet.
    private static var shardsOfCore: Int { 32 }
    /// How many entries a part should have at least: with fewer, chance fills some parts sooner than others.
    private static var smallestShard: Int { 1024 }
    /// How much weight a part should have at least, when entries are weighed: no entry may be heavier than a part.
    private static var smallestWeight: Int { 16 << 20 }

    /// Into how many parts the memory is divided.
    var shardCount: Int {
        if let shards = self.shards { return shards }
        let wanted = self.capacity.limit / (self.capacity.isWeighed ? Self.smallestWeight : Self.smallestShard)
        let most = min(Self.mostShards, Self.shardsOfCore * sysconf(Int32(_SC_NPROCESSORS_ONLN)))
        var count = 1
        while count * 2 <= wanted, count * 2 <= most { count *= 2 }
        return count
    }

    /// Checks the numbers.
    ///
    /// - Throws: ``CacheError`` with code ``CacheError/Code/invalidArgument``.
    func validate() throws(CacheError) {
        guard self.capacity.limit > 0 else { throw CacheError(.invalidArgument, "capacity must be above zero") }
        if self.capacity.isWeighed, self.weigher == nil {
            throw CacheError(.invalidArgument, "a capacity by weight needs a weigher")
        }
        let count = self.shardCount
        guard count > 0, count & (count - 1) == 0, count <= 1024, count <= self.capacity.limit else {
            throw CacheError(
                .invalidArgument,
                "shards must be a power of two from 1 to 1024, and not above the capacity"
            )
        }
        guard (1...CacheLimits.largestValue).contains(self.maximumSharedValue) else {
            throw CacheError(.invalidArgument, "maximumSharedValue must be 1 to \(CacheLimits.largestValue) bytes")
        }
        guard self.fillLease >= .milliseconds(100), self.fillLease <= CacheLimits.longestLoad else {
            throw CacheError(.invalidArgument, "fillLease must be from 100 ms to an hour")
        }
        try self.writing?.validate()
        try self.options.validate()
    }
}
