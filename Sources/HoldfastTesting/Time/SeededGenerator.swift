// SPDX-License-Identifier: Apache-2.0

internal import HoldfastCore

/// A small random number generator that gives the same numbers for the same seed.
///
/// SplitMix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014). For tests only: its
/// numbers can be predicted from a few of them.
public struct SeededGenerator: RandomNumberGenerator, Sendable {
    private var state: UInt64

    /// Makes a generator.
    ///
    /// - Parameter seed: Any number; near seeds give unrelated numbers.
    public init(seed: UInt64) { self.state = seed }

    /// Gives the next 64 random bits.
    public mutating func next() -> UInt64 {
        self.state &+= 0x9e37_79b9_7f4a_7c15
        var word = self.state
        word = (word ^ (word >> 30)) &* 0xbf58_476d_1ce4_e5b9
        word = (word ^ (word >> 27)) &* 0x94d0_49bb_1331_11eb
        return word ^ (word >> 31)
    }

    /// Splits off a generator whose numbers are unrelated to those of this one.
    public mutating func fork() -> SeededGenerator { SeededGenerator(seed: self.next()) }

    /// Says yes with a probability.
    ///
    /// - Parameter probability: 0 for never, 1 for always.
    /// - Returns: The answer.
    public mutating func chance(_ probability: Double) -> Bool {
        probability > 0 && Double.random(in: 0..<1, using: &self) < probability
    }

    /// Draws a duration, in whole nanoseconds.
    ///
    /// - Parameter range: The shortest and the longest.
    /// - Returns: The duration.
    public mutating func duration(in range: ClosedRange<Duration>) -> Duration {
        if range.lowerBound == range.upperBound { return range.lowerBound }
        return .nanoseconds(
            Int64.random(in: range.lowerBound.nanoseconds...range.upperBound.nanoseconds, using: &self)
        )
    }
}
