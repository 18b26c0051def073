// SPDX-License-Identifier: Apache-2.0

/// Greedy-Dual-Size-Frequency: evicts the entry with the fewest uses for its weight, aged by a clock.
///
/// An entry's priority is `clock + uses / weight`; the clock is the priority of the last victim, so that old uses lose their
/// value as others leave. Cherkasova, "Improving WWW Proxies Performance with Greedy-Dual-Size-Frequency Caching Policy", HP
/// Laboratories 1998. Chosen over a size-aware TinyLFU because it is for those whose entries differ in size by orders of
/// magnitude and who want hits rather than bytes: weight then matters more than the admission does, and GDSF has no parts
/// to tune. A hit moves the entry in a heap, which costs the logarithm of the number of entries.
public struct SizeAwarePolicy: EvictionPolicy {
    private static let mostUses: UInt32 = 1 << 16

    /// The sum of weights that fits.
    public let capacity: Int
    /// It does not go by deadlines.
    public var heedsDeadlines: Bool { false }
    /// The sum of weights of the entries, pinned ones not counted.
    public private(set) var weight = 0

    /// Only for what it keeps for each slot; the tag counts uses.
    private var nodes = SlotNodes()
    private var heap = SlotHeap<Double>()
    private var clock = 0.0

    /// Makes a policy; GDSF makes no random choices, so the seed is not used.
    public init(capacity: Int, seed: UInt64) { self.capacity = max(1, capacity) }

    /// An entry came in: others leave until it fits.
    public mutating func insert(_ entry: EvictionEntry, evicted: inout [Int32]) {
        guard entry.weight <= self.capacity else {
            evicted.append(entry.slot)
            return
        }
        self.shrink(to: self.capacity - entry.weight, evicted: &evicted)
        self.nodes.open(entry)
        self.nodes[entry.slot].tag = 1
        self.enter(entry.slot)
    }

    /// Counts the use and raises the priority.
    public mutating func hit(_ slot: Int32) {
        guard self.nodes.contains(slot) else { return }
        if self.nodes[slot].tag < Self.mostUses { self.nodes[slot].tag += 1 }
        if self.nodes[slot].weight > 0 { self.heap.set(slot, to: self.priority(of: slot)) }
    }

    /// An entry's weight changed: it keeps its uses, and the next victims leave, itself among them if it is one.
    public mutating func update(_ entry: EvictionEntry, evicted: inout [Int32]) {
        guard self.nodes.contains(entry.slot) else { return }
        let uses = self.nodes[entry.slot].tag
        self.remove(entry.slot)
        guard entry.weight <= self.capacity else {
            evicted.append(entry.slot)
            return
        }
        self.nodes.open(entry)
        self.nodes[entry.slot].tag = uses
        self.enter(entry.slot)
        self.shrink(to: self.capacity, evicted: &evicted)
    }

    /// Forgets an entry.
    public mutating func remove(_ slot: Int32) {
        guard self.nodes.contains(slot) else { return }
        self.heap.remove(slot)
        self.weight -= self.nodes[slot].weight
        self.nodes.close(slot)
    }

    private mutating func enter(_ slot: Int32) {
        guard self.nodes[slot].weight > 0 else { return }
        self.weight += self.nodes[slot].weight
        self.heap.set(slot, to: self.priority(of: slot))
    }

    private func priority(of slot: Int32) -> Double {
        self.clock + Double(self.nodes[slot].tag) / Double(self.nodes[slot].weight)
    }

    private mutating func shrink(to limit: Int, evicted: inout [Int32]) {
        while self.weight > limit, let victim = self.heap.first, let priority = self.heap.firstPriority {
            self.clock = priority
            self.remove(victim)
            evicted.append(victim)
        }
    }
}
