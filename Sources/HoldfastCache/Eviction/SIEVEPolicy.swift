// SPDX-License-Identifier: Apache-2.0

/// SIEVE: a queue in arrival order, one bit for each entry, and a hand that goes from old to young.
///
/// The hand clears the bits that it finds set and evicts the first entry whose bit is not; it then stays where it is, so
/// that new entries are judged soon and old ones that are used stay. A hit only sets the bit. Zhang, Yang, Yue, Vigfusson
/// and Rashmi, "SIEVE is Simpler than LRU", NSDI 2024. Good for web traffic; it resists neither scans nor loops.
/// On average the hand passes an entry for each hit, but a single insertion may have to pass all of them.
public struct SIEVEPolicy: QueuePolicy {
    /// The sum of weights that fits.
    public let capacity: Int
    var queue = SlotQueue()
    /// Where the search goes on; -1 for the old end.
    private var hand: Int32 = -1

    /// Makes a policy; SIEVE makes no random choices, so the seed is not used.
    public init(capacity: Int, seed: UInt64) { self.capacity = max(1, capacity) }

    /// Sets the entry's bit.
    public mutating func hit(_ slot: Int32) {
        guard self.queue.nodes.contains(slot) else { return }
        self.queue.nodes[slot].mark = 1
    }

    mutating func victim() -> Int32? {
        guard self.queue.list.tail >= 0 else { return nil }
        var slot = self.hand >= 0 ? self.hand : self.queue.list.tail
        while self.queue.nodes[slot].mark != 0 {
            self.queue.nodes[slot].mark = 0
            let younger = self.queue.nodes[slot].previous
            slot = younger >= 0 ? younger : self.queue.list.tail
        }
        self.hand = slot
        return slot
    }

    mutating func willUnlink(_ slot: Int32) {
        if self.hand == slot { self.hand = self.queue.nodes[slot].previous }
    }
}
