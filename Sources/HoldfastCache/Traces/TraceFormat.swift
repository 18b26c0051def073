// SPDX-License-Identifier: Apache-2.0

/// How a trace of cache accesses is written.
public enum TraceFormat: String, Sendable, CaseIterable {
    /// Text, a decimal key on each line; empty lines and lines that are `*` are skipped.
    case lirs
    /// Text, `start count ignored ignored` on each line: `count` keys one after another from `start`.
    case arc
    /// Big-endian keys of 32 bits.
    case b32
    /// Big-endian keys of 64 bits.
    case b64
    /// Little-endian keys of 32 bits.
    case u32
    /// libCacheSim's `oracleGeneral`: little-endian records of 24 bytes, `u32` time, `u64` key, `u32` size, `i64` next use.
    case oracle

    /// The length of a record in bytes; `nil` for text.
    var recordLength: Int? {
        switch self {
        case .lirs, .arc: nil
        case .b32, .u32: 4
        case .b64: 8
        case .oracle: 24
        }
    }
}

/// One access.
public struct TraceRequest: Sendable, Hashable {
    /// What is accessed.
    public var key: UInt64
    /// Its size in bytes; 1 in formats without sizes.
    public var size: Int

    /// Describes an access.
    public init(key: UInt64, size: Int = 1) {
        self.key = key
        self.size = size
    }
}

/// Why a trace cannot be read.
public enum TraceError: Error, Sendable, Hashable {
    /// A line is not what the format says; counted from 1.
    case malformedLine(Int)
    /// The trace ends inside a record; this many bytes are left over.
    case truncated(Int)
    /// The operating system could not read; its error number.
    case unreadable(Int32)
    /// What feeds the reader failed, a decompressor for example.
    case source(String)
}
