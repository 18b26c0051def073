// SPDX-License-Identifier: Apache-2.0

/// An instant on a store's own clock, in nanoseconds since an origin that only the store knows.
///
/// Expiry is judged by the store's time, never by a client's wall clock. Timestamps of different stores, or of a store
/// before and after it lost its data, cannot be compared; replies therefore speak of durations.
public struct Timestamp: Sendable, Hashable, Comparable, Codable {
    /// Nanoseconds since the store's origin.
    public let nanoseconds: Int64

    /// Makes a timestamp.
    ///
    /// - Parameter nanoseconds: Nanoseconds since the store's origin.
    public init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }

    /// The store's origin.
    public static let zero = Timestamp(nanoseconds: 0)
    /// Later than everything.
    public static let distantFuture = Timestamp(nanoseconds: .max)

    /// The timestamp a duration later; saturates instead of overflowing.
    public func advanced(by duration: Duration) -> Timestamp {
        let (sum, overflow) = self.nanoseconds.addingReportingOverflow(duration.nanoseconds)
        return Timestamp(nanoseconds: overflow ? (duration.nanoseconds < 0 ? .min : .max) : sum)
    }

    /// The time from here to another timestamp; negative when that one is earlier.
    public func duration(to other: Timestamp) -> Duration {
        let (difference, overflow) = other.nanoseconds.subtractingReportingOverflow(self.nanoseconds)
        return .nanoseconds(overflow ? (other > self ? .max : .min) : difference)
    }

    /// Orders by time.
    public static func < (left: Timestamp, right: Timestamp) -> Bool { left.nanoseconds < right.nanoseconds }
}

extension Duration {
    /// Whole nanoseconds, rounded toward zero; saturates at about 292 years.
    package var nanoseconds: Int64 {
        // One division of the processor where the result fits; the general one is a dozen calls.
        let (high, low) = (
            Int64(truncatingIfNeeded: self.attoseconds >> 64), UInt64(truncatingIfNeeded: self.attoseconds)
        )
        if high >= 0, high < 500_000_000 {
            let divisor: UInt64 = 1_000_000_000
            return Int64(bitPattern: divisor.dividingFullWidth((UInt64(high), low)).quotient)
        }
        // `components` traps beyond what 64 bits of seconds hold, which a decoded duration can be.
        guard self < .seconds(Int64.max / 1_000_000_000) else { return .max }
        guard self > .seconds(Int64.min / 1_000_000_000) else { return .min }
        let (seconds, attoseconds) = self.components
        let (product, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        guard !overflow else { return seconds < 0 ? .min : .max }
        let (sum, carried) = product.addingReportingOverflow(attoseconds / 1_000_000_000)
        return carried ? (seconds < 0 ? .min : .max) : sum
    }

    /// Whole milliseconds, rounded up, so that a wait is never cut short.
    package var millisecondsRoundedUp: Int64 {
        let nanoseconds = self.nanoseconds
        return nanoseconds / 1_000_000 + (nanoseconds % 1_000_000 > 0 ? 1 : 0)
    }

    /// A short form for people: `250 ms`, `3.2 s`, `4 min 10 s`, `2 h 5 min`.
    package var brief: String {
        let milliseconds = self.nanoseconds / 1_000_000
        switch milliseconds {
        case ..<0: return "-" + Duration.milliseconds(-milliseconds).brief
        case ..<1000: return "\(milliseconds) ms"
        case ..<60_000: return "\(milliseconds / 1000).\(milliseconds % 1000 / 100) s"
        case ..<3_600_000: return "\(milliseconds / 60_000) min \(milliseconds % 60_000 / 1000) s"
        default: return "\(milliseconds / 3_600_000) h \(milliseconds % 3_600_000 / 60_000) min"
        }
    }

    /// Seconds as a floating-point number, for metrics and for people.
    package var inSeconds: Double { Double(self.nanoseconds) * 1e-9 }
}
