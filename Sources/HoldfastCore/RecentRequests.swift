// SPDX-License-Identifier: Apache-2.0

/// The last requests that ended.
package typealias RecentRequests = Recent<RequestID>

/// The last values of many, in a ring of fixed size.
package struct Recent<Element: Hashable & Sendable>: Sendable {
    private var ring: [Element] = []
    private var members: Set<Element> = []
    private var next = 0
    private let capacity: Int

    /// Makes an empty ring.
    package init(capacity: Int) { self.capacity = capacity }

    /// Whether a value is remembered.
    package func contains(_ value: Element) -> Bool { self.members.contains(value) }

    /// Remembers a value, and forgets the oldest when there are too many.
    package mutating func insert(_ value: Element) {
        guard self.members.insert(value).inserted else { return }
        if self.ring.count < self.capacity {
            self.ring.append(value)
        } else {
            self.members.remove(self.ring[self.next])
            self.ring[self.next] = value
            self.next = (self.next + 1) % self.capacity
        }
    }
}
