// SPDX-License-Identifier: Apache-2.0

public import HoldfastCache
public import HoldfastCore
import Synchronization

/// A shared tier in memory, for tests of caches: keeps the whole contract, and fails when told to.
///
/// ```swift
/// let tier = MemoryCacheTier()
/// tier.fault = .fail            // from here on, as if the server were down
/// #expect(try await cache.value(for: "a") { … } == …)
/// tier.fault = .none
/// ```
///
/// Several caches that share one tier are as several processes with one server. With a `ManualClock`, entries end when the
/// test says so.
public final class MemoryCacheTier: CacheTier {
    /// How often something was asked for, also where it failed.
    public struct Counts: Sendable, Hashable {
        /// Calls of ``MemoryCacheTier/read(_:in:)``.
        public var reads = 0
        /// Calls of ``MemoryCacheTier/write(_:in:)``.
        public var writes = 0
        /// Calls of ``MemoryCacheTier/remove(_:in:keepFor:)``.
        public var removals = 0
        /// Calls of ``MemoryCacheTier/invalidate(_:in:keepFor:)``.
        public var invalidations = 0
    }

    // By bytes: two texts of other bytes can be equal to Swift, and are two keys on a server.
    private struct Place: Hashable {
        let namespace: [UInt8]
        let key: [UInt8]

        init(_ namespace: String, _ key: String) {
            self.namespace = Array(namespace.utf8)
            self.key = Array(key.utf8)
        }
    }

    private struct Slot {
        var payload: [UInt8]?
        let version: UInt64
        let writtenAt: ContinuousClock.Instant
        var token: UInt64
        /// The version on the condition of which it was written.
        let ground: UInt64
        /// When the entry ends; a tombstone may stay behind.
        let entryEnd: ContinuousClock.Instant
        let end: ContinuousClock.Instant
        let leavesTombstone: Bool

        /// On which ground somebody writes over this who saw a version; `nil` when he may not.
        func ground(for token: UInt64, _ seen: UInt64) -> UInt64? {
            let areBothHeld = self.token != 0 && token != 0
            if areBothHeld, self.token > token { return nil }
            if self.version == seen { return seen }
            return areBothHeld && self.token < token && self.ground <= seen ? self.ground : nil
        }
    }

    private struct Mark {
        let mark: UInt64
        let end: ContinuousClock.Instant
    }

    private struct Namespace {
        var current: UInt64 = 0
        var all: UInt64 = 0
        var prefixes: [[UInt8]: Mark] = [:]
        var tags: [[UInt8]: Mark] = [:]

        /// Invalidates everything: no prefix says more.
        mutating func setAll(_ mark: UInt64) {
            self.all = mark
            self.prefixes = [:]
        }
    }

    private struct State {
        var last: UInt64 = 0
        var counts = Counts()
        var slots: [Place: Slot] = [:]
        var namespaces: [[UInt8]: Namespace] = [:]

        /// The next version or mark: higher than all before, whatever is gone since.
        mutating func next() -> UInt64 {
            self.last += 1
            return self.last
        }

        mutating func slot(_ place: Place, _ now: ContinuousClock.Instant) -> Slot? {
            guard var slot = self.slots[place] else { return nil }
            if slot.end <= now {
                self.slots[place] = nil
                return nil
            }
            if slot.entryEnd <= now {
                slot.payload = nil
                slot.token = 0
                self.slots[place] = slot
            }
            return slot
        }
    }

    /// How many keys one page lists.
    private static let keysPerPage = 100

    /// What it says of itself.
    public let name: String
    private let clock: any LeaseClock
    private let gate: FaultGate
    private let state = Mutex(State())

    /// Makes an empty tier.
    ///
    /// - Parameters:
    ///   - name: What it says of itself.
    ///   - clock: What times to live are counted on.
    public init(name: String = "memory", clock: any LeaseClock = ContinuousClock()) {
        self.name = name
        self.clock = clock
        self.gate = FaultGate("the memory tier", clock)
    }

    /// How it misbehaves from now on.
    public var fault: CacheFault {
        get { self.gate.fault }
        set { self.gate.fault = newValue }
    }

    /// How often something was asked for so far.
    public var counts: Counts { self.state.withLock { $0.counts } }

    /// Loses all entries, tombstones and marks, as a server that restarts without its data.
    public func forget() {
        self.state.withLock { state in
            state.slots = [:]
            state.namespaces = [:]
        }
    }

    // MARK: - CacheTier

    /// Returns at once.
    public func run() async throws {}

    /// See `CacheTier`.
    public func read(_ keys: [String], in namespace: String) async throws -> TierReading {
        try CacheLimits.check(keys, in: namespace)
        self.state.withLock { $0.counts.reads += 1 }
        return try await self.gate.pass {
            let now = self.clock.now
            return self.state.withLock { state in
                let entries = keys.map { key in
                    state.slot(Place(namespace, key), now)
                        .map { slot in
                            let age = slot.writtenAt.duration(to: now)
                            return TierEntry(payload: slot.payload, version: slot.version, age: age)
                        } ?? .absent
                }
                let known = state.namespaces[Array(namespace.utf8)] ?? Namespace()
                var marks = TierMarks(current: known.current, all: known.all)
                for (bytes, mark) in known.prefixes where mark.end > now {
                    let prefix = String(decoding: bytes, as: UTF8.self)
                    if let other = marks.prefixes[prefix] { marks.all = max(marks.all, mark.mark, other) }
                    marks.prefixes[prefix] = mark.mark
                }
                return TierReading(entries: entries, marks: marks)
            }
        }
    }

    /// See `CacheTier`.
    public func write(_ writes: [TierWrite], in namespace: String) async throws -> [TierWriteReply] {
        try CacheLimits.check(writes.map(\.key), in: namespace)
        self.state.withLock { $0.counts.writes += 1 }
        return try await self.gate.pass {
            let now = self.clock.now
            return self.state.withLock { state in
                writes.map { write in
                    let place = Place(namespace, write.key)
                    let was = state.slot(place, now)
                    var ground: UInt64?
                    if case .version(let version) = write.condition {
                        ground = version
                        if let was {
                            guard let allowed = was.ground(for: write.token, version) else {
                                return .refused(version: was.version)
                            }
                            ground = allowed
                        }
                    }
                    let version = state.next()
                    let end = now.advanced(by: Self.life(write.timeToLive))
                    let tombstone = was.flatMap { $0.leavesTombstone ? $0.end : nil }
                    state.slots[place] = Slot(
                        payload: write.payload,
                        version: version,
                        writtenAt: now,
                        token: write.token,
                        ground: ground ?? version,
                        entryEnd: end,
                        end: max(end, tombstone ?? end),
                        leavesTombstone: tombstone.map { $0 > end } ?? false
                    )
                    return .written(version: version)
                }
            }
        }
    }

    /// See `CacheTier`.
    public func remove(_ keys: [String], in namespace: String, keepFor: Duration) async throws -> [UInt64] {
        try CacheLimits.check(keys, in: namespace)
        self.state.withLock { $0.counts.removals += 1 }
        return try await self.gate.pass {
            let now = self.clock.now
            return self.state.withLock { state in
                keys.map { key in
                    let place = Place(namespace, key)
                    let end = now.advanced(by: Self.life(keepFor))
                    let before = state.slot(place, now).flatMap { $0.leavesTombstone ? $0.end : nil }
                    let version = state.next()
                    state.slots[place] = Slot(
                        payload: nil,
                        version: version,
                        writtenAt: now,
                        token: 0,
                        ground: version,
                        entryEnd: now,
                        end: max(end, before ?? end),
                        leavesTombstone: true
                    )
                    return version
                }
            }
        }
    }

    /// See `CacheTier`.
    public func invalidate(
        _ scope: InvalidationScope,
        in namespace: String,
        keepFor: Duration
    ) async throws -> UInt64 {
        try CacheLimits.check(scope, in: namespace)
        self.state.withLock { $0.counts.invalidations += 1 }
        return try await self.gate.pass {
            let now = self.clock.now
            return self.state.withLock { state in
                let mark = state.next()
                let end = now.advanced(by: Self.life(keepFor))
                var known = state.namespaces[Array(namespace.utf8)] ?? Namespace()
                known.current = mark
                switch scope {
                case .all: known.setAll(mark)
                case .tag(let tag):
                    let bytes = Array(tag.utf8)
                    known.tags[bytes] = Mark(mark: mark, end: max(end, known.tags[bytes]?.end ?? end))
                case .prefix(let prefix):
                    let bytes = Array(prefix.utf8)
                    known.prefixes = known.prefixes.filter { $0.value.end > now && !$0.key.starts(with: bytes) }
                    if bytes.isEmpty || known.prefixes.count >= CacheLimits.maximumPrefixes {
                        known.setAll(mark)
                    } else {
                        known.prefixes[bytes] = Mark(mark: mark, end: end)
                    }
                }
                state.namespaces[Array(namespace.utf8)] = known
                return mark
            }
        }
    }

    /// See `CacheTier`.
    public func marks(of tags: [String], in namespace: String) async throws -> [UInt64] {
        try CacheLimits.check(tags: tags, in: namespace)
        return try await self.gate.pass {
            let now = self.clock.now
            return self.state.withLock { state in
                let known = state.namespaces[Array(namespace.utf8)]?.tags ?? [:]
                return tags.map { tag in known[Array(tag.utf8)].flatMap { $0.end > now ? $0.mark : nil } ?? 0 }
            }
        }
    }

    /// See `CacheTier`.
    public func keys(in namespace: String, prefix: String, after cursor: String?) async throws -> TierKeyPage {
        try CacheLimits.check([prefix], in: namespace)
        guard let start = Int(cursor ?? "0"), start >= 0 else {
            throw CacheError(.invalidArgument, "the place to go on with a list of keys is not one of the memory tier")
        }
        return try await self.gate.pass {
            let now = self.clock.now
            let (space, text) = (Array(namespace.utf8), Array(prefix.utf8))
            let found = self.state.withLock { state in
                state.slots.filter { place, slot in
                    place.namespace == space && place.key.starts(with: text) && slot.payload != nil
                        && slot.entryEnd > now
                }
            }
            let keys = found.keys.map(\.key).sorted { $0.lexicographicallyPrecedes($1) }.dropFirst(start)
            return TierKeyPage(
                keys: keys.prefix(Self.keysPerPage).map { String(decoding: $0, as: UTF8.self) },
                next: keys.count > Self.keysPerPage ? String(start + Self.keysPerPage) : nil
            )
        }
    }

    private static func life(_ duration: Duration) -> Duration {
        min(max(duration, .milliseconds(1)), .seconds(10 * 365 * 24 * 60 * 60))
    }
}
