// SPDX-License-Identifier: Apache-2.0

/// The pauses between tries: decorrelated jitter with a cap.
///
/// Each pause is drawn between the base and three times the pause before, so that many clients that failed together do
/// not come back together (Marc Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015).
public struct RetrySchedule: Sendable, Hashable {
    /// The shortest pause.
    public let base: Duration
    /// The longest pause.
    public let cap: Duration
    private var last: Duration

    /// Makes a schedule.
    ///
    /// - Parameters:
    ///   - base: The shortest pause; above zero.
    ///   - cap: The longest pause; at least the base.
    public init(base: Duration, cap: Duration) {
        precondition(base > .zero && cap >= base, "a retry schedule needs 0 < base <= cap")
        self.base = base
        self.cap = cap
        self.last = base
    }

    /// Draws the next pause.
    ///
    /// - Parameter generator: Where randomness comes from.
    /// - Returns: A pause between the base and the cap.
    public mutating func next(using generator: inout some RandomNumberGenerator) -> Duration {
        let low = self.base.nanoseconds
        let high = max(
            low,
            min(self.cap.nanoseconds, self.last.nanoseconds.multipliedReportingOverflow(by: 3).partialValue)
        )
        self.last = .nanoseconds(Int64.random(in: low...high, using: &generator))
        return self.last
    }

    /// Starts again from the base, after a success.
    public mutating func reset() { self.last = self.base }
}
