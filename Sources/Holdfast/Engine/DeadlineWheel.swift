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
    private var slots: [Int64: Set<Key>] = [:]
    private var places: [Key: Int64] = [:]
    /// Not later than the first slot in use; found anew when that slot is emptied.
    private var earliest: Int64 = .max

    package init(origin: Instant) { self.origin = origin }

    package var isEmpty: Bool { self.places.isEmpty }
    package var count: Int { self.places.count }

    /// Sets a deadline, in place of the one that the key had.
    package mutating func set(_ key: Key, at instant: Instant) {
        let slot = self.slot(of: instant)
        if let old = self.places.updateValue(slot, forKey: key) {
            if old == slot { return }
            self.remove(key, from: old)
        }
        self.slots[slot, default: []].insert(key)
        if slot < self.earliest { self.earliest = slot }
    }

    /// Sets a deadline unless the key has an earlier one.
    package mutating func pull(_ key: Key, to instant: Instant) {
        if let old = self.places[key], old <= self.slot(of: instant) { return }
        self.set(key, at: instant)
    }

    /// Forgets a deadline.
    package mutating func clear(_ key: Key) {
        if let slot = self.places.removeValue(forKey: key) { self.remove(key, from: slot) }
    }

    /// Takes out everything that is due.
    package mutating func due(at now: Instant) -> [Key] {
        let current = self.origin.duration(to: now).nanoseconds / Self.width
        guard self.earliest <= current else { return [] }
        var due: [Key] = []
        for slot in self.slots.keys.filter({ $0 <= current }).sorted() {
            due.append(contentsOf: self.slots.removeValue(forKey: slot) ?? [])
        }
        for key in due { self.places[key] = nil }
        self.earliest = self.slots.keys.min() ?? .max
        return due
    }

    /// When to look next: not later than a millisecond after the first deadline.
    package var next: Instant? {
        self.earliest == .max ? nil : self.origin.advanced(by: .nanoseconds(self.earliest * Self.width))
    }

    private mutating func remove(_ key: Key, from slot: Int64) {
        self.slots[slot]?.remove(key)
        // An empty slot costs a few bytes and one early look; `earliest` is put right when that look comes.
        if self.slots[slot]?.isEmpty == true, slot != self.earliest { self.slots[slot] = nil }
    }

    private func slot(of instant: Instant) -> Int64 {
        // Seventy years are enough, and leave room for rounding up.
        let offset = min(self.origin.duration(to: instant).nanoseconds, .max / 4)
        return offset / Self.width + (offset % Self.width > 0 ? 1 : 0)
    }
}
