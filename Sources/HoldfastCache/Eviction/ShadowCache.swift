// SPDX-License-Identifier: Apache-2.0

/// A small model of the cache with another shape, fed with a sample of the keys: hashes only, no values.
///
/// A sample of the keys on a cache smaller by the same factor has about the hit ratio of the whole (Waldspurger, Saemundsson,
/// Ahmad and Park, "Cache Modeling and Optimization using Miniature Simulations", USENIX ATC 2017).
struct ShadowCache: Sendable {
    private(set) var core: TinyLFUCore
    /// Open addressing by hash: a slot plus one, 0 for free; at most half full.
    private var index: ContiguousArray<Int32>
    private var free: ContiguousArray<Int32> = []
    private var slots: Int32 = 0
    private var evicted: [Int32] = []
    /// The hash in each slot, which outlives the core's node for the time that the index needs to find it.
    private var hashes: ContiguousArray<UInt32> = []

    init(capacity: Int, shape: TinyLFUCore.Shape, seed: UInt64) {
        self.core = TinyLFUCore(capacity: capacity, shape: shape, seed: seed)
        self.index = ContiguousArray(repeating: 0, count: 16)
    }

    /// Uses a key, and says whether it was there.
    mutating func hit(_ hash: UInt32) -> Bool {
        let slot = self.find(hash)
        guard slot >= 0 else { return false }
        self.core.hit(slot)
        return true
    }

    /// Puts in a key that is not there.
    mutating func insert(_ hash: UInt32, weight: Int, sketch: FrequencySketch) {
        if Int(self.slots) - self.free.count >= self.index.count / 2 { self.grow() }
        let new: Int32
        if let last = self.free.popLast() {
            new = last
        } else {
            new = self.slots
            self.slots += 1
            self.hashes.append(0)
        }
        self.hashes[Int(new)] = hash
        self.place(new)
        self.core.insert(
            EvictionEntry(slot: new, hash: 0, weight: weight),
            hash: hash,
            sketch: sketch,
            evicted: &self.evicted
        )
        self.drain()
    }

    /// A key was removed or got another weight.
    mutating func change(_ hash: UInt32, weight: Int, sketch: FrequencySketch) {
        let slot = self.find(hash)
        guard slot >= 0 else { return }
        if weight > 0 {
            let entry = EvictionEntry(slot: slot, hash: 0, weight: weight)
            self.core.reweigh(entry, sketch: sketch, evicted: &self.evicted)
        } else {
            self.core.remove(slot)
            self.evicted.append(slot)
        }
        self.drain()
    }

    /// Keeps only the keys that are in a smaller sample, on a smaller capacity.
    mutating func thin(to capacity: Int, sketch: FrequencySketch, keeping isKept: (UInt32) -> Bool) {
        for slot in 0..<self.slots where self.core.nodes.contains(slot) && !isKept(self.hashes[Int(slot)]) {
            self.core.remove(slot)
            self.evicted.append(slot)
        }
        self.drain()
        self.core.resize(to: capacity, sketch: sketch, evicted: &self.evicted)
        self.drain()
    }

    private mutating func drain() {
        for slot in self.evicted {
            self.unplace(slot)
            self.free.append(slot)
        }
        self.evicted.removeAll(keepingCapacity: true)
    }

    private func home(_ hash: UInt32) -> Int { Int((hash &* 0x9E37_79B1) >> 7) & (self.index.count - 1) }

    private func find(_ hash: UInt32) -> Int32 {
        var at = self.home(hash)
        while self.index[at] != 0 {
            let slot = self.index[at] - 1
            if self.hashes[Int(slot)] == hash { return slot }
            at = (at + 1) & (self.index.count - 1)
        }
        return -1
    }

    private mutating func place(_ slot: Int32) {
        var at = self.home(self.hashes[Int(slot)])
        while self.index[at] != 0 { at = (at + 1) & (self.index.count - 1) }
        self.index[at] = slot + 1
    }

    /// Takes a slot out of the index and closes the gap (Knuth, volume 3, section 6.4, algorithm R).
    private mutating func unplace(_ slot: Int32) {
        let mask = self.index.count - 1
        var gap = self.home(self.hashes[Int(slot)])
        while self.index[gap] != slot + 1 { gap = (gap + 1) & mask }
        var at = gap
        while true {
            at = (at + 1) & mask
            let other = self.index[at]
            if other == 0 { break }
            let home = self.home(self.hashes[Int(other - 1)])
            if (at - home) & mask >= (at - gap) & mask {
                self.index[gap] = other
                gap = at
            }
        }
        self.index[gap] = 0
    }

    private mutating func grow() {
        let old = self.index
        self.index = ContiguousArray(repeating: 0, count: old.count * 2)
        for slot in old where slot != 0 { self.place(slot - 1) }
    }
}
