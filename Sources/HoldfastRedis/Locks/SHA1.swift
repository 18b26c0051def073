// SPDX-License-Identifier: Apache-2.0

/// The SHA-1 hash (FIPS 180-4), which Redis names scripts by.
///
/// Not for anything that needs security.
package enum SHA1 {
    /// Hashes a text.
    ///
    /// - Parameter text: The text.
    /// - Returns: Forty lower-case hexadecimal digits.
    package static func hex(_ text: String) -> String {
        Self.digest(text.utf8).map { word in
            let digits = String(word, radix: 16)
            return String(repeating: "0", count: 8 - digits.count) + digits
        }.joined()
    }

    /// Hashes bytes.
    ///
    /// - Parameter bytes: The bytes.
    /// - Returns: The first 32 bits: what the first eight digits say.
    package static func start(_ bytes: ArraySlice<UInt8>) -> UInt32 { Self.digest(bytes)[0] }

    private static func digest(_ text: some Collection<UInt8>) -> [UInt32] {
        var bytes = Array(text)
        let bits = UInt64(bytes.count) * 8
        bytes.append(0x80)
        while bytes.count % 64 != 56 { bytes.append(0) }
        for shift in stride(from: 56, through: 0, by: -8) { bytes.append(UInt8(truncatingIfNeeded: bits >> shift)) }

        var hash: [UInt32] = [0x6745_2301, 0xEFCD_AB89, 0x98BA_DCFE, 0x1032_5476, 0xC3D2_E1F0]
        for block in stride(from: 0, to: bytes.count, by: 64) { Self.mix(bytes[block..<block + 64], into: &hash) }
        return hash
    }

    private static func mix(_ block: ArraySlice<UInt8>, into hash: inout [UInt32]) {
        var words = stride(from: block.startIndex, to: block.endIndex, by: 4).map { index in
            block[index..<index + 4].reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
        }
        for index in 16..<80 {
            words.append(Self.rotate(words[index - 3] ^ words[index - 8] ^ words[index - 14] ^ words[index - 16], 1))
        }
        var (a, b, c, d, e) = (hash[0], hash[1], hash[2], hash[3], hash[4])
        for (index, word) in words.enumerated() {
            let (function, constant): (UInt32, UInt32) =
                switch index {
                case 0..<20: (b & c | ~b & d, 0x5A82_7999)
                case 20..<40: (b ^ c ^ d, 0x6ED9_EBA1)
                case 40..<60: (b & c | b & d | c & d, 0x8F1B_BCDC)
                default: (b ^ c ^ d, 0xCA62_C1D6)
                }
            (a, b, c, d, e) = (Self.rotate(a, 5) &+ function &+ e &+ constant &+ word, a, Self.rotate(b, 30), c, d)
        }
        for (index, word) in [a, b, c, d, e].enumerated() { hash[index] = hash[index] &+ word }
    }

    private static func rotate(_ word: UInt32, _ count: UInt32) -> UInt32 { word << count | word >> (32 - count) }
}
