// SPDX-License-Identifier: Apache-2.0

/// The last requests that ended, in a ring of fixed size.
package struct RecentRequests: Sendable {
    private var ring: [RequestID] = []
    private var members: Set<RequestID> = []
    private var next = 0
    private let capacity: Int

    /// Makes an empty ring.
    package init(capacity: Int) { self.capacity = capacity }

    /// Whether a request is remembered.
    package func contains(_ id: RequestID) -> Bool { self.members.contains(id) }

    /// Remembers a request, and forgets the oldest when there are too many.
    package mutating func insert(_ id: RequestID) {
        guard self.members.insert(id).inserted else { return }
        if self.ring.count < self.capacity {
            self.ring.append(id)
        } else {
            self.members.remove(self.ring[self.next])
            self.ring[self.next] = id
            self.next = (self.next + 1) % self.capacity
        }
    }
}
