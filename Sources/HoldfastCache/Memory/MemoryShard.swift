// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// A part of the memory tier: entries, what leaves when it is full, when they expire, and which loads are under way.
///
/// A value, never copied; its owner keeps it behind a lock and runs no user code meanwhile (a key's `==`, `hash` and `cacheKey` aside).
@usableFromInline
struct MemoryShard<Key: Hashable & Sendable, Value: Sendable>: ~Copyable, Sendable {
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

    /// How many failures are remembered.
    private static var mostFailures: Int { 4096 }

    @usableFromInline
    var books: MemoryBooks
    @usableFromInline
    var entries: ContiguousArray<MemoryEntry<Key, Value>?> = []
    /// The loads under way that a new caller may join.
    @usableFromInline
    var flights: [Key: Flight<Value>] = [:]
    /// Loads that were given up and still run.
    @usableFromInline
    private(set) var abandoned: [Key: [Flight<Value>]] = [:]
    /// The last loads that brought something.
    var loads = LoadHistory()
    /// Whether each read is looked at closely: it is counted by its group, which a quick look cannot do.
    @usableFromInline
    let looksAlways: Bool
    /// Whether a value can stand for nothing, which is counted apart, and so looked at closely as well.
    @usableFromInline
    let mayBeNothing = Content<Value>.mayBeNothing
    /// Keys whose last load failed, without a value to keep: the error, and until when it is remembered.
    @usableFromInline
    var failures: [Key: Failure] = [:]
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
    ///   - looksAlways: Whether each read is looked at closely.
    ///   - isShared: Whether readers on different processors look at it at the same time.
    init(
        _ policy: any EvictionPolicy,
        now: Int64,
        seed: UInt64,
        looksAlways: Bool = false,
        isShared: Bool = false
    ) {
        self.looksAlways = looksAlways
        self.books = MemoryBooks(policy, now: now, seed: seed, isShared: isShared)
    }

    /// How many entries there are.
    var count: Int { self.books.index.count }
    /// How much they weigh.
    var weight: Int { self.books.weight }
    /// What happened.
    var counts: MemoryCounts {
        get {
            var counts = self.books.counts
            let quick = self.books.seats.counts
            counts.hits &+= quick.hits
            counts.misses &+= quick.misses
            return counts
        }
        _modify { yield &self.books.counts }
    }

    /// What became of keys lately.
    @inlinable
    var history: KeyHistory {
        _read { yield self.books.history }
        _modify { yield &self.books.history }
    }

    // MARK: - Reading

    @inlinable
    func slot(of key: Key, _ hash: UInt64) -> Int32 {
        self.books.index.find(hash) { self.entries[Int($0)]?.key == key }
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

    /// Looks at a key quickly; changes nothing, so that several may do so at once.
    ///
    /// - Returns: What was found, and where.
    @inlinable
    @inline(__always)
    func glance(_ key: Key, _ hash: UInt64, suspectBelow: UInt64, now: () -> Int64) -> (Glance, slot: Int32) {
        let slot = self.slot(of: key, hash)
        if slot < 0 { return (.miss, slot) }
        guard let entry = self.entries[Int(slot)], entry.stamp >= suspectBelow else { return (.look, slot) }
        guard entry.nextLook == .max || now() < entry.nextLook else { return (.look, slot) }
        if entry.isTagged, !self.books.admits(slot, entry.stamp) { return (.look, slot) }
        guard case .value(let value) = entry.content else { return (.look, slot) }
        return (.hit(value), slot)
    }

    /// Looks at the entry of a key, and counts that as a read.
    mutating func read(
        _ key: Key,
        _ hash: UInt64,
        now: Int64,
        suspectBelow: UInt64,
        removed: inout Removals<Key, Value>
    ) -> Found? {
        let slot = self.slot(of: key, hash)
        guard slot >= 0, let entry = self.entries[Int(slot)] else { return nil }
        let record = self.books.record(slot)
        if let tags = record.tags, let (tag, time) = tags.invalidated(after: entry.stamp) {
            self.take(slot, .tag, at: time, detail: tag, &removed)
            return nil
        }
        let deadline = record.lifetime.deadline(readAt: record.readAt)
        guard now < deadline else {
            self.take(slot, .expired, at: deadline, &removed)
            return nil
        }
        let standing = Self.standing(record.lifetime, now: now, using: &self.books.generator)
        if record.lifetime.idle != .max, standing == .fresh || standing == .refreshing {
            _ = self.books.extend(slot) { $0.readAt = now }
        }
        self.books.touch(slot)
        let isSuspect = entry.stamp < suspectBelow
        return Found(
            content: entry.content,
            standing: isSuspect ? .suspect : standing,
            record: record,
            tags: record.tags
        )
    }

    /// Looks at the entry of a key without counting it.
    func peek(_ key: Key, _ hash: UInt64) -> (MemoryEntry<Key, Value>, MemoryRecord)? {
        let slot = self.slot(of: key, hash)
        guard slot >= 0, let entry = self.entries[Int(slot)] else { return nil }
        return (entry, self.books.record(slot))
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
    @inlinable
    mutating func supersede(_ key: Key, removed: inout Removals<Key, Value>) {
        if !self.failures.isEmpty { self.forgetFailure(of: key, &removed) }
        if !self.flights.isEmpty || !self.abandoned.isEmpty { self.supersedeLoads(of: key) }
    }

    @usableFromInline
    mutating func supersedeLoads(of key: Key) {
        self.flights.removeValue(forKey: key)?.supersede()
        for flight in self.abandoned[key] ?? [] { flight.supersede() }
    }

    /// The same for all keys.
    mutating func supersedeAll(removed: inout Removals<Key, Value>) {
        removed.failures += self.failures.map { ($0.key, $0.value.error) }
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
    mutating func fail(_ key: Key, _ error: any Error, until time: Int64, removed: inout Removals<Key, Value>) {
        self.forgetFailure(of: key, &removed)
        // Whoever makes up keys that cannot be loaded shall not fill the memory.
        guard self.failures.count < Self.mostFailures else { return }
        self.failures[key] = Failure(error: error, until: time)
    }

    @usableFromInline
    mutating func forgetFailure(of key: Key, _ removed: inout Removals<Key, Value>) {
        guard let index = self.failures.index(forKey: key) else { return }
        let (key, failure) = self.failures.remove(at: index)
        removed.failures.append((key, failure.error))
    }

    /// How an entry lives that is stored now.
    @inlinable
    mutating func lifetime(_ rule: LifetimeRule, isNegative: Bool, now: Int64, loadTime: Int64) -> Lifetime {
        self.books.lifetime(rule, isNegative: isNegative, now: now, loadTime: loadTime)
    }

    /// The version of what is stored next without a shared tier.
    @inlinable
    mutating func nextVersion() -> UInt64 { self.books.nextVersion() }

    // MARK: - Writing

    /// Stores a value in the place of what was there.
    ///
    /// - Parameters:
    ///   - key: The key.
    ///   - hash: Its hash.
    ///   - content: The value.
    ///   - stamp: Against which invalidations it is known to be valid.
    ///   - terms: How it lives.
    ///   - now: The time.
    ///   - removed: What leaves for it.
    @inlinable
    mutating func store(
        _ key: Key,
        _ hash: UInt64,
        _ content: Content<Value>,
        stamp: UInt64,
        on terms: MemoryBooks.Terms,
        now: Int64,
        removed: inout Removals<Key, Value>
    ) {
        if !self.failures.isEmpty { self.forgetFailure(of: key, &removed) }
        let isLookedAt = self.looksAlways || self.mayBeNothing && content.isNegative
        let entry = MemoryEntry(
            key: key,
            content: content,
            nextLook: isLookedAt ? 0 : terms.lifetime.nextLook,
            stamp: stamp,
            isTagged: terms.tags != nil
        )
        var slot = self.slot(of: key, hash)
        if slot >= 0 {
            removed.append(self.entries[Int(slot)].take(), .replaced)
            self.entries[Int(slot)] = entry
            guard self.books.replace(slot, hash, terms, now: now) else { return }
        } else {
            slot = self.books.admit(hash, terms, now: now)
            if Int(slot) == self.entries.count { self.entries.append(entry) } else { self.entries[Int(slot)] = entry }
        }
        while let victim = self.books.nextVictim() { self.clear(victim, .evicted, at: now, &removed) }
    }

    /// Changes the times of an entry.
    mutating func extend(_ key: Key, _ hash: UInt64, _ change: (inout MemoryRecord) -> Void) {
        let slot = self.slot(of: key, hash)
        guard slot >= 0 else { return }
        let times = self.books.extend(slot, change)
        let isNothing = self.mayBeNothing && self.entries[Int(slot)]?.content.isNegative ?? false
        self.entries[Int(slot)]?.nextLook = self.looksAlways || isNothing ? 0 : times
    }

    /// An entry was found to be valid against all that was invalidated up to a stamp.
    mutating func restamp(_ key: Key, _ hash: UInt64, version: UInt64, stamp: UInt64) {
        let slot = self.slot(of: key, hash)
        guard slot >= 0, self.books.record(slot).version == version else { return }
        if let old = self.entries[Int(slot)]?.stamp, old < stamp { self.entries[Int(slot)]?.stamp = stamp }
    }

    /// Makes every version the lowest.
    mutating func forgetVersions() { self.books.forgetVersions() }

    /// Removes the entry of a key.
    @inlinable
    mutating func remove(
        _ key: Key,
        _ hash: UInt64,
        _ cause: KeyHistory.Cause,
        at now: Int64,
        removed: inout Removals<Key, Value>
    ) {
        let slot = self.slot(of: key, hash)
        if slot >= 0 { self.take(slot, cause, at: now, &removed) }
    }

    /// Removes the entry of a key if it is not valid against an invalidation.
    mutating func remove(
        _ key: Key,
        _ hash: UInt64,
        olderThan mark: UInt64,
        _ cause: KeyHistory.Cause,
        at now: Int64,
        detail: String?,
        removed: inout Removals<Key, Value>
    ) {
        let slot = self.slot(of: key, hash)
        guard slot >= 0, let entry = self.entries[Int(slot)], entry.stamp < mark else { return }
        self.take(slot, cause, at: now, detail: detail, &removed)
    }

    /// The keys of the entries, of the loads under way and of failures, in no order; some may be there twice.
    var keys: [Key] { self.entries.compactMap { $0?.key } + self.flights.keys + self.failures.keys }

    /// Removes all entries.
    mutating func removeAll(_ cause: KeyHistory.Cause, at now: Int64, removed: inout Removals<Key, Value>) {
        for slot in self.entries.indices where self.entries[slot] != nil {
            self.take(Int32(slot), cause, at: now, &removed)
        }
    }

    /// Removes what has expired.
    mutating func expire(now: Int64, removed: inout Removals<Key, Value>) {
        for (key, failure) in self.failures where failure.until <= now { self.forgetFailure(of: key, &removed) }
        self.books.expire(now: now)
        while let victim = self.books.nextVictim() {
            self.clear(victim, .expired, at: self.books.deadline(victim), &removed)
        }
    }

    /// Describes each entry, without order.
    func forEach(_ body: (MemoryEntry<Key, Value>, MemoryRecord) -> Void) {
        for slot in self.entries.indices {
            if let entry = self.entries[slot] { body(entry, self.books.record(Int32(slot))) }
        }
    }

    @inlinable
    mutating func take(
        _ slot: Int32,
        _ cause: KeyHistory.Cause,
        at now: Int64,
        detail: String? = nil,
        _ removed: inout Removals<Key, Value>
    ) {
        self.books.remove(slot)
        self.clear(slot, cause, at: now, detail: detail, &removed)
    }

    /// Empties a slot that the policy has forgotten.
    @inlinable
    mutating func clear(
        _ slot: Int32,
        _ cause: KeyHistory.Cause,
        at now: Int64,
        detail: String? = nil,
        _ removed: inout Removals<Key, Value>
    ) {
        removed.append(self.entries[Int(slot)].take(), cause.removal)
        self.books.clear(slot, cause, at: now, detail: detail)
    }
}
