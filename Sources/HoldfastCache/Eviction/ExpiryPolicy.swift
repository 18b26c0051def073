// SPDX-License-Identifier: Apache-2.0

/// Evicts what expires soonest; what never expires leaves last, the least recently used first.
///
/// The order of Redis's `volatile-ttl`, but exact instead of sampled. Deadlines are in a heap: inserting and removing costs
/// the logarithm of the number of entries, a hit nothing.
public struct ExpiryPolicy: EvictionPolicy {
    private static let mortal = SlotNode.listed + 1

    /// The sum of weights that fits.
    public let capacity: Int
    /// The sum of weights of the entries, pinned ones not counted.
    public var weight: Int { self.immortal.list.weight + self.mortalWeight }

    /// The entries without a deadline, and the nodes of all.
    private var immortal = SlotQueue()
    private var heap = SlotHeap<Int64>()
    private var mortalWeight = 0

    /// Makes a policy; it makes no random choices, so the seed is not used.
    public init(capacity: Int, seed: UInt64) { self.capacity = max(1, capacity) }

    /// An entry came in: others leave until it fits, even if it expires before them.
    public mutating func insert(_ entry: EvictionEntry, evicted: inout [Int32]) {
        guard entry.weight <= self.capacity else {
            evicted.append(entry.slot)
            return
        }
        self.shrink(to: self.capacity - entry.weight, evicted: &evicted)
        self.immortal.nodes.open(entry)
        guard entry.weight > 0 else { return }
        if entry.deadline == .max {
            self.immortal.prepend(entry.slot)
        } else {
            self.immortal.nodes[entry.slot].place = Self.mortal
            self.heap.set(entry.slot, to: entry.deadline)
            self.mortalWeight += entry.weight
        }
    }

    /// Makes an entry without a deadline the most recently used; does nothing for others.
    public mutating func hit(_ slot: Int32) {
        if self.immortal.holds(slot) { self.immortal.promote(slot) }
    }

    /// An entry's weight or deadline changed: it is put where it belongs now, and others leave until it fits.
    public mutating func update(_ entry: EvictionEntry, evicted: inout [Int32]) {
        guard self.immortal.nodes.contains(entry.slot) else { return }
        self.remove(entry.slot)
        self.insert(entry, evicted: &evicted)
    }

    /// Forgets an entry.
    public mutating func remove(_ slot: Int32) {
        guard self.immortal.nodes.contains(slot) else { return }
        if self.immortal.holds(slot) {
            self.immortal.unlink(slot)
        } else if self.immortal.nodes[slot].place == Self.mortal {
            self.heap.remove(slot)
            self.mortalWeight -= self.immortal.nodes[slot].weight
        }
        self.immortal.nodes.close(slot)
    }

    private mutating func shrink(to limit: Int, evicted: inout [Int32]) {
        while self.weight > limit {
            let victim = self.heap.first ?? self.immortal.list.tail
            self.remove(victim)
            evicted.append(victim)
        }
    }
}
