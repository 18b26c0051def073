// SPDX-License-Identifier: Apache-2.0

/// The id of one request for a lock, and of the grant that it wins.
///
/// 128 random bits. Whoever knows the whole id may renew and release the grant, so it is a secret: ``description`` and
/// ``reference`` show only the first 32 bits, ``secret`` and `Codable` give all. A request that is sent again keeps its
/// id; that is what makes it idempotent.
public struct RequestID: Sendable, Hashable {
    package let high: UInt64
    package let low: UInt64

    /// Makes an id of two random words.
    package init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// Makes an id from a random source.
    ///
    /// - Parameter generator: A source that nobody can predict, in production.
    public init(using generator: inout some RandomNumberGenerator) {
        self.init(high: generator.next(), low: generator.next())
    }

    /// Reads what ``secret`` gives.
    ///
    /// - Parameter secret: Thirty-two lower-case hexadecimal digits.
    public init?(secret: some StringProtocol) {
        let digits = secret.utf8
        guard digits.count == 32, let high = Hex.word(digits.prefix(16)), let low = Hex.word(digits.suffix(16)) else {
            return nil
        }
        self.init(high: high, low: low)
    }

    /// All 128 bits as thirty-two lower-case hexadecimal digits.
    ///
    /// A secret: never log it.
    public var secret: String { Hex.text(of: self.high, self.low) }

    /// The first eight digits: enough to tell requests apart in a list, too few to release one.
    public var reference: String { String(Hex.text(of: self.high).prefix(8)) }
}

extension RequestID {
    /// Hashes one half: both are random.
    public func hash(into hasher: inout Hasher) { hasher.combine(self.low) }

    /// What dictionaries ask for: they need no more mixing of what is random, and a cycle of a lock asks ten times.
    public func _rawHashValue(seed: Int) -> Int { Int(truncatingIfNeeded: self.low) ^ seed }
}

extension RequestID: CustomStringConvertible, Codable {
    /// The same as ``reference``.
    public var description: String { self.reference }

    /// Reads the secret from a single string.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        guard let id = RequestID(secret: try container.decode(String.self)) else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "not the id of a grant")
        }
        self = id
    }

    /// Writes the secret as a single string.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(self.secret)
    }
}
