// SPDX-License-Identifier: Apache-2.0

import HeapModule
import HoldfastCore

/// Which changes wait for the source, which are under way, and which are dead: a pure value.
///
/// What it keeps, whatever is done with it: of each key the last change wins; never two changes of a key are under way; a
/// change that was offered is waiting, under way or a dead letter until it is written, or another of its key has taken its
/// place.
struct WriteQueue<Key: Hashable & Sendable, Value: Sendable>: Sendable {
    typealias Change = CacheChange<Key, Value>
    typealias Letter = DeadLetter<Key, Value>

    /// Why a change was not written.
    struct Failure: Sendable {
        let error: any Error
        /// Whether trying again is of no use.
        var isPermanent = false
    }

    /// How a call of the writer ended.
    enum Outcome: Sendable {
        case written
        /// Some were not written, all others were.
        case partial([Key: Failure])
        /// None counts as written.
        case failed(Failure)
        /// It was stopped with the service: nothing is known, and nothing counted.
        case interrupted
    }

    /// What became of the changes of a call.
    struct Verdict: Sendable {
        var written: [Change] = []
        /// The new dead letters.
        var parked: [Letter] = []
        /// Whether a change would be a dead letter if there were room.
        var hasNoRoom = false
    }

    /// A change that is not written yet.
    private struct Pending: Sendable {
        var action: CacheAction<Value>
        var version: UInt64
        var offeredAt: Int64
        var attempts = 0
        /// Whether its next attempt is by itself.
        var isAlone = false
        var pauses: RetrySchedule
    }

    /// What is known of a key: a change that waits, one that is under way, or both.
    private struct Item: Sendable {
        var waiting: Pending?
        var underWay: Pending?
    }

    /// A place in a line.
    private struct Place: Sendable, Comparable {
        let due: Int64
        let ticket: UInt64

        static func < (left: Place, right: Place) -> Bool { (left.due, left.ticket) < (right.due, right.ticket) }
    }

    let options: WriteBehindOptions
    /// What happened so far.
    private(set) var counts = WriteCounts()
    /// The dead letters.
    private(set) var letters: [Key: Letter] = [:]
    /// Whether changes do not wait for others any more.
    var isDraining = false
    private var items: [Key: Item] = [:]
    /// Keys whose change waits for others to go with it, by the time when it waits no more.
    private var fresh = Heap<Place>()
    /// Keys whose change failed, by the time when it may be tried again.
    private var failed = Heap<Place>()
    private var holders: [UInt64: Key] = [:]
    private var nextTicket: UInt64 = 0
    /// How many changes the next call may have.
    private var share: Int
    /// Before this nothing is tried: the source did not work.
    private var restUntil: Int64 = .min
    private var rests: RetrySchedule

    /// Nothing waits.
    init(_ options: WriteBehindOptions) {
        self.options = options
        self.share = options.maximumBatch
        self.rests = RetrySchedule(base: options.shortestPause, cap: options.longestPause)
    }

    /// How many keys have changes that are not written, dead letters aside.
    var count: Int { self.items.count }

    /// Whether a change of a key may be offered.
    func hasRoom(for key: Key, besides reserved: Int) -> Bool {
        self.items[key] != nil || self.items.count + reserved < self.options.capacity
    }

    /// What the source will have for a key once all is written; `nil` when nothing is to be written.
    func pending(_ key: Key) -> CacheAction<Value>? {
        guard let item = self.items[key] else { return nil }
        return (item.waiting ?? item.underWay)?.action
    }

    // MARK: - Coming in

    /// Takes a change, in the place of any other of its key that is not under way.
    ///
    /// - Parameters:
    ///   - action: What becomes of the key.
    ///   - key: The key.
    ///   - version: Above that of all earlier changes of the key.
    ///   - now: The time.
    mutating func offer(_ action: CacheAction<Value>, for key: Key, version: UInt64, now: Int64) {
        if self.letters.removeValue(forKey: key) != nil { self.counts.coalesced &+= 1 }
        guard var item = self.items[key] else {
            self.insert(action, for: key, version: version, now: now)
            return
        }
        if var waiting = item.waiting {
            self.counts.coalesced &+= 1
            // It keeps its place, and its pause: what the source refused a moment ago is not sent at once.
            (waiting.action, waiting.version) = (action, version)
            (waiting.attempts, waiting.isAlone) = (0, false)
            item.waiting = waiting
        } else {
            item.waiting = self.pending(action, version, now)
        }
        self.items[key] = item
    }

    /// Takes a change that a journal remembers.
    mutating func restore(_ action: CacheAction<Value>, for key: Key, version: UInt64, isParked: Bool, now: Int64) {
        guard self.items[key] == nil, self.letters[key] == nil else {
            // Two texts of one key: the later is what it has become.
            return self.offer(action, for: key, version: version, now: now)
        }
        if isParked, self.letters.count < self.options.maximumDeadLetters {
            self.letters[key] = Letter(change: Change(key: key, action: action, version: version), error: nil)
        } else {
            self.insert(action, for: key, version: version, now: now)
        }
    }

    private mutating func insert(_ action: CacheAction<Value>, for key: Key, version: UInt64, now: Int64) {
        self.items[key] = Item(waiting: self.pending(action, version, now))
        self.line(key, at: now.after(self.options.maximumDelay), hasFailed: false)
    }

    private func pending(_ action: CacheAction<Value>, _ version: UInt64, _ now: Int64) -> Pending {
        let pauses = RetrySchedule(base: self.options.shortestPause, cap: self.options.longestPause)
        return Pending(action: action, version: version, offeredAt: now, pauses: pauses)
    }

    private mutating func line(_ key: Key, at due: Int64, hasFailed: Bool) {
        let place = Place(due: due, ticket: self.nextTicket)
        self.holders[self.nextTicket] = key
        self.nextTicket += 1
        if hasFailed { self.failed.insert(place) } else { self.fresh.insert(place) }
    }

    // MARK: - Going out

    /// When to ask for a batch again; `nil` when nothing waits.
    var nextLook: Int64? {
        let retry = self.failed.min?.due
        let first = self.isFull ? .min : self.fresh.min?.due
        guard let due = [retry, first].compactMap(\.self).min() else { return nil }
        return max(due, self.restUntil)
    }

    /// Whether what waits for others to go with it need not wait.
    private var isFull: Bool {
        !self.fresh.isEmpty && (self.isDraining || self.fresh.count >= self.options.maximumBatch)
    }

    /// The changes to write now, which are under way from then on.
    ///
    /// - Parameter now: The time.
    /// - Returns: Changes of different keys; none when nothing is due.
    mutating func nextBatch(now: Int64) -> [Change] {
        guard now >= self.restUntil else { return [] }
        let takesFresh = self.isFull || self.fresh.min.map { $0.due <= now } ?? false
        var batch: [Change] = []
        while batch.count < self.share {
            let isRetry = self.failed.min.map { $0.due <= now } ?? false
            guard let place = isRetry ? self.failed.min : takesFresh ? self.fresh.min : nil,
                let key = self.holders[place.ticket], var pending = self.items[key]?.waiting
            else { break }
            let isAlone = pending.isAlone || self.isLast(pending.attempts + 1)
            if isAlone, !batch.isEmpty { break }
            if isRetry { self.failed.removeMin() } else { self.fresh.removeMin() }
            self.holders[place.ticket] = nil
            if pending.attempts > 0 { self.counts.retries &+= 1 }
            pending.attempts += 1
            self.items[key] = Item(waiting: nil, underWay: pending)
            batch.append(
                Change(key: key, action: pending.action, version: pending.version, attempt: pending.attempts)
            )
            if isAlone { break }
        }
        return batch
    }

    private func isLast(_ attempt: Int) -> Bool { self.options.maximumAttempts.map { attempt >= $0 } ?? false }

    /// Takes note of how a call of the writer ended.
    ///
    /// - Parameters:
    ///   - batch: Its changes, from ``nextBatch(now:)``.
    ///   - outcome: How it ended.
    ///   - now: The time.
    ///   - generator: Where jitter comes from.
    /// - Returns: What became of the changes.
    mutating func finish(
        _ batch: [Change],
        _ outcome: Outcome,
        now: Int64,
        using generator: inout some RandomNumberGenerator
    ) -> Verdict {
        var verdict = Verdict()
        switch outcome {
        case .written, .partial:
            self.share = min(self.options.maximumBatch, self.share * 2)
            self.rests.reset()
        case .failed:
            self.share = max(1, self.share / 2)
            self.restUntil = max(self.restUntil, now.after(self.rests.next(using: &generator)))
        case .interrupted: break
        }
        for change in batch {
            guard let item = self.items[change.key], let pending = item.underWay else { continue }
            var failure: Failure?
            var isItsOwn = batch.count == 1
            switch outcome {
            case .written: break
            case .partial(let failures):
                failure = failures[change.key]
                isItsOwn = true
            case .failed(let all): failure = all
            case .interrupted:
                self.putBack(change.key, item, pending, now)
                continue
            }
            guard let failure else {
                verdict.written.append(change)
                self.counts.written &+= 1
                self.items[change.key] = nil
                if let next = item.waiting { self.goOn(change.key, next, at: nil, now) }
                continue
            }
            self.counts.failures &+= 1
            var pauses = pending.pauses
            let pause = isItsOwn ? now.after(pauses.next(using: &generator)) : now
            if let next = item.waiting {
                // Nobody needs the old one any more.
                self.counts.coalesced &+= 1
                self.goOn(change.key, next, at: pause, now)
                continue
            }
            var retry = pending
            retry.pauses = pauses
            let isOver = failure.isPermanent || self.isLast(pending.attempts)
            if isOver, isItsOwn {
                guard self.letters.count >= self.options.maximumDeadLetters else {
                    let letter = Letter(change: change, error: failure.error)
                    self.letters[change.key] = letter
                    self.items[change.key] = nil
                    self.counts.parked &+= 1
                    verdict.parked.append(letter)
                    continue
                }
                verdict.hasNoRoom = true
                self.goOn(change.key, retry, at: now.after(self.options.longestPause), now)
                continue
            }
            if isOver { retry.isAlone = true }
            self.goOn(change.key, retry, at: pause, now)
        }
        return verdict
    }

    /// A change waits again, at a time if it failed.
    private mutating func goOn(_ key: Key, _ pending: Pending, at retry: Int64?, _ now: Int64) {
        self.items[key] = Item(waiting: pending)
        self.line(key, at: retry ?? pending.offeredAt.after(self.options.maximumDelay), hasFailed: retry != nil)
    }

    private mutating func putBack(_ key: Key, _ item: Item, _ pending: Pending, _ now: Int64) {
        var pending = item.waiting ?? pending
        if item.waiting == nil { pending.attempts -= 1 } else { self.counts.coalesced &+= 1 }
        self.goOn(key, pending, at: nil, now)
    }

    // MARK: - Dead letters

    /// Has dead letters be tried again, as if they had just been offered.
    ///
    /// - Parameters:
    ///   - keys: Theirs.
    ///   - now: The time.
    /// - Returns: How many there were.
    mutating func revive(_ keys: [Key], now: Int64) -> Int {
        var count = 0
        for key in keys {
            guard let letter = self.letters.removeValue(forKey: key) else { continue }
            self.insert(letter.change.action, for: key, version: letter.change.version, now: now)
            count += 1
        }
        return count
    }

    /// Forgets dead letters.
    ///
    /// - Parameter keys: Theirs.
    /// - Returns: The versions of those that there were.
    mutating func discard(_ keys: [Key]) -> [UInt64] {
        keys.compactMap { self.letters.removeValue(forKey: $0)?.change.version }
    }
}

/// What was done with changes, in all.
struct WriteCounts: Sendable, Hashable {
    var written: UInt64 = 0
    /// Attempts, one for each change.
    var failures: UInt64 = 0
    var retries: UInt64 = 0
    var coalesced: UInt64 = 0
    var parked: UInt64 = 0
}
