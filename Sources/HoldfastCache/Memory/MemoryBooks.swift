// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// What a part of the memory knows of its entries besides keys and values: where they are, when they expire, which leave.
///
/// Apart from ``MemoryShard``, since nothing here depends on the types of a cache: one copy of the code, with nothing to
/// look up while it runs. Entries are slots, small numbers that are used again.
@usableFromInline
struct MemoryBooks: Sendable {
    /// How a value lives that is stored.
    @usableFromInline
    struct Terms: Sendable {
        @usableFromInline
        var weight: Int
        @usableFromInline
        var version: UInt64
        @usableFromInline
        var lifetime: Lifetime
        @usableFromInline
        var tags: TagSet?
        @usableFromInline
        var entityTag: String?
        @usableFromInline
        var origin: ValueOrigin

        @inlinable
        init(
            weight: Int,
            version: UInt64,
            lifetime: Lifetime,
            tags: TagSet?,
            entityTag: String? = nil,
            origin: ValueOrigin = .set
        ) {
            self.weight = weight
            self.version = version
            self.lifetime = lifetime
            self.tags = tags
            self.entityTag = entityTag
            self.origin = origin
        }

        /// Whether the entry neither expires nor carries anything.
        var arePlain: Bool { self.lifetime.isEndless && self.tags == nil && self.entityTag == nil }
    }

    /// What is kept for each slot; half a line of the processor's cache, since a write looks at one and an eviction at
    /// another.
    private struct Mark {
        var weight = 0
        var version: UInt64 = 0
        var storedAt: Int64 = 0
        /// The half of the key's hash that the index goes by.
        var fingerprint: UInt32 = 0
        /// Whether there is a ``Life``.
        var hasLife = false
        /// Where the value came from.
        var origin = ValueOrigin.set
    }

    /// What is kept besides of entries that expire or carry something.
    private struct Life {
        var lifetime = Lifetime()
        var readAt: Int64 = 0
        var tags: TagSet?
        var entityTag: String?
    }

    /// Where readers sit, and what their reads left behind; apart, since each line of the processor's cache that is written
    /// has to be fetched from the other processor, if that was here last.
    let seats: ReadSeats
    @usableFromInline
    var index = MemoryIndex()
    /// What happened, quick looks aside.
    @usableFromInline
    var counts = MemoryCounts()
    /// What became of keys lately.
    @usableFromInline
    var history = KeyHistory()
    /// What the policy is told of at once.
    private var told: ContiguousArray<Int32> = []
    /// Slots that leave because of the last change, until they are cleared.
    @usableFromInline
    private(set) var victims: [Int32] = []
    /// Where chance comes from.
    var generator: SplitMix64
    private var policy: any EvictionPolicy
    private let heedsDeadlines: Bool
    private var marks: ContiguousArray<Mark> = []
    /// As long as the highest slot needs that ever had one.
    private var lives: ContiguousArray<Life> = []
    private var wheel: ExpiryWheel
    private var free: [Int32] = []
    private var lastVersion: UInt64 = 0

    init(_ policy: any EvictionPolicy, now: Int64, seed: UInt64, isShared: Bool) {
        self.seats = ReadSeats(isShared: isShared)
        self.policy = policy
        self.heedsDeadlines = policy.heedsDeadlines
        self.generator = SplitMix64(seed: seed)
        self.wheel = ExpiryWheel(now: now)
        self.told.reserveCapacity(Int(ReadSeats.batch) * (self.seats.mask + 1))
    }

    /// How much the entries weigh.
    var weight: Int { self.policy.weight }
    /// How many slots there are, in use or not.
    @usableFromInline
    var slots: Int { self.marks.count }

    /// The version of what is stored next without a shared tier: above all that this part has given.
    @usableFromInline
    mutating func nextVersion() -> UInt64 {
        self.lastVersion += 1
        return self.lastVersion
    }

    /// How an entry lives that is stored now.
    @usableFromInline
    mutating func lifetime(_ rule: LifetimeRule, isNegative: Bool, now: Int64, loadTime: Int64) -> Lifetime {
        Lifetime(rule, isNegative: isNegative, now: now, loadTime: loadTime, using: &self.generator)
    }

    /// What is known of an entry.
    func record(_ slot: Int32) -> MemoryRecord {
        let mark = self.marks[Int(slot)]
        let life = mark.hasLife ? self.lives[Int(slot)] : Life(readAt: mark.storedAt)
        return MemoryRecord(
            version: mark.version,
            storedAt: mark.storedAt,
            readAt: life.readAt,
            lifetime: life.lifetime,
            tags: life.tags,
            entityTag: life.entityTag,
            origin: mark.origin
        )
    }

    /// When an entry expires.
    @usableFromInline
    func deadline(_ slot: Int32) -> Int64 {
        let record = self.record(slot)
        return record.lifetime.deadline(readAt: record.readAt)
    }

    /// Whether none of a tagged entry's tags was invalidated after a stamp.
    @usableFromInline
    func admits(_ slot: Int32, _ stamp: UInt64) -> Bool { self.lives[Int(slot)].tags?.admits(stamp) ?? true }

    // MARK: - Reading

    /// Notes that an entry was read.
    @usableFromInline
    mutating func touch(_ slot: Int32) {
        let seat = self.seats.own
        // Whoever filled it has not come to emptying it.
        if seat.pointee.count >= ReadSeats.batch { self.tellReads() }
        if seat.pointee.note(slot) { self.tellReads() }
    }

    /// Tells the policy of the reads; before anything that changes what a slot stands for.
    @usableFromInline
    mutating func tellReads() {
        guard self.seats.haveReads else { return }
        self.told.removeAll(keepingCapacity: true)
        self.seats.takeReads(into: &self.told)
        self.policy.hits(self.told)
    }

    // MARK: - Writing

    /// Takes a new entry in; some leave for it, itself among them when it is not let in.
    ///
    /// - Returns: Its slot.
    @usableFromInline
    mutating func admit(_ hash: UInt64, _ terms: Terms, now: Int64) -> Int32 {
        self.tellReads()
        let slot: Int32
        if let last = self.free.popLast() {
            slot = last
        } else {
            slot = Int32(self.marks.count)
            self.marks.append(Mark())
        }
        let fingerprint = MemoryIndex.fingerprint(hash)
        self.index.insert(fingerprint, slot)
        self.marks[Int(slot)] = Mark(
            weight: terms.weight,
            version: terms.version,
            storedAt: now,
            fingerprint: fingerprint,
            origin: terms.origin
        )
        let deadline = self.live(slot, terms, now: now)
        let entry = EvictionEntry(slot: slot, hash: hash, weight: terms.weight, deadline: deadline)
        self.policy.insert(entry, evicted: &self.victims)
        return slot
    }

    /// Takes note of another value of an entry; some leave for it if it is heavier, itself among them when it is too heavy.
    ///
    /// - Returns: Whether any can have left.
    @usableFromInline
    mutating func replace(_ slot: Int32, _ hash: UInt64, _ terms: Terms, now: Int64) -> Bool {
        let oldWeight = self.marks[Int(slot)].weight
        self.marks[Int(slot)].weight = terms.weight
        self.marks[Int(slot)].version = terms.version
        self.marks[Int(slot)].storedAt = now
        self.marks[Int(slot)].origin = terms.origin
        let deadline = self.live(slot, terms, now: now)
        guard oldWeight != terms.weight || self.heedsDeadlines else {
            self.touch(slot)
            return false
        }
        self.tellReads()
        self.policy.hit(slot)
        let entry = EvictionEntry(slot: slot, hash: hash, weight: terms.weight, deadline: deadline)
        self.policy.update(entry, evicted: &self.victims)
        return true
    }

    /// Notes how an entry lives.
    ///
    /// What neither expires nor carries anything needs no note.
    ///
    /// - Returns: When it may be dropped.
    private mutating func live(_ slot: Int32, _ terms: Terms, now: Int64) -> Int64 {
        if terms.arePlain {
            if self.marks[Int(slot)].hasLife { self.forgetLife(slot) }
            return .max
        }
        let life = Life(lifetime: terms.lifetime, readAt: now, tags: terms.tags, entityTag: terms.entityTag)
        self.keep(life, for: slot)
        return terms.lifetime.deadline(readAt: now)
    }

    private mutating func keep(_ life: Life, for slot: Int32) {
        while self.lives.count <= Int(slot) { self.lives.append(Life()) }
        self.lives[Int(slot)] = life
        self.marks[Int(slot)].hasLife = true
        self.wheel.schedule(slot, at: life.lifetime.deadline(readAt: life.readAt))
    }

    private mutating func forgetLife(_ slot: Int32) {
        self.wheel.cancel(slot)
        self.lives[Int(slot)] = Life()
        self.marks[Int(slot)].hasLife = false
    }

    /// Changes the times of an entry.
    ///
    /// - Returns: Until when a read need not look any closer.
    mutating func extend(_ slot: Int32, _ change: (inout MemoryRecord) -> Void) -> Int64 {
        var record = self.record(slot)
        change(&record)
        self.marks[Int(slot)].version = record.version
        self.marks[Int(slot)].storedAt = record.storedAt
        self.marks[Int(slot)].origin = record.origin
        let life = Life(
            lifetime: record.lifetime,
            readAt: record.readAt,
            tags: record.tags,
            entityTag: record.entityTag
        )
        self.keep(life, for: slot)
        return record.lifetime.nextLook
    }

    /// Makes every version the lowest.
    mutating func forgetVersions() {
        for slot in self.marks.indices { self.marks[slot].version = 0 }
    }

    /// The slot leaves: the policy is told.
    @usableFromInline
    mutating func remove(_ slot: Int32) {
        self.tellReads()
        self.policy.remove(slot)
    }

    /// Takes out what has expired, as victims.
    mutating func expire(now: Int64) {
        guard self.wheel.mayBeDue(at: now) else { return }
        self.tellReads()
        self.wheel.advance(to: now, due: &self.victims)
        for slot in self.victims { self.policy.remove(slot) }
    }

    /// Frees a slot that the policy has forgotten.
    @usableFromInline
    mutating func clear(_ slot: Int32, _ cause: KeyHistory.Cause, at time: Int64, detail: String?) {
        let fingerprint = self.marks[Int(slot)].fingerprint
        self.history.note(fingerprint: fingerprint, cause, at: time, detail: detail)
        self.index.remove(fingerprint, slot)
        if self.marks[Int(slot)].hasLife { self.forgetLife(slot) }
        self.free.append(slot)
        self.counts.count(cause.removal)
    }

    /// The next slot to clear, the last that leaves first.
    @usableFromInline
    mutating func nextVictim() -> Int32? { self.victims.popLast() }
}
