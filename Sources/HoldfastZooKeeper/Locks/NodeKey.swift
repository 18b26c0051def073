// SPDX-License-Identifier: Apache-2.0

/// The name of a node as what tables go by: pure.
///
/// Two names are the same as texts are. Hashed are the first and last bytes only, where names of one lock, and those of one
/// store, differ: a reference and a number.
struct NodeKey: Sendable, Hashable {
    private let text: String
    private let digest: UInt64

    init(_ text: String) {
        self.text = text
        // An FNV-1a hash, written out here, where the compiler sees what it runs over.
        let bytes = Array(text.utf8)
        var digest: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in bytes[..<min(bytes.count, Self.ends)] { digest = (digest ^ UInt64(byte)) &* 0x100_0000_01b3 }
        for byte in bytes[max(0, bytes.count - Self.ends)...] { digest = (digest ^ UInt64(byte)) &* 0x100_0000_01b3 }
        self.digest = digest
    }

    /// How many bytes at each end: `_c_` and a reference; a number and what marks it.
    private static let ends = 11

    func hash(into hasher: inout Hasher) { hasher.combine(self.digest) }
}
