// SPDX-License-Identifier: Apache-2.0

/// A number that grows with every grant of a resource, for the resource to check.
///
/// A lease alone never gives exclusion: a holder may be paused past its deadline and not know it. The token lets the
/// thing that is written to refuse the late writer (see `FencedStore`). It stays the same over re-entry and downgrade
/// and is new after an upgrade. It is below 2^53, so that Lua and JSON numbers carry it exactly.
public struct FencingToken: Sendable, Hashable, Comparable, Codable, RawRepresentable, CustomStringConvertible {
    /// The number.
    public let rawValue: UInt64

    /// Wraps a number.
    public init(rawValue: UInt64) { self.rawValue = rawValue }

    /// Below every token that a store gives.
    public static let zero = FencingToken(rawValue: 0)

    /// Orders by age: the later grant is the greater.
    public static func < (left: FencingToken, right: FencingToken) -> Bool { left.rawValue < right.rawValue }

    /// The number in decimal digits.
    public var description: String { String(self.rawValue) }

    /// Reads the number.
    public init(from decoder: any Decoder) throws {
        self.rawValue = try decoder.singleValueContainer().decode(UInt64.self)
    }

    /// Writes the number.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(self.rawValue)
    }
}

/// The check that a resource makes before it accepts a write, as a pure value.
///
/// The rule is `token >= highest`: a holder may write many times with one token, an older holder never again.
public struct Fence: Sendable, Hashable, Codable {
    /// The highest token accepted so far.
    public private(set) var highest: FencingToken

    /// Makes a fence that has accepted tokens up to `highest`.
    public init(highest: FencingToken = .zero) { self.highest = highest }

    /// Accepts or refuses a write.
    ///
    /// - Parameter token: The token that came with the write.
    /// - Throws: ``LockError`` with code ``LockError/Code/fenced`` when a higher token was accepted before.
    public mutating func admit(_ token: FencingToken) throws(LockError) {
        guard token >= self.highest else {
            throw LockError(.fenced, "the write carries token \(token), but \(self.highest) was already accepted")
        }
        self.highest = token
    }
}
