// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// Remembers the last signals that came before what they are about was in the books: pure.
///
/// A request is entered as waiting only when the store says so, and a lease only when the answer is here, which keeps that
/// off the path of a free lock; a signal on another thread can come first. Forgetting one costs a look, not the lock.
struct EarlySignals<News: Sendable>: Sendable {
    /// So many are remembered.
    private let capacity: Int
    private var ring: [(id: RequestID, news: News)] = []
    private var next = 0

    init(capacity: Int) { self.capacity = capacity }

    /// Remembers a signal in place of the oldest.
    mutating func insert(_ id: RequestID, _ news: News) {
        if self.ring.count < self.capacity {
            self.ring.append((id, news))
        } else {
            self.ring[self.next] = (id, news)
            self.next = (self.next + 1) % self.capacity
        }
    }

    /// Takes a signal out, newest first.
    ///
    /// - Parameter id: The request.
    /// - Returns: What it said, if it was there.
    mutating func take(_ id: RequestID) -> News? {
        guard !self.ring.isEmpty, let index = self.ring.lastIndex(where: { $0.id == id }) else { return nil }
        self.ring.swapAt(index, self.ring.count - 1)
        let news = self.ring.removeLast().news
        if self.next >= self.ring.count { self.next = 0 }
        return news
    }
}
