// SPDX-License-Identifier: Apache-2.0

/// S3-FIFO: a small queue for newcomers, a main queue, and a ghost of what left the small one.
///
/// A newcomer goes through the small queue, a tenth of the capacity: used twice while there it moves to the main queue,
/// otherwise it leaves and only its hash is kept; a hash that comes back goes to the main queue at once. The main queue
/// gives an entry another round for each of up to three uses. A hit only counts. Yang, Zhang, Qiu, Yue and Rashmi, "FIFO
/// Queues are All You Need for Cache Eviction", SOSP 2023.
public struct S3FIFOPolicy: EvictionPolicy {
    private static let small = SlotNode.listed
    private static let main = SlotNode.listed + 1
    /// The largest count of uses, in two bits.
    private static let countLimit: UInt8 = 3
    /// How many entries a search for a victim passes, at most.
    private static let searchLimit = 4096
    /// How many uses in the small queue lead into the main one.
    private static let promotion: UInt8 = 2

    /// The sum of weights that fits.
    public let capacity: Int
    private let mainCapacity: Int
    /// Whether the capacity was reached once; until then newcomers for whom the small queue has no room go to the main one,
    /// as in the authors' simulator, or the first eviction would find everything in the small queue.
    private var wasFull = false
    private var nodes = SlotNodes()
    private var small = SlotList()
    private var main = SlotList()
    private var ghost = GhostTable()

    /// Makes a policy; S3-FIFO makes no random choices, so the seed is not used.
    public init(capacity: Int, seed: UInt64) {
        self.capacity = max(1, capacity)
        self.mainCapacity = self.capacity - max(1, self.capacity / 10)
    }

    /// It does not go by deadlines.
    public var heedsDeadlines: Bool { false }
    /// The sum of weights of the entries, pinned ones not counted.
    public var weight: Int { self.small.weight + self.main.weight }

    /// An entry came in: others leave until it fits.
    public mutating func insert(_ entry: EvictionEntry, evicted: inout [Int32]) {
        guard entry.weight <= self.capacity else {
            evicted.append(entry.slot)
            return
        }
        let hash = entry.foldedHash
        let returns = entry.weight > 0 && self.ghost.take(hash, span: self.main.count)
        self.shrink(to: self.capacity - entry.weight, evicted: &evicted)
        self.nodes.open(entry)
        self.nodes[entry.slot].tag = hash
        guard entry.weight > 0 else { return }
        let hasRoom = self.wasFull || self.small.weight + entry.weight <= self.capacity - self.mainCapacity
        if returns || !hasRoom {
            self.nodes.prepend(entry.slot, to: &self.main, at: Self.main)
        } else {
            self.nodes.prepend(entry.slot, to: &self.small, at: Self.small)
        }
    }

    /// Counts the use.
    public mutating func hit(_ slot: Int32) {
        guard self.nodes.contains(slot), self.nodes[slot].mark < Self.countLimit else { return }
        self.nodes[slot].mark += 1
    }

    /// An entry's weight changed: it keeps its position, and the next victims leave.
    public mutating func update(_ entry: EvictionEntry, evicted: inout [Int32]) {
        guard self.nodes.contains(entry.slot) else { return }
        let place = self.nodes[entry.slot].place
        if entry.weight > self.capacity {
            self.remove(entry.slot)
            evicted.append(entry.slot)
        } else if entry.weight > 0, place == Self.small {
            self.nodes.reweigh(entry.slot, to: entry.weight, in: &self.small)
        } else if entry.weight > 0, place == Self.main {
            self.nodes.reweigh(entry.slot, to: entry.weight, in: &self.main)
        } else if entry.weight > 0 || place != SlotNode.pinned {
            self.remove(entry.slot)
            self.insert(entry, evicted: &evicted)
        }
        self.shrink(to: self.capacity, evicted: &evicted)
    }

    /// Forgets an entry.
    public mutating func remove(_ slot: Int32) {
        guard self.nodes.contains(slot) else { return }
        self.unlink(slot)
        self.nodes.close(slot)
    }

    private mutating func unlink(_ slot: Int32) {
        switch self.nodes[slot].place {
        case Self.small: self.nodes.unlink(slot, from: &self.small)
        case Self.main: self.nodes.unlink(slot, from: &self.main)
        default: break
        }
    }

    private mutating func shrink(to limit: Int, evicted: inout [Int32]) {
        while self.weight > limit {
            self.wasFull = true
            if self.main.weight > self.mainCapacity || self.small.count == 0 {
                self.shrinkMain(evicted: &evicted)
            } else {
                self.shrinkSmall(evicted: &evicted)
            }
        }
    }

    /// Takes the oldest out of the small queue.
    private mutating func shrinkSmall(evicted: inout [Int32]) {
        let slot = self.small.tail
        self.nodes.unlink(slot, from: &self.small)
        if self.nodes[slot].mark >= Self.promotion {
            self.nodes[slot].mark = 0
            self.nodes.prepend(slot, to: &self.main, at: Self.main)
        } else {
            self.ghost.add(self.nodes[slot].tag, span: self.main.count)
            self.nodes.close(slot)
            evicted.append(slot)
        }
    }

    /// Takes the oldest that was not used out of the main queue.
    ///
    /// Each entry passed loses a use, so on average it pays for a hit; the limit is there because no call may take long.
    private mutating func shrinkMain(evicted: inout [Int32]) {
        var slot = self.main.tail
        var passed = 0
        while self.nodes[slot].mark > 0, passed < Self.searchLimit {
            passed += 1
            self.nodes[slot].mark -= 1
            self.nodes.promote(slot, in: &self.main)
            slot = self.main.tail
        }
        self.nodes.unlink(slot, from: &self.main)
        self.nodes.close(slot)
        evicted.append(slot)
    }
}

extension EvictionEntry {
    /// The hash in 32 bits, which is what policies keep with each entry.
    var foldedHash: UInt32 { UInt32(truncatingIfNeeded: self.hash ^ (self.hash >> 32)) }
}
