// SPDX-License-Identifier: Apache-2.0

/// Evicts the entry that came in first.
public struct FIFOPolicy: QueuePolicy {
    /// The sum of weights that fits.
    public let capacity: Int
    var queue = SlotQueue()

    /// Makes a policy; FIFO makes no random choices, so the seed is not used.
    public init(capacity: Int, seed: UInt64) { self.capacity = max(1, capacity) }

    /// Does nothing: reads do not count.
    public mutating func hit(_ slot: Int32) {}

    func victim() -> Int32? { self.queue.list.tail >= 0 ? self.queue.list.tail : nil }

    func willUnlink(_ slot: Int32) {}
}
