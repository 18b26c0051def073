// SPDX-License-Identifier: Apache-2.0

/// Finds the slot of a key by its hash: a table with open addressing, linear probing and deletion by shifting back.
///
/// A cell is 8 bytes: the upper half of the hash and the slot, so that a lookup of an absent key rarely has to look at an
/// entry. Source: Knuth, The Art of Computer Programming 3, 6.4, algorithm R.
@usableFromInline
struct MemoryIndex: Sendable {
    /// Fingerprint in the upper half, slot + 1 in the lower; 0 is an empty cell.
    @usableFromInline
    var cells: ContiguousArray<UInt64>
    @usableFromInline
    var mask: Int
    @usableFromInline
    var count = 0

    private static let smallest = 16

    init() {
        self.cells = ContiguousArray(repeating: 0, count: Self.smallest)
        self.mask = Self.smallest - 1
    }

    /// What of a key's hash is kept here: its upper half.
    @usableFromInline
    static func fingerprint(_ hash: UInt64) -> UInt32 { UInt32(truncatingIfNeeded: hash >> 32) }

    private static func cell(_ fingerprint: UInt32, _ slot: Int32) -> UInt64 {
        UInt64(fingerprint) << 32 | UInt64(UInt32(slot + 1))
    }

    /// Where a fingerprint would like to be.
    private func home(_ cell: UInt64) -> Int { Int(truncatingIfNeeded: cell >> 32) & self.mask }

    /// The slot of a key.
    ///
    /// - Parameters:
    ///   - hash: The key's hash.
    ///   - matches: Whether a slot has that key.
    /// - Returns: The slot, or -1.
    @inlinable
    @inline(__always)
    func find(_ hash: UInt64, _ matches: (Int32) -> Bool) -> Int32 {
        let fingerprint = hash >> 32
        var place = Int(truncatingIfNeeded: fingerprint) & self.mask
        while true {
            let cell = self.cells[place]
            if cell == 0 { return -1 }
            if cell >> 32 == fingerprint {
                let slot = Int32(truncatingIfNeeded: cell & 0xFFFF_FFFF) - 1
                if matches(slot) { return slot }
            }
            place = (place + 1) & self.mask
        }
    }

    /// Adds a slot that is not there.
    ///
    /// - Parameters:
    ///   - fingerprint: The upper half of the key's hash.
    ///   - slot: The slot.
    mutating func insert(_ fingerprint: UInt32, _ slot: Int32) {
        // At most five eighths full: probes stay short.
        if (self.count + 1) * 8 > self.cells.count * 5 { self.grow() }
        self.place(Self.cell(fingerprint, slot))
        self.count += 1
    }

    private mutating func place(_ cell: UInt64) {
        var place = self.home(cell)
        while self.cells[place] != 0 { place = (place + 1) & self.mask }
        self.cells[place] = cell
    }

    /// Removes a slot that is there.
    ///
    /// - Parameters:
    ///   - fingerprint: The upper half of the key's hash.
    ///   - slot: The slot.
    mutating func remove(_ fingerprint: UInt32, _ slot: Int32) {
        let sought = Self.cell(fingerprint, slot)
        var hole = self.home(sought)
        while self.cells[hole] != sought {
            precondition(self.cells[hole] != 0, "the slot is not in the index")
            hole = (hole + 1) & self.mask
        }
        self.count -= 1
        var next = hole
        while true {
            next = (next + 1) & self.mask
            let cell = self.cells[next]
            guard cell != 0 else { break }
            // It may move into the hole only if its home is not between the two.
            if (next - self.home(cell)) & self.mask >= (next - hole) & self.mask {
                self.cells[hole] = cell
                hole = next
            }
        }
        self.cells[hole] = 0
    }

    private mutating func grow() {
        let old = self.cells
        self.cells = ContiguousArray(repeating: 0, count: old.count * 2)
        self.mask = old.count * 2 - 1
        for cell in old where cell != 0 { self.place(cell) }
    }
}
