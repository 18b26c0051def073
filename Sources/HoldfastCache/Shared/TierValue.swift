// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// An entry of a tier, decoded.
struct TierValue<Value: Sendable>: Sendable {
    let content: Content<Value>
    let terms: EntryTerms
    /// How long ago it was written, in nanoseconds.
    let age: Int64
    let place: TierPlace
    /// Against which invalidations it is valid.
    let mark: UInt64

    /// What may be done with it.
    var standing: MemoryShard<String, Value>.Standing {
        if self.age < self.terms.freshFor { return .fresh }
        return self.age < self.terms.revalidateFor ? .revalidating : .stale
    }
}

/// What was seen at a key of a tier: what must still be there for a write to take effect, and what it is valid against.
struct TierPlace: Sendable, Hashable {
    let version: UInt64
    let mark: UInt64
}

/// How an entry lives that several processes share: times in nanoseconds since it was written, and what was said of it.
struct EntryTerms: Sendable, Hashable {
    var freshFor: Int64
    var revalidateFor: Int64
    var keptFor: Int64
    var loadTime: Int64
    var entityTag: String?
    /// Sorted.
    var tags: [String]

    /// Those of an entry that begins now.
    init(_ lifetime: Lifetime, now: Int64, loadTime: Int64, entityTag: String?, tags: Set<String>) {
        func length(_ end: Int64) -> Int64 { end == .max ? .max : max(0, end - now) }
        self.freshFor = length(lifetime.freshUntil)
        self.revalidateFor = length(lifetime.revalidateUntil)
        self.keptFor = length(lifetime.keptUntil)
        self.loadTime = max(0, loadTime)
        self.entityTag = entityTag
        self.tags = tags.sorted()
    }

    /// Those of an envelope.
    init(_ envelope: Envelope) {
        self.freshFor = envelope.freshFor
        self.revalidateFor = envelope.revalidateFor
        self.keptFor = envelope.keptFor
        self.loadTime = envelope.loadTime
        self.entityTag = envelope.entityTag
        self.tags = envelope.tags
    }

    /// How the entry was to live; `nil` once its time to live was ended by hand.
    var term: LifeTerm? {
        guard self.freshFor > 0 else { return nil }
        return LifeTerm(
            fresh: self.freshFor,
            revalidates: self.revalidateFor - self.freshFor,
            keeps: self.keptFor - self.freshFor
        )
    }

    /// Those of the same entry once its time to live was ended by hand; what may still be done with it counts from now.
    ///
    /// - Parameter age: For how long it lives, in nanoseconds.
    /// - Returns: The terms of a new entry, or `nil` when nothing may be done with it any more.
    func expired(at age: Int64) -> EntryTerms? {
        let end = min(age, self.freshFor)
        var terms = self
        terms.freshFor = 0
        // What was stale already stays as stale as it is.
        let over = age - end
        terms.revalidateFor = self.freshFor == .max ? 0 : max(0, self.revalidateFor - self.freshFor - over)
        terms.keptFor = self.freshFor == .max ? 0 : max(0, self.keptFor - self.freshFor - over)
        return terms.keptFor > 0 ? terms : nil
    }

    /// An envelope without a payload.
    func envelope(codec: UInt8, mark: UInt64) -> Envelope {
        var envelope = Envelope(codec: codec)
        envelope.mark = mark
        envelope.freshFor = self.freshFor
        envelope.revalidateFor = self.revalidateFor
        envelope.keptFor = self.keptFor
        envelope.loadTime = self.loadTime
        envelope.entityTag = self.entityTag
        envelope.tags = self.tags
        return envelope
    }
}

extension Lifetime {
    /// What is left of the life of an entry that somebody else wrote.
    ///
    /// - Parameters:
    ///   - terms: How it lives.
    ///   - age: For how long it has, in nanoseconds.
    ///   - options: When this process refreshes it, and how long it keeps it unread.
    ///   - now: The time.
    init(_ terms: EntryTerms, age: Int64, _ options: CacheOptions, now: Int64) {
        self.init()
        func end(_ length: Int64) -> Int64 { length == .max ? .max : now.after(.nanoseconds(length - age)) }
        if let idle = options.idleTimeToLive { self.idle = idle.nanoseconds }
        self.freshUntil = end(terms.freshFor)
        self.revalidateUntil = end(terms.revalidateFor)
        self.keptUntil = end(terms.keptFor)
        guard terms.freshFor != .max else { return }
        switch options.refreshAhead {
        case .never: break
        case .after(let fraction): self.refreshAt = end(Int64(Double(terms.freshFor) * fraction))
        case .probabilistic(let beta): self.refreshProbably(beta: beta, loadTime: terms.loadTime, now: now)
        }
    }
}
