// SPDX-License-Identifier: Apache-2.0

import HoldfastCache

/// The marks of a namespace as one string: they are read with every entry, and all at one moment.
///
/// ```
/// HFC1M 1763914407000002 1763914407000000⏎               current mark, mark of everything
/// 1763914407000001 1766506407000000 0006 users/⏎         a prefix: mark, end in µs, length in bytes
/// ```
enum MarkRecord {
    private static let head = 40
    private static let prefixHead = 39

    /// Reads it; no marks when it is not ours.
    static func marks(_ bytes: [UInt8]) -> TierMarks {
        guard bytes.count >= Self.head, bytes.starts(with: "HFC1M ".utf8),
            let current = CacheRecord.decimal(bytes[6..<22]), let all = CacheRecord.decimal(bytes[23..<39]),
            bytes[39] == UInt8(ascii: "\n")
        else { return TierMarks() }
        var marks = TierMarks(current: current, all: all)
        var rest = bytes[Self.head...]
        while rest.count > Self.prefixHead {
            let start = rest.startIndex
            guard let mark = CacheRecord.decimal(rest[start..<start + 16]),
                let length = CacheRecord.decimal(rest[start + 34..<start + 38]),
                rest.count > Self.prefixHead + Int(length),
                let prefix = String(
                    validating: rest[start + Self.prefixHead..<start + Self.prefixHead + Int(length)],
                    as: UTF8.self
                )
            else { break }
            rest = rest.dropFirst(Self.prefixHead + Int(length) + 1)
            // Two texts of other bytes can be equal to Swift; then everything is invalid rather than too little.
            if let other = marks.prefixes[prefix] { marks.all = max(marks.all, mark, other) }
            marks.prefixes[prefix] = mark
        }
        return marks
    }

    /// Reads the mark of a tag; 0 when there is none.
    static func tag(_ bytes: [UInt8]) -> UInt64 { bytes.count == 16 ? CacheRecord.decimal(bytes[...]) ?? 0 : 0 }
}
