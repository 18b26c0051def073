// SPDX-License-Identifier: Apache-2.0

/// One of the 16,384 parts that a Redis Cluster divides its keys into.
///
/// CRC-16/XMODEM of the key, or of what stands between its first `{` and the next `}` if that is not empty; source: the
/// Redis Cluster specification, "Key distribution model" and "Hash tags".
package struct RedisSlot: Sendable, Hashable, Comparable, CustomStringConvertible {
    /// How many there are.
    package static let count = 16_384

    /// From 0 to 16,383.
    package let number: UInt16

    /// Names a slot by its number; `nil` when there is none of that number.
    package init?(_ number: some BinaryInteger) {
        guard (0..<Self.count).contains(Int(clamping: number)) else { return nil }
        self.number = UInt16(number)
    }

    /// The slot of a key.
    package init(of key: String) {
        self.number = Self.checksum(Self.tag(of: Array(key.utf8))) % UInt16(Self.count)
    }

    /// Its number.
    package var description: String { String(self.number) }

    package static func < (left: RedisSlot, right: RedisSlot) -> Bool { left.number < right.number }

    private static func tag(of key: [UInt8]) -> ArraySlice<UInt8> {
        guard let open = key.firstIndex(of: UInt8(ascii: "{")) else { return key[...] }
        let rest = key[(open + 1)...]
        guard let close = rest.firstIndex(of: UInt8(ascii: "}")), close > rest.startIndex else { return key[...] }
        return rest[..<close]
    }

    private static let table: [UInt16] = (0..<256).map { index in
        (0..<8).reduce(UInt16(index) << 8) { value, _ in value & 0x8000 == 0 ? value << 1 : value << 1 ^ 0x1021 }
    }

    private static func checksum(_ bytes: ArraySlice<UInt8>) -> UInt16 {
        bytes.reduce(0) { value, byte in value << 8 ^ Self.table[Int(UInt8(truncatingIfNeeded: value >> 8) ^ byte)] }
    }
}
