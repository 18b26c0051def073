// SPDX-License-Identifier: Apache-2.0

/// Keeps calls from a service that does not work, so that not each of them waits for a timeout: a pure value.
///
/// Closed, it lets all pass and counts failures in a row; after so many it opens and lets none pass for a while; then one
/// may try, and what becomes of it closes or opens it again, for twice as long. Source: Nygard, "Release It!", 2007.
package struct CircuitBreaker: Sendable, Hashable {
    /// Whether calls pass.
    package enum Phase: Sendable, Hashable {
        /// All of them.
        case closed
        /// None before a time.
        case open(until: Int64)
        /// One is trying, and showed progress at a time.
        case halfOpen(since: Int64)
    }

    /// After how many failures in a row it opens.
    package static let threshold = 3
    /// For how long at first, and at most, in nanoseconds.
    package static let firstPause: Int64 = 1_000_000_000
    package static let longestPause: Int64 = 30_000_000_000
    /// When it shows no progress for so long, somebody else may try: who did has vanished.
    package static let longestTrial: Int64 = 10_000_000_000

    /// Whether calls pass.
    package private(set) var phase = Phase.closed
    private var failures = 0
    private var pause = Self.firstPause

    /// Closed.
    package init() {}

    /// Whether a call may pass now; who asks and gets yes must say what became of it.
    package mutating func admits(at now: Int64) -> Bool {
        switch self.phase {
        case .closed: return true
        case .open(let until) where now < until: return false
        case .halfOpen(let since) where now - since < Self.longestTrial: return false
        case .open, .halfOpen:
            self.phase = .halfOpen(since: now)
            return true
        }
    }

    /// Who tries is still at it.
    package mutating func progressed(at now: Int64) {
        if case .halfOpen = self.phase { self.phase = .halfOpen(since: now) }
    }

    /// A call came through.
    package mutating func succeeded() { self = CircuitBreaker() }

    /// A call failed for want of the service, not for what it asked.
    ///
    /// - Parameter now: The time.
    /// - Returns: Whether this opened it.
    package mutating func failed(at now: Int64) -> Bool {
        switch self.phase {
        case .closed:
            self.failures += 1
            guard self.failures >= Self.threshold else { return false }
        case .halfOpen: self.pause = min(self.pause * 2, Self.longestPause)
        // A call from before.
        case .open: return false
        }
        self.phase = .open(until: now + self.pause)
        return true
    }
}
