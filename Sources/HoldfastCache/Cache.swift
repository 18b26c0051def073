// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import Synchronization

/// Keeps values by key, and has each loaded once, however many ask for it at the same time.
///
/// Made by ``CacheService``. Reading from memory and writing to it work at any time; loads need the service to run.
///
/// What it promises: at most one load of a key is under way in this process, those aside that were given up, or that began
/// before the key was changed or a tag of it invalidated; its callers share the value or the error; what was loaded before an invalidation is not stored after it; a loader that never ends
/// frees its key at its deadline. What it does not: to keep anything, to be in step with the source between
/// invalidations, or to stop a loader that does not heed cancellation.
public final class Cache<Key: Hashable & Sendable, Value: Sendable>: Sendable {
    @usableFromInline
    typealias Shard = MemoryShard<Key, Value>

    @usableFromInline
    typealias Part = MemoryPart<Key, Value>

    /// What happened besides what the parts count.
    struct Counts: Sendable {
        var staleServes: UInt64 = 0
        var loads: UInt64 = 0
        var loadFailures: UInt64 = 0
        var abandoned: UInt64 = 0
        var superseded: UInt64 = 0
        var unlockedFills: UInt64 = 0
        var tierHits: UInt64 = 0
        var tierMisses: UInt64 = 0
        var tierFailures: UInt64 = 0
        var unreadable: UInt64 = 0
        var unshared: UInt64 = 0
        var invalidationFailures: UInt64 = 0
        /// Changes that were written through.
        var writes: UInt64 = 0
        var writeFailures: UInt64 = 0
        var loadTimes = LatencyHistogram()
        var loaderTimes = LatencyHistogram()
        /// Loaders that were given up and still run: of how many keys each.
        var lingering: [FlightID: Int] = [:]

        /// Counts the load of a key no more that has ended, if it had been given up and counted.
        mutating func landed(_ flight: Flight<Value>, wasAbandoned: Bool) {
            if wasAbandoned, flight.isLingering { self.count(flight.id, -1) }
        }

        /// Counts a key of such a loader, or counts it no more.
        mutating func count(_ id: FlightID, _ change: Int) {
            let keys = (self.lingering[id] ?? 0) + change
            self.lingering[id] = keys == 0 ? nil : keys
        }
    }

    /// The cache's name.
    public let name: String
    /// How entries live unless a call or a loader says otherwise.
    public let options: CacheOptions
    /// Those options as entries need them.
    @usableFromInline
    let rule: LifetimeRule
    @usableFromInline
    let service: CacheService
    @usableFromInline
    let generations = Generations()
    let counts = Mutex(Counts())
    /// What is to be forgotten later.
    let plans = InvalidationPlans<Key>()
    @usableFromInline
    let weigher: (@Sendable (Key, Value) -> Int)?
    @usableFromInline
    let onRemoval: (@Sendable (Key, Value, RemovalCause) -> Void)?
    /// What is counted by groups of keys, if anybody wants that.
    @usableFromInline
    let groups: GroupLedger<Key>?
    /// What it shares with other processes, if it does.
    let link: SharedLink<Key, Value>?
    /// How it writes to the source, if it does.
    let source: SourceLink<Key, Value>?
    let parts: [Part]
    /// The same, to be used without counting references: two threads that count those of one part slow each other down.
    @usableFromInline
    let places: [Unmanaged<Part>]
    @usableFromInline
    let mask: UInt64
    /// Whether every entry carries tags unless told otherwise.
    @usableFromInline
    let isTagged: Bool
    /// Whether a value can stand for nothing.
    @usableFromInline
    let mayBeNothing = Content<Value>.mayBeNothing

    init(
        name: String,
        configuration: CacheConfiguration<Key, Value>,
        service: CacheService,
        link: SharedLink<Key, Value>? = nil
    ) {
        self.name = name
        self.link = link
        self.source = configuration.writing.map { SourceLink($0, name, service: service) }
        self.options = configuration.options
        self.rule = LifetimeRule(configuration.options)
        self.isTagged = !configuration.options.tags.isEmpty
        self.service = service
        self.weigher = configuration.weigher
        self.onRemoval = configuration.onRemoval
        self.groups = configuration.group.map { GroupLedger($0) }
        let count = configuration.shardCount
        self.mask = UInt64(count - 1)
        // The rest of the division goes to the first parts.
        let (each, rest) = configuration.capacity.limit.quotientAndRemainder(dividingBy: count)
        let capacities = (0..<count).map { each + ($0 < rest ? 1 : 0) }
        self.parts = configuration.eviction.policies(capacities, seed: { service.random() }).map {
            Part(
                Shard(
                    $0,
                    now: service.clock.now,
                    seed: service.random(),
                    looksAlways: configuration.group != nil,
                    isShared: count > 1
                )
            )
        }
        self.places = self.parts.map { Unmanaged.passUnretained($0) }
    }

    /// The hash of a key; seeded anew in each process, so nobody outside can choose which keys collide.
    @inlinable
    static func hash(_ key: Key) -> UInt64 { UInt64(bitPattern: Int64(key.hashValue)) }

    /// Does something with the part of a key, under its lock.
    @inlinable
    @inline(__always)
    func locked<Result: Sendable>(_ hash: UInt64, _ body: (inout Shard) -> Result) -> Result {
        // The cache keeps its parts for as long as it is there itself.
        self.places[Int(truncatingIfNeeded: hash & self.mask)]._withUnsafeGuaranteedRef { $0.withLock(body) }
    }

    /// Looks at a key quickly, beside other readers.
    @inlinable
    @inline(__always)
    func glance(_ key: Key, _ hash: UInt64, suspectBelow: UInt64, countsMisses: Bool) -> Shard.Glance {
        self.places[Int(truncatingIfNeeded: hash & self.mask)]._withUnsafeGuaranteedRef {
            $0.glance(key, hash, suspectBelow: suspectBelow, countsMisses: countsMisses) { self.now }
        }
    }

    @inlinable
    func weight(_ key: Key, _ content: Content<Value>) -> Int {
        guard let weigher = self.weigher, case .value(let value) = content else { return 1 }
        return max(0, weigher(key, value))
    }

    /// The time.
    @usableFromInline
    var now: Int64 { self.service.clock.now }

    /// Changes the part of a key; tells of what left, and lets go of it, when the lock is free again.
    @inlinable
    func change<Result: Sendable>(
        _ hash: UInt64,
        _ body: (inout Shard, inout Removals<Key, Value>) -> Result
    ) -> Result {
        var removed = Removals<Key, Value>()
        let result = self.locked(hash) { body(&$0, &removed) }
        withExtendedLifetime(removed) { if let onRemoval = self.onRemoval { removed.announce(to: onRemoval) } }
        return result
    }

    /// Changes all parts, one after the other.
    func changeAll(_ body: (inout Shard, inout Removals<Key, Value>) -> Void) {
        for part in self.parts {
            var removed = Removals<Key, Value>()
            part.withLock { body(&$0, &removed) }
            withExtendedLifetime(removed) { if let onRemoval = self.onRemoval { removed.announce(to: onRemoval) } }
        }
    }
}

extension Cache: ServedCache {
    func sweep() {
        let now = self.service.clock.now
        self.changeAll { $0.expire(now: now, removed: &$1) }
    }

    func stop() {
        var flights: [Flight<Value>] = []
        self.changeAll { shard, _ in
            flights += shard.flights.values
            shard.flights = [:]
        }
        for flight in flights {
            flight.settle(.failure(CacheError(.notRunning, "the cache service has stopped")))
            flight.stop.wake(.stopped)
        }
    }

    /// What the cache did since it was made.
    ///
    /// - Returns: The statistics; parts of the memory are read one after the other.
    public func statistics() -> CacheStatistics {
        var memory = MemoryCounts()
        var statistics = CacheStatistics()
        self.changeAll { shard, _ in
            memory.add(shard.counts)
            statistics.count += shard.count
            statistics.weight += shard.weight
        }
        let counts = self.counts.withLock { $0 }
        statistics.hits = memory.hits
        statistics.negativeHits = memory.negativeHits
        statistics.misses = memory.misses
        statistics.joins = memory.joins
        statistics.evictions = memory.evictions
        statistics.expirations = memory.expirations
        statistics.invalidations = memory.invalidations
        statistics.staleServes = counts.staleServes
        statistics.loads = counts.loads
        statistics.loadFailures = counts.loadFailures
        statistics.abandonedLoads = counts.abandoned
        statistics.supersededLoads = counts.superseded
        statistics.unlockedFills = counts.unlockedFills
        statistics.tierHits = counts.tierHits
        statistics.tierMisses = counts.tierMisses
        statistics.tierFailures = counts.tierFailures
        statistics.unreadable = counts.unreadable
        statistics.unshared = counts.unshared
        statistics.invalidationFailures = counts.invalidationFailures
        statistics.loadTimes = counts.loadTimes
        statistics.loaderTimes = counts.loaderTimes
        if let times = self.link?.meter.times {
            statistics.tierReadTimes = times.tierReads
            statistics.tierWriteTimes = times.tierWrites
            statistics.lockWaitTimes = times.lockWaits
        }
        statistics.groups = self.groups?.all ?? [:]
        self.countWrites(&statistics)
        return statistics
    }
}
