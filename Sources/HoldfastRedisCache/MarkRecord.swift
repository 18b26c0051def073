// SPDX-License-Identifier: Apache-2.0

import HoldfastCache

/// The marks of a namespace as one string: they are read with every entry, and all at one moment.
///
/// ```
/// HFC1M 1763914407000002 1763914407000000⏎               current mark, mark of everything
/// 1763914407000001 1766506407000000 0006 users/⏎         a prefix: mark, end in µs, length in bytes
/// ```
///
/// What is there and is none of this was damaged, and nobody knows what it had made invalid: so everything is, until the
/// next invalidation writes it anew. Scripts see it the same way.
enum MarkRecord {
    private static let head = 40
    private static let prefixHead = 39
    private static let space = UInt8(ascii: " ")
    private static let newline = UInt8(ascii: "\n")

    /// All marks are below: scripts could not count on.
    static let limit = CacheRecord.highestVersion
    /// Those of what cannot be read: everything is older, and what is loaded meanwhile too.
    static let unreadable = TierMarks(current: 0, all: TierMarks.unreadable)

    /// Reads it; `nil` when it was damaged.
    static func marks(_ bytes: [UInt8]) -> TierMarks? {
        guard bytes.count >= Self.head, bytes.starts(with: "HFC1M ".utf8), bytes[22] == Self.space,
            bytes[39] == Self.newline, let current = CacheRecord.decimal(bytes[6..<22]), current < Self.limit,
            let all = CacheRecord.decimal(bytes[23..<39]), all <= current
        else { return nil }
        var marks = TierMarks(current: current, all: all)
        var rest = bytes[Self.head...]
        while !rest.isEmpty {
            let start = rest.startIndex
            guard rest.count > Self.prefixHead, let mark = CacheRecord.decimal(rest[start..<start + 16]),
                mark <= current, rest[start + 16] == Self.space,
                CacheRecord.decimal(rest[start + 17..<start + 33]) != nil,
                rest[start + 33] == Self.space, let length = CacheRecord.decimal(rest[start + 34..<start + 38]),
                rest[start + 38] == Self.space, rest.count > Self.prefixHead + Int(length),
                let prefix = String(
                    validating: rest[start + Self.prefixHead..<start + Self.prefixHead + Int(length)],
                    as: UTF8.self
                ), rest[start + Self.prefixHead + Int(length)] == Self.newline
            else { return nil }
            rest = rest.dropFirst(Self.prefixHead + Int(length) + 1)
            // Two texts of other bytes can be equal to Swift; then everything is invalid rather than too little.
            if let other = marks.prefixes[prefix] { marks.all = max(marks.all, mark, other) }
            marks.prefixes[prefix] = mark
        }
        return marks
    }

    /// Reads the mark of a tag; of what is none, one that everything is older than.
    static func tag(_ bytes: [UInt8]) -> UInt64 {
        guard bytes.count == 16, let mark = CacheRecord.decimal(bytes[...]), mark < Self.limit else {
            return TierMarks.unreadable
        }
        return mark
    }
}
