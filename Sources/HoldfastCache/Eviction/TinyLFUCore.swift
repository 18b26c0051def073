// SPDX-License-Identifier: Apache-2.0

/// A window, a main queue and a ghost: what `TinyLFUPolicy` is made of, and each of the small models it learns from.
///
/// - Newcomers enter the window, an LRU list.
/// - What falls out of a full window is a candidate for the main queue. It gets the place of the main queue's next victim if
///   it leads in the sketch by two. TinyLFU asks for a lead of one; but the candidate was counted for the very access that
///   brought it here, and the victim is not yet counted for its next one. In a loop that lone access makes every candidate
///   beat the entry that is needed next.
/// - A candidate that loses leaves its hash in the ghost. When it comes back soon it goes to the main queue at once, as in
///   S3-FIFO (SOSP 2023) and 2Q (VLDB 1994): old favourites cannot keep out what is popular now.
/// - The main queue is a CLOCK of two bits: a hit only counts, and each count buys another round.
struct TinyLFUCore: Sendable {
    /// How the capacity is divided and who is let into the main queue.
    struct Shape: Sendable, Equatable {
        /// The window's part of the capacity.
        var window: Double
        /// Whether a candidate that comes back goes to the main queue at once; wrong in loops a little longer than the cache.
        var readmits: Bool
    }

    static let window = SlotNode.listed
    static let main = SlotNode.listed + 1
    private static let countLimit: UInt8 = 3
    /// How many entries a search for a victim gives another round, at most: no call may take long.
    private static let searchLimit = 128
    /// How many candidates a victim may beat before the next in the queue has to.
    private static let defenceLimit = 64
    /// How many entries a call moves after the window was made smaller, at most.
    private static let moveLimit = 8
    /// A candidate seen this often is let in once in 128 even if it loses, so that nobody who found keys that share counters
    /// with the victims can keep everyone out (Caffeine's defence against hash flooding).
    private static let warm = 6

    private(set) var capacity: Int
    private(set) var shape: Shape
    private(set) var nodes = SlotNodes()
    private(set) var windowList = SlotList()
    private(set) var mainList = SlotList()
    private var windowCapacity: Int
    private var ghost = GhostTable()
    private var random: UInt64
    /// How many candidates the main queue's next victim has beaten.
    private var defences = 0

    init(capacity: Int, shape: Shape, seed: UInt64) {
        self.capacity = capacity
        self.shape = shape
        self.windowCapacity = Self.windowCapacity(capacity, shape)
        self.random = seed | 1
    }

    static func windowCapacity(_ capacity: Int, _ shape: Shape) -> Int {
        max(1, min(capacity, Int(Double(capacity) * shape.window)))
    }

    var weight: Int { self.windowList.weight + self.mainList.weight }
    var count: Int { self.windowList.count + self.mainList.count }
    private var ghostSpan: Int { self.mainList.count + self.mainList.count / 2 }

    mutating func insert(
        _ entry: EvictionEntry,
        hash: UInt32,
        sketch: FrequencySketch,
        evicted: inout [Int32]
    ) {
        guard entry.weight <= self.capacity else {
            evicted.append(entry.slot)
            return
        }
        self.nodes.open(entry)
        self.nodes[entry.slot].tag = hash
        guard entry.weight > 0 else { return }
        if self.shape.readmits, self.ghost.take(hash, span: self.ghostSpan) {
            while self.weight > self.capacity - entry.weight { self.evictOne(sketch, evicted: &evicted) }
            self.nodes.prepend(entry.slot, to: &self.mainList, at: Self.main)
        } else {
            self.nodes.prepend(entry.slot, to: &self.windowList, at: Self.window)
            self.settle(sketch, evicted: &evicted)
        }
    }

    mutating func hit(_ slot: Int32) {
        switch self.nodes[slot].place {
        case Self.window: self.nodes.promote(slot, in: &self.windowList)
        case Self.main: if self.nodes[slot].mark < Self.countLimit { self.nodes[slot].mark += 1 }
        default: break
        }
    }

    /// Gives an entry another weight; it keeps its place.
    mutating func reweigh(_ entry: EvictionEntry, sketch: FrequencySketch, evicted: inout [Int32]) {
        let place = self.nodes[entry.slot].place
        if entry.weight > self.capacity {
            self.remove(entry.slot)
            evicted.append(entry.slot)
        } else if entry.weight > 0, place == Self.window {
            self.nodes.reweigh(entry.slot, to: entry.weight, in: &self.windowList)
        } else if entry.weight > 0, place == Self.main {
            self.nodes.reweigh(entry.slot, to: entry.weight, in: &self.mainList)
        } else if entry.weight > 0 || place != SlotNode.pinned {
            let hash = self.nodes[entry.slot].tag
            self.remove(entry.slot)
            self.insert(entry, hash: hash, sketch: sketch, evicted: &evicted)
        }
        self.settle(sketch, evicted: &evicted)
    }

    mutating func remove(_ slot: Int32) {
        self.unlink(slot)
        self.nodes.close(slot)
    }

    /// Divides the capacity differently; the entries move with the next calls.
    mutating func reshape(_ shape: Shape) {
        self.shape = shape
        self.windowCapacity = Self.windowCapacity(self.capacity, shape)
    }

    /// Changes the capacity of a model.
    mutating func resize(to capacity: Int, sketch: FrequencySketch, evicted: inout [Int32]) {
        self.capacity = capacity
        self.windowCapacity = Self.windowCapacity(capacity, self.shape)
        self.settle(sketch, evicted: &evicted)
    }

    /// Moves what the window has too much while the main queue has room, then evicts until the capacity is kept.
    private mutating func settle(_ sketch: FrequencySketch, evicted: inout [Int32]) {
        var moves = 0
        while self.windowList.weight > self.windowCapacity, moves < Self.moveLimit {
            let slot = self.windowList.tail
            guard self.mainList.weight + self.nodes[slot].weight <= self.capacity - self.windowCapacity else { break }
            self.moveToMain(slot)
            moves += 1
        }
        while self.weight > self.capacity { self.evictOne(sketch, evicted: &evicted) }
    }

    /// Evicts one entry, or lets one candidate into the main queue.
    ///
    /// The window's only entry is never a candidate: the newest entry stays until the next one comes, even if it is heavier
    /// than the window.
    private mutating func evictOne(_ sketch: FrequencySketch, evicted: inout [Int32]) {
        let victim = self.victim()
        let isMainOver = self.mainList.weight > self.capacity - self.windowCapacity
        guard victim < 0 || !(isMainOver || self.windowList.count <= 1) else {
            self.evict(victim, evicted: &evicted)
            return
        }
        let candidate = self.windowList.tail
        if victim >= 0, self.admits(self.nodes[candidate].tag, over: self.nodes[victim].tag, sketch) {
            self.defences = 0
            self.evict(victim, evicted: &evicted)
            self.moveToMain(candidate)
        } else {
            if victim >= 0 { self.defend(victim) }
            if self.shape.readmits { self.ghost.add(self.nodes[candidate].tag, span: self.ghostSpan) }
            self.evict(candidate, evicted: &evicted)
        }
    }

    private mutating func admits(_ candidate: UInt32, over victim: UInt32, _ sketch: FrequencySketch) -> Bool {
        let candidate = sketch.frequency(of: candidate)
        if candidate > sketch.frequency(of: victim) + 1 { return true }
        guard candidate >= Self.warm else { return false }
        self.random ^= self.random << 13
        self.random ^= self.random >> 7
        self.random ^= self.random << 17
        return self.random >> 57 == 0
    }

    /// The main queue's next victim, -1 if it is empty.
    private mutating func victim() -> Int32 {
        var slot = self.mainList.tail
        var rounds = 0
        while slot >= 0, self.nodes[slot].mark > 0, rounds < Self.searchLimit {
            self.nodes[slot].mark -= 1
            self.nodes.promote(slot, in: &self.mainList)
            slot = self.mainList.tail
            rounds += 1
        }
        return slot
    }

    /// A victim has beaten a candidate; after many it goes round, or one whose counters are shared with popular keys would
    /// protect everything behind it for as long as they are popular.
    private mutating func defend(_ victim: Int32) {
        self.defences += 1
        guard self.defences >= Self.defenceLimit else { return }
        self.defences = 0
        self.nodes.promote(victim, in: &self.mainList)
    }

    private mutating func moveToMain(_ slot: Int32) {
        self.nodes.unlink(slot, from: &self.windowList)
        self.nodes[slot].mark = 0
        self.nodes.prepend(slot, to: &self.mainList, at: Self.main)
    }

    private mutating func evict(_ slot: Int32, evicted: inout [Int32]) {
        self.remove(slot)
        evicted.append(slot)
    }

    private mutating func unlink(_ slot: Int32) {
        switch self.nodes[slot].place {
        case Self.window: self.nodes.unlink(slot, from: &self.windowList)
        case Self.main: self.nodes.unlink(slot, from: &self.mainList)
        default: break
        }
    }
}
