// SPDX-License-Identifier: Apache-2.0

/// Evicts the entry that was not used for the longest time.
public struct LRUPolicy: QueuePolicy {
    /// The sum of weights that fits.
    public let capacity: Int
    var queue = SlotQueue()

    /// Makes a policy; LRU makes no random choices, so the seed is not used.
    public init(capacity: Int, seed: UInt64) { self.capacity = max(1, capacity) }

    /// Moves the entry to the young end.
    public mutating func hit(_ slot: Int32) {
        if self.queue.holds(slot) { self.queue.promote(slot) }
    }

    func victim() -> Int32? { self.queue.list.tail >= 0 ? self.queue.list.tail : nil }

    func willUnlink(_ slot: Int32) {}
}
