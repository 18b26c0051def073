// SPDX-License-Identifier: Apache-2.0

/// How often hashes were seen lately, in four bits a counter: a count-min sketch that forgets.
///
/// Four rows; an estimate is the smallest of a hash's four counters, so it is never too low while none of them is full
/// (15). After ten times as many additions as there are entries all counters are halved (the "reset" of Einziger,
/// Friedman and Manes, "TinyLFU", ACM ToS 2017). All four counters of a hash are in one block of 64 bytes, as in Caffeine:
/// one cache line each time. Only the counters that are at the minimum grow (the "conservative update" of Estan and
/// Varghese, SIGCOMM 2002), which makes the estimates of keys that share counters closer.
struct FrequencySketch: Sendable {
    /// The largest estimate.
    static let limit = 15
    /// How many additions between halvings, for each entry.
    private static let periodPerEntry = 10
    /// Smaller caches get the sketch of a cache of this size, four kilobytes: with less, a few hundred keys drown it.
    private static let leastEntries = 512
    /// How many words one addition halves.
    private static let stride = 1024

    private var table: ContiguousArray<UInt64>
    private let seed: UInt64
    /// Additions since the last halving.
    private var additions = 0
    /// How much of the table the halving in progress has done; all of it when none is.
    private var halved: Int
    /// How many additions until the next halving.
    private(set) var period: Int
    /// The number of entries that the sketch is fit for.
    private(set) var entries: Int

    /// Makes a sketch.
    ///
    /// - Parameters:
    ///   - entries: How many entries the cache is expected to hold; ``reserve(_:)`` changes it.
    ///   - seed: Keeps others from choosing keys that share counters.
    init(entries: Int, seed: UInt64) {
        let entries = max(entries, Self.leastEntries)
        self.entries = entries
        self.seed = seed &* 0x9E37_79B9_7F4A_7C15 | 1
        self.table = ContiguousArray(repeating: 0, count: Self.words(for: entries))
        self.halved = self.table.count
        self.period = entries * Self.periodPerEntry
    }

    /// A word of sixteen counters for each entry, in whole blocks, a power of two.
    private static func words(for entries: Int) -> Int {
        var words = 8
        while words < entries { words *= 2 }
        return words
    }

    /// Fits the sketch to another number of entries.
    ///
    /// The period follows at once. The table only grows, by being repeated: a block's index is the low bits of the hash, so
    /// that each hash finds in the copy what it had counted in the original.
    mutating func reserve(_ entries: Int) {
        let entries = max(entries, Self.leastEntries)
        self.entries = entries
        self.period = entries * Self.periodPerEntry
        while self.table.count < entries {
            while self.halved < self.table.count { self.halveSome() }
            self.table.append(contentsOf: self.table)
            self.halved = self.table.count
        }
    }

    /// Counts a hash once.
    mutating func add(_ hash: UInt32) {
        var mixed = self.mix(hash)
        let block = Int(truncatingIfNeeded: mixed) & (self.table.count - 8)
        mixed >>= 40
        let (w0, s0) = Self.counter(block, 0, mixed)
        let (w1, s1) = Self.counter(block, 1, mixed)
        let (w2, s2) = Self.counter(block, 2, mixed)
        let (w3, s3) = Self.counter(block, 3, mixed)
        var table = self.table.mutableSpan
        let c0 = (table[w0] &>> s0) & 15
        let c1 = (table[w1] &>> s1) & 15
        let c2 = (table[w2] &>> s2) & 15
        let c3 = (table[w3] &>> s3) & 15
        let least = min(min(c0, c1), min(c2, c3))
        guard least < UInt64(Self.limit) else { return }
        // Sums and not branches: which of the four are at the minimum is as good as chance, and no processor guesses it.
        table[w0] &+= (c0 == least ? 1 : 0) &<< s0
        table[w1] &+= (c1 == least ? 1 : 0) &<< s1
        table[w2] &+= (c2 == least ? 1 : 0) &<< s2
        table[w3] &+= (c3 == least ? 1 : 0) &<< s3
        self.additions += 1
        if self.halved < self.table.count {
            self.halveSome()
        } else if self.additions >= self.period {
            self.additions /= 2
            self.halved = 0
        }
    }

    /// How often a hash was seen, 0 to 15.
    func frequency(of hash: UInt32) -> Int {
        var mixed = self.mix(hash)
        let block = Int(truncatingIfNeeded: mixed) & (self.table.count - 8)
        mixed >>= 40
        let (w0, s0) = Self.counter(block, 0, mixed)
        let (w1, s1) = Self.counter(block, 1, mixed)
        let (w2, s2) = Self.counter(block, 2, mixed)
        let (w3, s3) = Self.counter(block, 3, mixed)
        let left = min((self.table[w0] &>> s0) & 15, (self.table[w1] &>> s1) & 15)
        let right = min((self.table[w2] &>> s2) & 15, (self.table[w3] &>> s3) & 15)
        return Int(truncatingIfNeeded: min(left, right))
    }

    /// The word and the bit at which a row's counter is: two words of a block belong to each row.
    private static func counter(_ block: Int, _ row: Int, _ mixed: UInt64) -> (word: Int, shift: UInt64) {
        let bits = mixed &>> UInt64(row &* 5)
        return (block &+ row &* 2 &+ Int(truncatingIfNeeded: bits & 1), ((bits &>> 1) & 15) &* 4)
    }

    private func mix(_ hash: UInt32) -> UInt64 {
        var mixed = (UInt64(hash) ^ self.seed) &* 0xBF58_476D_1CE4_E5B9
        mixed ^= mixed >> 32
        mixed = mixed &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 29)
    }

    /// Halves the next part of the table, so that no single call has the whole of a large table to do.
    private mutating func halveSome() {
        let end = min(self.table.count, self.halved + Self.stride)
        for index in self.halved..<end { self.table[index] = (self.table[index] >> 1) & 0x7777_7777_7777_7777 }
        self.halved = end
    }
}
