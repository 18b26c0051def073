// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// What is cached for a key: a value, or that there is none.
@usableFromInline
enum Content<Value: Sendable>: Sendable {
    case value(Value)
    case notFound

    /// Whether there is nothing: it was said so, or the value is an optional that is `nil`.
    @usableFromInline
    var isNegative: Bool {
        switch self {
        case .value(let value): (Value.self as? any Absence.Type)?.isAbsent(value) ?? false
        case .notFound: true
        }
    }

    /// Whether a value can stand for nothing.
    static var mayBeNothing: Bool { Value.self is any Absence.Type }

    /// The value, or ``NotFound``.
    func get() throws -> Value {
        switch self {
        case .value(let value): value
        case .notFound: throw NotFound()
        }
    }
}

/// A type that has a value for nothing.
private protocol Absence {
    static func isAbsent(_ value: Any) -> Bool
}

extension Optional: Absence {
    fileprivate static func isAbsent(_ value: Any) -> Bool {
        guard let optional = value as? Self else { return false }
        return optional == nil
    }
}

/// An entry of the memory tier: what a hit needs.
@usableFromInline
struct MemoryEntry<Key: Hashable & Sendable, Value: Sendable>: Sendable {
    @usableFromInline
    let key: Key
    @usableFromInline
    var content: Content<Value>
    /// Whether tags are in its record; here, where many contents leave room for it.
    @usableFromInline
    var isTagged: Bool
    /// Before this time a read need not look any closer.
    @usableFromInline
    var nextLook: Int64
    /// Against which invalidations the entry is known to be valid; see ``Generations``.
    @usableFromInline
    var stamp: UInt64

    @inlinable
    init(key: Key, content: Content<Value>, nextLook: Int64, stamp: UInt64, isTagged: Bool) {
        self.key = key
        self.content = content
        self.nextLook = nextLook
        self.stamp = stamp
        self.isTagged = isTagged
    }
}

/// What else is known of an entry; a hit does not need it.
@usableFromInline
struct MemoryRecord: Sendable {
    /// Grows with each change of the key: that of the shared tier, or one of this process.
    var version: UInt64
    /// When it was stored.
    var storedAt: Int64
    /// When it was last read, where that matters.
    var readAt: Int64
    /// When it expires.
    var lifetime: Lifetime
    /// What was said of it.
    var tags: TagSet?
    /// What the loader called this state of the value.
    var entityTag: String?
    /// Where it came from.
    var origin: ValueOrigin
}

/// Where a value in memory came from.
@usableFromInline
enum ValueOrigin: UInt8, Sendable {
    case loader, tier, set
}

/// When an entry expires, and what may still be done with it then.
@usableFromInline
package struct Lifetime: Sendable, Hashable {
    /// Until when it is fresh.
    package var freshUntil: Int64 = .max
    /// Until when it is given at once while it is loaded anew.
    var revalidateUntil: Int64 = .max
    /// Until when it is there at all.
    var keptUntil: Int64 = .max
    /// From when on a read has it loaded anew; once it was ended by hand, how long it was to be fresh, below zero.
    var refreshAt: Int64 = .max
    /// For XFetch: beta times how long the load took, in nanoseconds; 0 without.
    var spread: Double = 0
    /// How long after a read it is kept; `Int64.max` for no such limit.
    var idle: Int64 = .max
    /// Before this time no load begins, since the last one failed.
    var retryAt: Int64 = 0

    /// The longest draw of XFetch that counts: beyond, one read in a thousand million would refresh.
    private static let longestDraw = 20.7

    /// An entry that never expires.
    @usableFromInline
    package init() {}

    /// The life of an entry that is stored now.
    ///
    /// - Parameters:
    ///   - rule: Whose times count.
    ///   - isNegative: Whether there is no value.
    ///   - now: The time.
    ///   - loadTime: How long it took to load, in nanoseconds; 0 if it was not loaded.
    ///   - generator: Where jitter comes from.
    package init(
        _ rule: LifetimeRule,
        isNegative: Bool,
        now: Int64,
        loadTime: Int64,
        using generator: inout some RandomNumberGenerator
    ) {
        self.idle = rule.idle
        guard let life = isNegative ? rule.negativeLife : rule.life else { return }
        var nanoseconds = Double(life)
        if rule.jitter > 0 { nanoseconds *= 1 + Double.random(in: -rule.jitter...rule.jitter, using: &generator) }
        self.freshUntil = now.after(nanoseconds: Int64(min(nanoseconds, 9.2e18)))
        guard rule.life != nil, !isNegative else {
            (self.revalidateUntil, self.keptUntil) = (self.freshUntil, self.freshUntil)
            return
        }
        self.revalidateUntil = self.freshUntil.after(nanoseconds: rule.revalidates)
        self.keptUntil = self.freshUntil.after(nanoseconds: rule.keeps)
        switch rule.refreshAhead {
        case .never: break
        case .after(let fraction): self.refreshAt = now.after(nanoseconds: Int64(min(nanoseconds * fraction, 9.2e18)))
        case .probabilistic(let beta): self.refreshProbably(beta: beta, loadTime: loadTime, now: now)
        }
    }

    /// The same, by options.
    package init(
        _ options: CacheOptions,
        isNegative: Bool,
        now: Int64,
        loadTime: Int64,
        using generator: inout some RandomNumberGenerator
    ) {
        self.init(LifetimeRule(options), isNegative: isNegative, now: now, loadTime: loadTime, using: &generator)
    }

    /// Has reads before the end draw lots.
    mutating func refreshProbably(beta: Double, loadTime: Int64, now: Int64) {
        self.spread = beta * Double(loadTime)
        // Only reads from here on can win the draw.
        self.refreshAt = max(now, self.freshUntil - Int64(min(self.spread * Self.longestDraw, 4e18)))
    }

    /// Ends the time to live; what the options allow after it counts from now.
    ///
    /// - Parameters:
    ///   - now: The time.
    ///   - start: When it began.
    mutating func expire(at now: Int64, from start: Int64) {
        self.retryAt = 0
        guard self.freshUntil > now else { return }
        let (revalidates, keeps) = (self.revalidateUntil - self.freshUntil, self.keptUntil - self.freshUntil)
        self.refreshAt = -self.term(from: start).fresh
        self.freshUntil = now
        self.revalidateUntil = now.after(nanoseconds: revalidates)
        self.keptUntil = now.after(nanoseconds: keeps)
    }

    /// How it was to be when it began, also if it was ended by hand since.
    func term(from start: Int64) -> LifeTerm {
        let fresh = self.refreshAt < 0 ? -self.refreshAt : self.freshUntil == .max ? .max : self.freshUntil - start
        return LifeTerm(
            fresh: fresh,
            revalidates: self.revalidateUntil - self.freshUntil,
            keeps: self.keptUntil - self.freshUntil
        )
    }

    /// Until when a read need not look any closer.
    @usableFromInline
    var nextLook: Int64 { self.idle == .max ? min(self.freshUntil, self.refreshAt) : 0 }

    /// Whether it never expires.
    var isEndless: Bool { self.nextLook == .max && self.keptUntil == .max }

    /// When the memory tier may drop it.
    @usableFromInline
    func deadline(readAt: Int64) -> Int64 {
        self.idle == .max ? self.keptUntil : min(self.keptUntil, readAt.after(nanoseconds: self.idle))
    }

    /// Whether a read has it loaded anew though it is fresh.
    ///
    /// With XFetch, when the time and a draw, `-ln(random)` times beta times the load time, pass the end.
    package func wantsRefresh(at now: Int64, using generator: inout some RandomNumberGenerator) -> Bool {
        guard now >= self.refreshAt, now >= self.retryAt else { return false }
        guard self.spread > 0 else { return true }
        let draw = -Self.logarithm(Double.random(in: Double.leastNonzeroMagnitude..<1, using: &generator))
        return Double(self.freshUntil - now) <= self.spread * draw
    }
}
