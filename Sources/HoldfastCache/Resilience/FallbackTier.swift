// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore
import Synchronization

/// A tier that another stands in for while it does not work.
///
/// ```swift
/// let tier = FallbackTier(primary: RedisCacheTier(one), secondary: RedisCacheTier(other))
/// let caches = try CacheService(tier: tier, bus: bus, locks: locks)
/// ```
///
/// After three failures of the primary in a row, or one that took long while nothing else came through, calls go to the
/// secondary; after a pause, one of them tries the primary again, after longer ones each time that it fails. The call that
/// tries takes as long as the primary lets it.
///
/// **Nothing is resurrected.** What is changed during an outage (removals, invalidations, values that were set) is written
/// down in the secondary before it takes effect there, by every process. Whoever returns tells the primary all that is
/// written down, also by processes that are gone, and reads no entry of it before; what is changed while he does is told to
/// both. Then he makes the secondary's entries invalid, so that the next outage does not find them. When the primary works
/// again and the secondary does not, nobody knows what others wrote down: all that the process has used of the primary is
/// made invalid. A change that the primary does not take is told as one of everything; while it does not take that, the
/// secondary stays in use, and ``CacheEvent/tierReturnFailed(tier:error:)`` says why.
///
/// A process that starts may be the only one left after an outage, so its first call reads what is written down, and tells
/// the primary. While the secondary does not answer, the process does not believe what the primary has from before it
/// started, and loads that anew; others still get it. To make it invalid for all would empty the cache with each process that
/// starts, and to wait would make the secondary as needed as the primary. What is written down is asked for again after
/// pauses.
///
/// **Numbers.** Versions and marks of the two are told apart by their lowest bit. A version of one tier is in the other only
/// where nothing is, and a value that was loaded under marks of one is refused by the other, with version 0. All processes
/// must use the same two tiers in the same way. Entries from before this type was used may read as invalid; who stops using
/// it must take another prefix, since what it wrote would outlast invalidations.
///
/// **What it does not promise.** Processes find out about an outage by themselves. While one of them uses the secondary and
/// another the primary, each hears of the other's changes by the bus only: what it has in memory is right, what it reads from
/// its tier may be as old as the entry's time to live, and ``secondaryLife`` at most in the secondary. Loads under a lock are
/// not written down: after the outage, an entry from before it may come back that nobody changed meanwhile, until its time
/// to live is over.
public final class FallbackTier: CacheTier {
    /// What happened so far.
    public struct Counts: Sendable, Hashable {
        /// How often the secondary took over.
        public var outages = 0
        /// How many calls it got.
        public var secondaryCalls = 0
        /// How many changes of outages the primary was told afterwards; everything in a namespace counts once.
        public var replayed = 0
        /// How many writes were refused since their values were loaded under marks of the other tier.
        public var refusedWrites = 0
    }

    /// What it does from now on.
    enum Switch: Sendable {
        case toSecondary(any Error)
        case toPrimary
        /// The primary could not be told of an outage: it goes on as before.
        case failed(any Error)
    }

    struct State: Sendable {
        var breaker = CircuitBreaker()
        /// Whether the secondary is used.
        var isOut = false
        /// Whether the primary is being told of the outage; what is changed meanwhile is told to both.
        var isReturning = false
        /// Why some of that did not reach the primary.
        var missed: (any Error)?
        /// How often it changed between the two.
        var switches: UInt64 = 0
        /// What of the primary is not believed: what is older, in nanoseconds of the clock, since nobody could read yet what
        /// was written down.
        var doubtedBefore: Int64?
        /// When that is tried again.
        var review = Review()
        /// Which attempt to return is the last.
        var attempt = 0
        /// What was changed in this outage.
        var logs: [String: OutageLog] = [:]
        /// The namespaces that were used so far.
        var namespaces: Set<String> = []
        /// Those whose secondary has what an outage before this one left.
        var leftovers: Set<String> = []
        var counts = Counts()
        var listeners: [@Sendable (Switch) -> Void] = []
    }

    /// How long an entry lives in the secondary at most.
    public let secondaryLife: Duration
    let primary: any CacheTier
    let secondary: any CacheTier
    let clock: CacheClock
    let state = Mutex(State())

    /// Joins two tiers; nothing is sent.
    ///
    /// - Parameters:
    ///   - primary: The one to use while it works.
    ///   - secondary: The one to use otherwise; it may be slower or smaller, and starts empty.
    ///   - secondaryLife: How long an entry lives in the secondary at most, 1 ms or more. What two processes that use
    ///     different tiers do not know of each other is over then. 5 min by default.
    ///   - clock: What the pauses between tries are counted on; another one in tests only.
    public init(
        primary: any CacheTier,
        secondary: any CacheTier,
        secondaryLife: Duration = .seconds(300),
        clock: any LeaseClock = ContinuousClock()
    ) {
        self.primary = primary
        self.secondary = secondary
        self.secondaryLife = max(secondaryLife, .milliseconds(1))
        self.clock = CacheClock(clock)
        let now = self.clock.now
        self.state.withLock { $0.doubtedBefore = now }
    }

    /// The names of both: `redis+disk`.
    public var name: String { "\(self.primary.name)+\(self.secondary.name)" }

    /// That of the primary.
    public var timeout: Duration? { self.primary.timeout }

    /// Whether the secondary is used.
    public var isOut: Bool { self.state.withLock { $0.isOut } }

    /// How often it changed between the two.
    public var switches: UInt64 { self.state.withLock { $0.switches } }

    /// What happened so far.
    public var counts: Counts { self.state.withLock { $0.counts } }

    /// Tells of each switch, outside of all locks.
    func watch(_ listener: @escaping @Sendable (Switch) -> Void) {
        self.state.withLock { $0.listeners.append(listener) }
    }

    func tell(_ change: Switch) {
        for listener in self.state.withLock({ $0.listeners }) { listener(change) }
    }

    // MARK: - CacheTier

    /// Does the work of both tiers.
    public func run() async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await self.primary.run() }
            group.addTask { try await self.secondary.run() }
            try await group.waitForAll()
        }
    }

    /// See ``CacheTier``.
    public func read(_ keys: [String], in namespace: String) async throws -> TierReading {
        try CacheLimits.check(keys, in: namespace)
        return try await self.ask(namespace) { tier, side in
            let believed = side == .primary ? self.longestBelieved : nil
            var reading = try await tier.read(keys, in: namespace)
            for place in reading.entries.indices {
                if let believed, reading.entries[place].age >= believed { reading.entries[place].payload = nil }
                reading.entries[place].version = side.outward(reading.entries[place].version)
            }
            reading.marks.current = side.outwardMark(reading.marks.current)
            reading.marks.all = side.outward(reading.marks.all)
            reading.marks.prefixes = reading.marks.prefixes.mapValues(side.outward)
            return reading
        }
    }

    /// See ``CacheTier``.
    public func write(_ writes: [TierWrite], in namespace: String) async throws -> [TierWriteReply] {
        try CacheLimits.check(writes.map(\.key), in: namespace)
        // What was loaded under a lock is no change: nobody saw anything else.
        let changed = OutageLog(keys: writes.filter { $0.token == 0 }.map(\.key))
        return try await self.ask(namespace, changing: changed) { tier, side in
            let own = writes.map { self.translated($0, for: side) }
            let left = own.compactMap(\.self)
            var next = (left.isEmpty ? [] : try await tier.write(left, in: namespace)).makeIterator()
            self.state.withLock { $0.counts.refusedWrites += own.count { $0 == nil } }
            return own.map { write in
                guard write != nil, let reply = next.next() else { return .refused(version: 0) }
                switch reply {
                case .written(let version): return .written(version: side.outward(version))
                case .refused(let version): return .refused(version: side.outward(version))
                }
            }
        }
    }

    /// A write with the tier's own numbers; `nil` when it was loaded under marks of the other one.
    private func translated(_ write: TierWrite, for side: TierSide) -> TierWrite? {
        var write = write
        // What is written whatever is there, or has no mark, was not loaded before.
        if let mark = Envelope.mark(of: write.payload) {
            guard write.condition == .always ? side.owns(mark) : mark & 1 == side.rawValue else { return nil }
        }
        if case .version(let version) = write.condition {
            // What the other tier had is not here: all that may be here is nothing.
            write.condition = .version(side.owns(version) ? side.inward(version) : 0)
        }
        if side == .secondary { write.timeToLive = min(write.timeToLive, self.secondaryLife) }
        return write
    }

    /// See ``CacheTier``.
    public func remove(_ keys: [String], in namespace: String, keepFor: Duration) async throws -> [UInt64] {
        // What no tier takes must not be written down.
        try CacheLimits.check(keys, in: namespace)
        return try await self.ask(namespace, changing: OutageLog(keys: keys)) { tier, side in
            try await tier.remove(keys, in: namespace, keepFor: keepFor).map(side.outward)
        }
    }

    /// See ``CacheTier``.
    public func invalidate(
        _ scope: InvalidationScope,
        in namespace: String,
        keepFor: Duration
    ) async throws -> UInt64 {
        try CacheLimits.check(scope, in: namespace)
        return try await self.ask(namespace, changing: OutageLog(scope)) { tier, side in
            side.outward(try await tier.invalidate(scope, in: namespace, keepFor: keepFor))
        }
    }

    /// See ``CacheTier``.
    public func marks(of tags: [String], in namespace: String) async throws -> [UInt64] {
        try CacheLimits.check(tags: tags, in: namespace)
        return try await self.ask(namespace) { tier, side in
            try await tier.marks(of: tags, in: namespace).map(side.outward)
        }
    }

    /// See ``CacheTier``; a list that a switch interrupted is refused, and must begin anew.
    public func keys(in namespace: String, prefix: String, after cursor: String?) async throws -> TierKeyPage {
        try CacheLimits.check([prefix], in: namespace)
        return try await self.ask(namespace) { tier, side in
            let mark = side == .primary ? "p" : "s"
            guard cursor?.hasPrefix(mark) ?? true else {
                throw CacheError(
                    .invalidArgument,
                    "the place to go on with a list of keys is not one of the tier that is used now"
                )
            }
            var page = try await tier.keys(in: namespace, prefix: prefix, after: cursor.map { String($0.dropFirst()) })
            page.next = page.next.map { mark + $0 }
            return page
        }
    }
}
