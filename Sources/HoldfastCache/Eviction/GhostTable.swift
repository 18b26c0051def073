// SPDX-License-Identifier: Apache-2.0

/// Hashes of entries that left lately, oldest forgotten first: a table without links, four bytes for each.
///
/// A hash may be in one bucket of eight only. Half of a place tells the hashes of a bucket apart (one in eight thousand is
/// taken for another), half is the time of the departure; a full bucket gives up its oldest. The table is kept at twice the
/// size that it must remember, so that few are forgotten too early. The S3-FIFO paper proposes such a table (SOSP 2023,
/// section 4.2).
struct GhostTable: Sendable {
    private static let bucket = 8
    /// Ticks that a departure may be old, at most: half of what 16 bits can tell apart.
    private static let ticks = 1 << 14

    /// A mark of the hash in the upper half, the tick in the lower; 0 when free.
    private var places: ContiguousArray<UInt32>
    /// Departures so far.
    private var departures: UInt64 = 0
    /// How many departures make a tick, as a power of two.
    private var tickShift: UInt64 = 0

    init() { self.places = ContiguousArray(repeating: 0, count: Self.bucket) }

    private var tick: UInt16 { UInt16(truncatingIfNeeded: self.departures >> self.tickShift) }

    /// Remembers a departure.
    ///
    /// - Parameters:
    ///   - hash: The entry's hash.
    ///   - span: How many departures are to be remembered. The table grows to twice that, and forgets all when it grows.
    mutating func add(_ hash: UInt32, span: Int) {
        if self.places.count < 2 * span { self.grow(to: 2 * span) }
        self.departures &+= 1
        let mark = Self.mark(of: hash)
        let tick = self.tick
        var (oldest, age) = (0, UInt16(0))
        for index in self.range(of: hash) {
            let other = self.places[index]
            if other == 0 || other >> 16 == mark {
                oldest = index
                break
            }
            let otherAge = tick &- UInt16(truncatingIfNeeded: other)
            if otherAge >= age { (oldest, age) = (index, otherAge) }
        }
        self.places[oldest] = mark << 16 | UInt32(tick)
    }

    /// Forgets a hash, and says whether it left within the last `span` departures.
    mutating func take(_ hash: UInt32, span: Int) -> Bool {
        let mark = Self.mark(of: hash)
        for index in self.range(of: hash) where self.places[index] >> 16 == mark {
            let age = self.tick &- UInt16(truncatingIfNeeded: self.places[index])
            self.places[index] = 0
            return Int(age) << Int(self.tickShift) < span
        }
        return false
    }

    /// Never 0, so that a place in use is not 0 either.
    private static func mark(of hash: UInt32) -> UInt32 { (hash &* 0x85EB_CA6B) >> 16 | 1 }

    private func range(of hash: UInt32) -> Range<Int> {
        let mixed = (UInt64(hash) &* 0x9E37_79B9_7F4A_7C15) >> 32
        let start = Int(truncatingIfNeeded: mixed) & (self.places.count - 1) & ~(Self.bucket - 1)
        return start..<start + Self.bucket
    }

    private mutating func grow(to size: Int) {
        var count = self.places.count
        while count < size { count *= 2 }
        self.places = ContiguousArray(repeating: 0, count: count)
        self.tickShift = 0
        while count >> Int(self.tickShift) > Self.ticks { self.tickShift += 1 }
    }
}
