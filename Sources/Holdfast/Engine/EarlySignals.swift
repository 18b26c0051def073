// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// Remembers the last signals that nobody waited for yet: pure.
///
/// A request is entered as waiting only when the store says so, which keeps that off the path of a free lock; a hand-over
/// on another thread can come first. Forgetting one costs the waiter its next look, not the lock.
struct EarlySignals: Sendable {
    /// Far more than hand-overs can overtake their replies at once.
    private static let capacity = 256

    private var ring: [RequestID] = []
    private var next = 0

    /// Remembers a signal in place of the oldest.
    mutating func insert(_ id: RequestID) {
        if self.ring.count < Self.capacity {
            self.ring.append(id)
        } else {
            self.ring[self.next] = id
            self.next = (self.next + 1) % Self.capacity
        }
    }

    /// Takes a signal out, newest first.
    ///
    /// - Parameter id: The request.
    /// - Returns: Whether it was there.
    mutating func take(_ id: RequestID) -> Bool {
        guard let index = self.ring.lastIndex(of: id) else { return false }
        self.ring.swapAt(index, self.ring.count - 1)
        self.ring.removeLast()
        if self.next >= self.ring.count { self.next = 0 }
        return true
    }
}
