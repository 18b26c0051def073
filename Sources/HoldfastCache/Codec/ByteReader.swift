// SPDX-License-Identifier: Apache-2.0

/// Reads numbers and texts from bytes that may be anything.
struct ByteReader {
    private var rest: ArraySlice<UInt8>

    init(_ bytes: ArraySlice<UInt8>) { self.rest = bytes }

    /// Whether nothing is left.
    var isAtEnd: Bool { self.rest.isEmpty }

    /// So many bytes, if there are.
    mutating func bytes(_ count: Int) -> ArraySlice<UInt8>? {
        guard count >= 0, count <= self.rest.count else { return nil }
        defer { self.rest = self.rest.dropFirst(count) }
        return self.rest.prefix(count)
    }

    /// A big-endian number of so many bytes, at most 8.
    mutating func number(_ width: Int) -> UInt64? { self.bytes(width)?.reduce(0) { $0 << 8 | UInt64($1) } }

    /// A text of so many bytes of UTF-8.
    mutating func text(_ count: Int) -> String? { self.bytes(count).flatMap { String(validating: $0, as: UTF8.self) } }
}

extension [UInt8] {
    /// Adds a big-endian number of so many bytes.
    mutating func append(_ number: UInt64, width: Int) {
        for place in (0..<width).reversed() { self.append(UInt8(truncatingIfNeeded: number >> UInt64(8 * place))) }
    }
}
