// SPDX-License-Identifier: Apache-2.0

/// Text forms of bytes and numbers, without Foundation.
package enum Hex {
    /// The upper-case digit of a number below 16.
    static func digit(_ value: UInt8) -> UInt8 {
        value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "A") + value - 10
    }

    /// Two digits.
    package static func text(of byte: UInt8) -> String {
        String(decoding: [digit(byte >> 4), digit(byte & 0xF)], as: UTF8.self)
    }

    /// Sixteen lower-case digits.
    package static func text(of word: UInt64) -> String {
        String(unsafeUninitializedCapacity: 16) { unsafe fill($0, at: 0, with: word) }
    }

    /// Thirty-two lower-case digits, high word first.
    package static func text(of high: UInt64, _ low: UInt64) -> String {
        String(unsafeUninitializedCapacity: 32) { buffer in
            _ = unsafe fill(buffer, at: 0, with: high)
            return unsafe 16 + fill(buffer, at: 16, with: low)
        }
    }

    private static func fill(
        _ buffer: UnsafeMutableBufferPointer<UInt8>,
        at start: Int,
        with word: UInt64
    ) -> Int {
        for index in 0..<16 {
            let nibble = UInt8(truncatingIfNeeded: word >> UInt64(60 - 4 * index)) & 0xF
            unsafe buffer[start + index] = nibble < 10 ? UInt8(ascii: "0") + nibble : UInt8(ascii: "a") + nibble - 10
        }
        return 16
    }

    /// Reads exactly sixteen lower-case digits.
    package static func word(_ digits: some Sequence<UInt8>) -> UInt64? {
        var word: UInt64 = 0
        var count = 0
        for digit in digits {
            switch digit {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): word = word << 4 | UInt64(digit - UInt8(ascii: "0"))
            case UInt8(ascii: "a")...UInt8(ascii: "f"): word = word << 4 | UInt64(digit - UInt8(ascii: "a") + 10)
            default: return nil
            }
            count += 1
        }
        return count == 16 ? word : nil
    }
}

/// The 64-bit FNV-1a hash (Fowler, Noll, Vo; draft-eastlake-fnv): the same in every process, unlike `Hasher`.
package enum FNV1a {
    /// Hashes bytes.
    package static func hash(_ bytes: some Sequence<UInt8>) -> UInt64 {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in bytes { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        return hash
    }
}
