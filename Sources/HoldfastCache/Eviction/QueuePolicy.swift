// SPDX-License-Identifier: Apache-2.0

/// What LRU, FIFO and SIEVE have in common: one list, and room is made before an entry comes in.
///
/// Making room first is what libCacheSim does; the order decides which entries leave when weights differ.
protocol QueuePolicy: EvictionPolicy {
    var queue: SlotQueue { get set }

    /// The entry in the list that leaves next; `nil` when the list is empty.
    mutating func victim() -> Int32?
    /// An entry is about to leave the list.
    mutating func willUnlink(_ slot: Int32)
}

/// A policy's only list together with its nodes.
struct SlotQueue: Sendable {
    var nodes = SlotNodes()
    private(set) var list = SlotList()

    /// Whether the slot is in the list: known and not pinned.
    func holds(_ slot: Int32) -> Bool { self.nodes.contains(slot) && self.nodes[slot].place == SlotNode.listed }

    mutating func prepend(_ slot: Int32) { self.nodes.prepend(slot, to: &self.list, at: SlotNode.listed) }

    mutating func unlink(_ slot: Int32) { self.nodes.unlink(slot, from: &self.list) }

    mutating func promote(_ slot: Int32) { self.nodes.promote(slot, in: &self.list) }

    mutating func reweigh(_ slot: Int32, to weight: Int) { self.nodes.reweigh(slot, to: weight, in: &self.list) }
}

extension QueuePolicy {
    /// It does not go by deadlines.
    public var heedsDeadlines: Bool { false }
    /// The sum of weights of the entries, pinned ones not counted.
    public var weight: Int { self.queue.list.weight }

    /// An entry came in: others leave until it fits.
    public mutating func insert(_ entry: EvictionEntry, evicted: inout [Int32]) {
        guard entry.weight <= self.capacity else {
            evicted.append(entry.slot)
            return
        }
        self.shrink(to: self.capacity - entry.weight, evicted: &evicted)
        self.queue.nodes.open(entry)
        if entry.weight > 0 { self.queue.prepend(entry.slot) }
    }

    /// An entry's weight changed: it keeps its position, and the next victims leave, itself among them if it is one.
    public mutating func update(_ entry: EvictionEntry, evicted: inout [Int32]) {
        guard self.queue.nodes.contains(entry.slot) else { return }
        let wasListed = self.queue.holds(entry.slot)
        if entry.weight > self.capacity {
            self.remove(entry.slot)
            evicted.append(entry.slot)
        } else if wasListed, entry.weight > 0 {
            self.queue.reweigh(entry.slot, to: entry.weight)
            self.shrink(to: self.capacity, evicted: &evicted)
        } else if wasListed || entry.weight > 0 {
            self.remove(entry.slot)
            self.insert(entry, evicted: &evicted)
        }
    }

    /// Forgets an entry.
    public mutating func remove(_ slot: Int32) {
        guard self.queue.nodes.contains(slot) else { return }
        if self.queue.holds(slot) {
            self.willUnlink(slot)
            self.queue.unlink(slot)
        }
        self.queue.nodes.close(slot)
    }

    private mutating func shrink(to limit: Int, evicted: inout [Int32]) {
        while self.queue.list.weight > limit, let victim = self.victim() {
            self.remove(victim)
            evicted.append(victim)
        }
    }
}
