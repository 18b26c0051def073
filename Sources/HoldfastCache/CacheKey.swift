// SPDX-License-Identifier: Apache-2.0

/// A key that has a text: what it is called in a shared tier, and what prefixes are compared with.
///
/// Different keys of one type must have different texts, in every process and every version of the program: an identifier,
/// and not what `description` or a memory address happens to say.
public protocol CacheKey: Hashable, Sendable {
    /// The text, at most ``CacheLimits/maximumKey`` bytes for a shared tier.
    var cacheKey: String { get }

    /// The key of a text; `nil` when it is that of none.
    ///
    /// Needed for news from other processes, which name keys by their texts.
    init?(cacheKey: String)
}

extension String: CacheKey {
    /// The text itself.
    public var cacheKey: String { self }

    /// The text itself.
    public init?(cacheKey: String) { self = cacheKey }
}

extension CacheKey where Self: FixedWidthInteger {
    /// The number in decimal.
    public var cacheKey: String { String(self) }

    /// The number that is written so.
    public init?(cacheKey: String) {
        guard let number = Self(cacheKey), String(number) == cacheKey else { return nil }
        self = number
    }
}

extension Int: CacheKey {}
extension Int64: CacheKey {}
extension Int32: CacheKey {}
extension UInt: CacheKey {}
extension UInt64: CacheKey {}
extension UInt32: CacheKey {}

extension CacheKey where Self: RawRepresentable, RawValue: CacheKey {
    /// The text of the raw value.
    public var cacheKey: String { self.rawValue.cacheKey }

    /// What has the raw value with this text.
    public init?(cacheKey: String) {
        guard let rawValue = RawValue(cacheKey: cacheKey) else { return nil }
        self.init(rawValue: rawValue)
    }
}
