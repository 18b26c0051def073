// SPDX-License-Identifier: Apache-2.0

import Foundation

/// Turns values into bytes for shared tiers, and back.
///
/// What it makes must be read by every version of the program that shares the tier; what cannot be read is a miss and not
/// an error.
public protocol CacheCodec<Value>: Sendable {
    /// What it is for.
    associatedtype Value: Sendable

    /// Stands in each envelope and says who made it: 1 to 255, and never given to another codec. 1 to 15 are this library's.
    var id: UInt8 { get }

    /// Makes bytes of a value.
    ///
    /// - Parameter value: The value.
    /// - Returns: The bytes.
    /// - Throws: When the value has no bytes; it is then not shared.
    func encode(_ value: Value) throws -> [UInt8]

    /// Makes a value of bytes.
    ///
    /// Called only with bytes whose size and checksum were found right, made by a codec with this id.
    ///
    /// - Parameter bytes: The bytes.
    /// - Returns: The value.
    /// - Throws: When they are not those of a value.
    func decode(_ bytes: ArraySlice<UInt8>) throws -> Value
}

/// Values as JSON, which other languages and people can read.
public struct JSONCacheCodec<Value: Codable & Sendable>: CacheCodec {
    /// 1.
    public let id: UInt8 = 1

    /// Makes a codec.
    public init() {}

    /// The value as JSON, with sorted keys: equal values have equal bytes.
    ///
    /// - Parameter value: The value.
    /// - Returns: UTF-8.
    /// - Throws: `EncodingError`.
    public func encode(_ value: Value) throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return Array(try encoder.encode(value))
    }

    /// A value of JSON.
    ///
    /// - Parameter bytes: UTF-8.
    /// - Returns: The value.
    /// - Throws: `DecodingError`.
    public func decode(_ bytes: ArraySlice<UInt8>) throws -> Value {
        try JSONDecoder().decode(Value.self, from: Data(bytes))
    }
}
