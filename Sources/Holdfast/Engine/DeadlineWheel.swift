// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// Which of many things are due: pure, constant time to set and to clear.
///
/// Instants are rounded up to a slot of one millisecond: nothing is due before its time, and at most a millisecond after
/// it. Hashed timing wheels: Varghese and Lauck, SOSP 1987; here the wheel is a dictionary, since leases differ by six
/// orders of magnitude.
package struct DeadlineWheel<Key: Hashable & Sendable>: Sendable {
    package typealias Instant = ContinuousClock.Instant

    /// The width of a slot in nanoseconds.
    private static var width: Int64 { 1_000_000 }

    private let origin: Instant
    /// What was set for each slot.
    ///
    /// What was cleared or moved since is in there still, until its time comes or there is much of it: most deadlines of a
    /// lock are cleared long before, so that has to be cheap.
    private var slots: [Int64: [Key]] = [:]
    private var places: [Key: Int64] = [:]
    /// How much is in the slots that has no place there any more.
    private var strays = 0
    /// Not later than the first slot in use; found anew when its time comes.
    private var earliest: Int64 = .max

    /// So many strays are kept at least before they are looked for.
    private static var mostStrays: Int { 1024 }

    package init(origin: Instant) { self.origin = origin }

    package var isEmpty: Bool { self.places.isEmpty }
    package var count: Int { self.places.count }
    /// How many notes it keeps for that.
    package var noted: Int { self.slots.values.reduce(0) { $0 + $1.count } }

    /// Sets a deadline, in place of the one that the key had.
    package mutating func set(_ key: Key, at instant: Instant) {
        let slot = self.slot(of: instant)
        if let old = self.places.updateValue(slot, forKey: key) {
            if old == slot { return }
            self.stray()
        }
        self.slots[slot, default: []].append(key)
        if slot < self.earliest { self.earliest = slot }
    }

    /// Sets a deadline unless the key has an earlier one.
    package mutating func pull(_ key: Key, to instant: Instant) {
        if let old = self.places[key], old <= self.slot(of: instant) { return }
        self.set(key, at: instant)
    }

    /// Forgets a deadline.
    package mutating func clear(_ key: Key) {
        if self.places.removeValue(forKey: key) != nil { self.stray() }
    }

    /// Takes out everything that is due.
    package mutating func due(at now: Instant) -> [Key] {
        let current = self.origin.duration(to: now).nanoseconds / Self.width
        guard self.earliest <= current else { return [] }
        var due: [Key] = []
        for slot in self.slots.keys.filter({ $0 <= current }).sorted() {
            for key in self.slots.removeValue(forKey: slot) ?? [] {
                // Cleared and set again, it can be there twice; the first one counts.
                if self.places[key] == slot {
                    self.places[key] = nil
                    due.append(key)
                } else {
                    self.strays -= 1
                }
            }
        }
        self.earliest = self.slots.keys.min() ?? .max
        return due
    }

    /// When to look next: not later than a millisecond after the first deadline.
    package var next: Instant? {
        self.earliest == .max ? nil : self.origin.advanced(by: .nanoseconds(self.earliest * Self.width))
    }

    /// Notes that something in a slot has no place there any more, and when there is more of that than of the rest, takes
    /// it all out: a few steps for each.
    private mutating func stray() {
        self.strays += 1
        guard self.strays >= Self.mostStrays, self.strays > self.places.count else { return }
        self.strays = 0
        self.slots = [:]
        for (key, slot) in self.places { self.slots[slot, default: []].append(key) }
    }

    private func slot(of instant: Instant) -> Int64 {
        // Seventy years are enough, and leave room for rounding up.
        let offset = min(self.origin.duration(to: instant).nanoseconds, .max / 4)
        return offset / Self.width + (offset % Self.width > 0 ? 1 : 0)
    }
}
