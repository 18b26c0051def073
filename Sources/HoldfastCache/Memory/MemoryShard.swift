// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// A part of the memory tier: entries, what leaves when it is full, when they expire, and which loads are under way.
///
/// A value; its owner keeps it behind a lock and runs no user code meanwhile (a key's `==`, `hash` and `cacheKey` aside).
@usableFromInline
struct MemoryShard<Key: Hashable & Sendable, Value: Sendable>: Sendable {
    /// What a reader finds.
    @usableFromInline
    struct Found: Sendable {
        let content: Content<Value>
        let standing: Standing
        let record: MemoryRecord
        let tags: TagSet?
    }

    /// What may be done with an entry that was found.
    @usableFromInline
    enum Standing: Sendable, Hashable {
        /// Give it.
        case fresh
        /// Give it, and have it loaded anew.
        case refreshing
        /// Give it, and have it loaded anew: it expired not long ago.
        case revalidating
        /// Load; if that fails, give it.
        case stale
        /// Give it, since a load failed a moment ago.
        case resting
        /// Ask the shared tier whether it is still that one.
        case suspect
    }

    /// What came out, for whoever wants to hear of it.
    @usableFromInline
    struct Removal: Sendable {
        @usableFromInline
        let key: Key
        @usableFromInline
        let content: Content<Value>
        @usableFromInline
        let cause: RemovalCause

        @inlinable
        init(key: Key, content: Content<Value>, cause: RemovalCause) {
            self.key = key
            self.content = content
            self.cause = cause
        }
    }

    /// A value to store.
    @usableFromInline
    struct Arrival: Sendable {
        @usableFromInline
        var content: Content<Value>
        @usableFromInline
        var weight: Int
        @usableFromInline
        var lifetime: Lifetime
        @usableFromInline
        var stamp: UInt64
        @usableFromInline
        var version: UInt64
        @usableFromInline
        var tags: TagSet?
        @usableFromInline
        var entityTag: String?
        @usableFromInline
        var origin: ValueOrigin

        @inlinable
        init(
            content: Content<Value>,
            weight: Int,
            lifetime: Lifetime,
            stamp: UInt64,
            version: UInt64,
            tags: TagSet?,
            entityTag: String? = nil,
            origin: ValueOrigin = .set
        ) {
            self.content = content
            self.weight = weight
            self.lifetime = lifetime
            self.stamp = stamp
            self.version = version
            self.tags = tags
            self.entityTag = entityTag
            self.origin = origin
        }
    }

    /// How many failures are remembered.
    private static var mostFailures: Int { 4096 }

    @usableFromInline
    var index = MemoryIndex()
    @usableFromInline
    var entries: ContiguousArray<MemoryEntry<Key, Value>?> = []
    @usableFromInline
    var records: ContiguousArray<MemoryRecord> = []
    @usableFromInline
    var free: [Int32] = []
    @usableFromInline
    var policy: any EvictionPolicy
    @usableFromInline
    var wheel: ExpiryWheel
    @usableFromInline
    var victims: [Int32] = []
    /// Entries that were read and that the policy has not heard of yet: told together, its steps through memory overlap.
    @usableFromInline
    var touched: ContiguousArray<Int32> = []
    /// The loads under way that a new caller may join.
    @usableFromInline
    var flights: [Key: Flight<Value>] = [:]
    /// Loads that were given up and still run.
    private(set) var abandoned: [Key: [Flight<Value>]] = [:]
    /// Where chance comes from.
    var generator: SplitMix64
    /// Whether anybody wants to hear of what leaves.
    @usableFromInline
    let tellsRemovals: Bool
    /// Whether each read is looked at closely: it is counted by its group, which a quick look cannot do.
    @usableFromInline
    let looksAlways: Bool
    /// Keys whose last load failed, without a value to keep: the error, and until when it is remembered.
    @usableFromInline
    var failures: [Key: Failure] = [:]
    /// What happened.
    @usableFromInline
    var counts = MemoryCounts()
    /// What became of keys lately.
    @usableFromInline
    var history = KeyHistory()

    /// An error that is remembered.
    @usableFromInline
    struct Failure: Sendable {
        let error: any Error
        let until: Int64
    }

    /// Makes a shard.
    ///
    /// - Parameters:
    ///   - policy: What leaves when it is full.
    ///   - now: The time.
    ///   - seed: For chance.
    ///   - tellsRemovals: Whether anybody wants to hear of what leaves.
    ///   - looksAlways: Whether each read is looked at closely.
    init(_ policy: any EvictionPolicy, now: Int64, seed: UInt64, tellsRemovals: Bool, looksAlways: Bool = false) {
        self.looksAlways = looksAlways
        self.tellsRemovals = tellsRemovals
        self.policy = policy
        self.generator = SplitMix64(seed: seed)
        self.wheel = ExpiryWheel(now: now)
        self.touched.reserveCapacity(Self.batch)
    }

    /// How many entries there are.
    var count: Int { self.index.count }
    /// How much they weigh.
    var weight: Int { self.policy.weight }

    // MARK: - Reading

    @inlinable
    func slot(of key: Key, _ hash: UInt64) -> Int32 {
        self.index.find(hash) { self.entries[Int($0)]?.key == key }
    }

    /// How many reads the policy is told of at once.
    @usableFromInline
    static var batch: Int { 32 }

    /// Notes that an entry was read.
    @inlinable
    mutating func touch(_ slot: Int32) {
        self.touched.append(slot)
        if self.touched.count == Self.batch { self.tellReads() }
    }

    /// Tells the policy of the reads; before anything that changes what a slot stands for.
    @usableFromInline
    mutating func tellReads() {
        guard !self.touched.isEmpty else { return }
        self.policy.hits(self.touched)
        self.touched.removeAll(keepingCapacity: true)
    }

    /// What a quick look at a key finds.
    @usableFromInline
    enum Glance: Sendable {
        /// A value that may be given without another thought.
        case hit(Value)
        /// Nothing.
        case miss
        /// Something that must be looked at more closely.
        case look
    }

    /// Looks at a key quickly.
    @inlinable
    mutating func glance(_ key: Key, _ hash: UInt64, suspectBelow: UInt64, now: () -> Int64) -> Glance {
        let slot = self.slot(of: key, hash)
        if slot < 0 { return .miss }
        guard let entry = self.entries[Int(slot)], entry.stamp >= suspectBelow else { return .look }
        guard entry.nextLook == .max || now() < entry.nextLook else { return .look }
        if let tags = entry.tags, !tags.admits(entry.stamp) { return .look }
        guard case .value(let value) = entry.content else { return .look }
        self.touch(slot)
        self.counts.hits &+= 1
        return .hit(value)
    }

    /// Looks at the entry of a key, and counts that as a read.
    mutating func read(
        _ key: Key,
        _ hash: UInt64,
        now: Int64,
        suspectBelow: UInt64,
        removed: inout [Removal]
    ) -> Found? {
        let slot = self.slot(of: key, hash)
        guard slot >= 0, let entry = self.entries[Int(slot)] else { return nil }
        var record = self.records[Int(slot)]
        if let tags = entry.tags, let (tag, time) = tags.invalidated(after: entry.stamp) {
            self.take(slot, .tag, at: time, detail: tag, &removed)
            return nil
        }
        let deadline = record.lifetime.deadline(readAt: record.readAt)
        guard now < deadline else {
            self.take(slot, .expired, at: deadline, &removed)
            return nil
        }
        let standing = Self.standing(record.lifetime, now: now, using: &self.generator)
        if record.lifetime.idle != .max, standing == .fresh || standing == .refreshing {
            record.readAt = now
            self.records[Int(slot)].readAt = now
            self.wheel.schedule(slot, at: record.lifetime.deadline(readAt: now))
        }
        self.touch(slot)
        let isSuspect = entry.stamp < suspectBelow
        return Found(
            content: entry.content,
            standing: isSuspect ? .suspect : standing,
            record: record,
            tags: entry.tags
        )
    }

    /// Looks at the entry of a key without counting it.
    func peek(_ key: Key, _ hash: UInt64) -> (MemoryEntry<Key, Value>, MemoryRecord)? {
        let slot = self.slot(of: key, hash)
        guard slot >= 0, let entry = self.entries[Int(slot)] else { return nil }
        return (entry, self.records[Int(slot)])
    }

    static func standing(
        _ lifetime: Lifetime,
        now: Int64,
        using generator: inout some RandomNumberGenerator
    ) -> Standing {
        if now < lifetime.freshUntil {
            return lifetime.wantsRefresh(at: now, using: &generator) ? .refreshing : .fresh
        }
        if now < lifetime.retryAt { return .resting }
        return now < lifetime.revalidateUntil ? .revalidating : .stale
    }

    // MARK: - Loads

    /// Has what is loaded for a key not be stored, and nobody join it any more.
    @usableFromInline
    mutating func supersede(_ key: Key) {
        if !self.failures.isEmpty { self.failures[key] = nil }
        if !self.flights.isEmpty { self.flights.removeValue(forKey: key)?.supersede() }
        if !self.abandoned.isEmpty { for flight in self.abandoned[key] ?? [] { flight.supersede() } }
    }

    /// The same for all keys.
    mutating func supersedeAll() {
        self.failures = [:]
        for flight in self.flights.values { flight.supersede() }
        for flight in self.abandoned.values.joined() { flight.supersede() }
        self.flights = [:]
    }

    /// Gives a load up: it is under way, but nobody joins it any more.
    ///
    /// - Returns: Whether it was under way.
    mutating func abandon(_ key: Key, _ flight: Flight<Value>) -> Bool {
        guard !flight.hasLanded, !(self.abandoned[key] ?? []).contains(where: { $0 === flight }) else { return false }
        if self.flights[key] === flight { self.flights[key] = nil }
        self.abandoned[key, default: []].append(flight)
        return true
    }

    /// A load has ended.
    ///
    /// - Returns: Whether it had been given up.
    mutating func land(_ key: Key, _ flight: Flight<Value>) -> Bool {
        flight.land()
        if self.flights[key] === flight { self.flights[key] = nil }
        guard let others = self.abandoned[key], let place = others.firstIndex(where: { $0 === flight }) else {
            return false
        }
        self.abandoned[key]?.remove(at: place)
        if others.count == 1 { self.abandoned[key] = nil }
        return true
    }

    /// Remembers that a load failed.
    mutating func fail(_ key: Key, _ error: any Error, until time: Int64) {
        // Whoever makes up keys that cannot be loaded shall not fill the memory.
        guard self.failures.count < Self.mostFailures || self.failures[key] != nil else { return }
        self.failures[key] = Failure(error: error, until: time)
    }

    /// How an entry lives that is stored now.
    @usableFromInline
    mutating func lifetime(_ options: CacheOptions, isNegative: Bool, now: Int64, loadTime: Int64) -> Lifetime {
        Lifetime(options, isNegative: isNegative, now: now, loadTime: loadTime, using: &self.generator)
    }

    // MARK: - Writing

    /// Stores a value in the place of what was there.
    @inlinable
    mutating func store(
        _ key: Key,
        _ hash: UInt64,
        _ arrival: Arrival,
        now: Int64,
        removed: inout [Removal]
    ) {
        if !self.failures.isEmpty { self.failures[key] = nil }
        self.tellReads()
        let entry = MemoryEntry(
            key: key,
            content: arrival.content,
            nextLook: self.looksAlways ? 0 : arrival.lifetime.nextLook,
            stamp: arrival.stamp,
            tags: arrival.tags
        )
        let record = MemoryRecord(
            hash: hash,
            version: arrival.version,
            now: now,
            lifetime: arrival.lifetime,
            entityTag: arrival.entityTag,
            origin: arrival.origin
        )
        let deadline = arrival.lifetime.deadline(readAt: now)
        let old = self.slot(of: key, hash)
        let slot = old >= 0 ? old : self.newSlot()
        if old < 0 {
            self.index.insert(hash, slot)
        } else if self.tellsRemovals, let entry = self.entries[Int(old)] {
            removed.append(Removal(key: entry.key, content: entry.content, cause: .replaced))
        }
        self.entries[Int(slot)] = entry
        self.records[Int(slot)] = record
        self.wheel.schedule(slot, at: deadline)
        let known = EvictionEntry(slot: slot, hash: hash, weight: arrival.weight, deadline: deadline)
        if old >= 0 {
            self.policy.hit(slot)
            self.policy.update(known, evicted: &self.victims)
        } else {
            self.policy.insert(known, evicted: &self.victims)
        }
        for victim in self.victims { self.clear(victim, .evicted, at: now, &removed) }
        self.victims.removeAll(keepingCapacity: true)
    }

    /// Changes the times of an entry.
    mutating func extend(_ key: Key, _ hash: UInt64, _ change: (inout MemoryRecord) -> Void) {
        let slot = self.slot(of: key, hash)
        guard slot >= 0 else { return }
        change(&self.records[Int(slot)])
        let record = self.records[Int(slot)]
        let nextLook = self.looksAlways ? 0 : record.lifetime.nextLook
        self.entries[Int(slot)]?.nextLook = nextLook
        self.wheel.schedule(slot, at: record.lifetime.deadline(readAt: record.readAt))
    }

    /// An entry was found to be valid against all that was invalidated up to a stamp.
    mutating func restamp(_ key: Key, _ hash: UInt64, version: UInt64, stamp: UInt64) {
        let slot = self.slot(of: key, hash)
        guard slot >= 0, self.records[Int(slot)].version == version else { return }
        if let old = self.entries[Int(slot)]?.stamp, old < stamp { self.entries[Int(slot)]?.stamp = stamp }
    }

    /// Makes every version the lowest.
    mutating func forgetVersions() {
        for slot in self.records.indices { self.records[slot].version = 0 }
    }

    /// Removes the entry of a key.
    @inlinable
    mutating func remove(
        _ key: Key,
        _ hash: UInt64,
        _ cause: KeyHistory.Cause,
        at now: Int64,
        removed: inout [Removal]
    ) {
        let slot = self.slot(of: key, hash)
        if slot >= 0 { self.take(slot, cause, at: now, &removed) }
    }

    /// Removes the entries that a rule names.
    mutating func removeAll(
        _ cause: KeyHistory.Cause,
        at now: Int64,
        detail: String? = nil,
        removed: inout [Removal],
        where matches: (Key, UInt64) -> Bool
    ) {
        for slot in self.entries.indices {
            guard let entry = self.entries[slot], matches(entry.key, entry.stamp) else { continue }
            self.take(Int32(slot), cause, at: now, detail: detail, &removed)
        }
    }

    /// Removes what has expired.
    mutating func expire(now: Int64, removed: inout [Removal]) {
        if !self.failures.isEmpty { self.failures = self.failures.filter { $0.value.until > now } }
        guard self.wheel.mayBeDue(at: now) else { return }
        self.tellReads()
        self.wheel.advance(to: now, due: &self.victims)
        for slot in self.victims {
            self.policy.remove(slot)
            let record = self.records[Int(slot)]
            self.clear(slot, .expired, at: record.lifetime.deadline(readAt: record.readAt), &removed)
        }
        self.victims.removeAll(keepingCapacity: true)
    }

    /// Describes each entry, without order.
    func forEach(_ body: (MemoryEntry<Key, Value>, MemoryRecord) -> Void) {
        for slot in self.entries.indices {
            if let entry = self.entries[slot] { body(entry, self.records[slot]) }
        }
    }

    @inlinable
    mutating func take(
        _ slot: Int32,
        _ cause: KeyHistory.Cause,
        at now: Int64,
        detail: String? = nil,
        _ removed: inout [Removal]
    ) {
        self.tellReads()
        self.policy.remove(slot)
        self.clear(slot, cause, at: now, detail: detail, &removed)
    }

    /// Empties a slot that the policy has forgotten.
    @inlinable
    mutating func clear(
        _ slot: Int32,
        _ cause: KeyHistory.Cause,
        at now: Int64,
        detail: String? = nil,
        _ removed: inout [Removal]
    ) {
        self.history.note(self.records[Int(slot)].hash, cause, at: now, detail: detail)
        self.index.remove(self.records[Int(slot)].hash, slot)
        self.wheel.cancel(slot)
        if self.tellsRemovals, let entry = self.entries[Int(slot)] {
            removed.append(Removal(key: entry.key, content: entry.content, cause: cause.removal))
        }
        self.entries[Int(slot)] = nil
        self.free.append(slot)
        self.counts.count(cause.removal)
    }

    @inlinable
    mutating func newSlot() -> Int32 {
        if let slot = self.free.popLast() { return slot }
        self.entries.append(nil)
        self.records.append(MemoryRecord())
        return Int32(self.entries.count - 1)
    }
}
