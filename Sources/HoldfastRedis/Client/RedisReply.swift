// SPDX-License-Identifier: Apache-2.0

/// What a Redis server answers to one command (RESP2).
package enum RedisReply: Sendable, Hashable {
    /// No value.
    case null
    /// A number.
    case integer(Int64)
    /// A short text such as `OK`.
    case status(String)
    /// A value.
    case string([UInt8])
    /// An error line, such as `NOSCRIPT No matching script`.
    case error(String)
    /// Several replies.
    case array([RedisReply])

    /// The number, when this is one or its decimal text.
    package var number: Int64? {
        switch self {
        case .integer(let value): value
        case .string(let bytes): Int64(String(decoding: bytes, as: UTF8.self))
        case .null, .status, .error, .array: nil
        }
    }

    /// The text, when this has one.
    package var text: String? {
        switch self {
        case .string(let bytes): String(decoding: bytes, as: UTF8.self)
        case .status(let text): text
        case .integer(let value): String(value)
        case .null, .error, .array: nil
        }
    }

    /// The elements, when this is an array.
    package var elements: [RedisReply]? {
        if case .array(let elements) = self { elements } else { nil }
    }
}
