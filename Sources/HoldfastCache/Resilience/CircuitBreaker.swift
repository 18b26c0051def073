// SPDX-License-Identifier: Apache-2.0

/// Keeps calls from a service that does not work, so that not each of them waits for a timeout: a pure value.
///
/// Closed, it lets all pass and counts failures in a row; after so many, or after one that took long while nothing else
/// came through, it opens and lets none pass for a while; then one may try, and what becomes of it closes or opens it
/// again, for twice as long. Source: Nygard, "Release It!", 2007.
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

    /// What becomes of a call.
    package enum Admission: Sendable {
        /// It is made.
        case passes
        /// It is made, to see whether the service works again.
        case tries
        /// It is not made.
        case refused
    }

    /// After how many failures in a row it opens.
    package static let threshold = 3
    /// A call that failed after so many nanoseconds waited in vain; while nothing else came through, the next would too.
    package static let silence: Int64 = 50_000_000
    /// For how long at first, and at most, in nanoseconds.
    package static let firstPause: Int64 = 1_000_000_000
    package static let longestPause: Int64 = 30_000_000_000
    /// When it shows no progress for so long, somebody else may try: who did has vanished.
    package static let longestTrial: Int64 = 10_000_000_000

    /// Whether calls pass.
    package private(set) var phase = Phase.closed
    private var failures = 0
    private var pause = Self.firstPause
    private let longestPause: Int64
    /// When a call came through last.
    private var lastSuccess = Int64.min
    /// Whether the next call is to find out whether the service works.
    private var isDoubted = false

    /// Closed.
    ///
    /// - Parameter longestPause: How long it lets none pass at most, in nanoseconds.
    package init(longestPause: Int64 = Self.longestPause) { self.longestPause = longestPause }

    /// What becomes of a call now; who makes it must say what came of it.
    package mutating func admission(at now: Int64) -> Admission {
        switch self.phase {
        case .closed where !self.isDoubted: return .passes
        case .open(let until) where now < until: return .refused
        case .halfOpen(let since) where now - since < Self.longestTrial: return .refused
        case .closed, .open, .halfOpen:
            self.isDoubted = false
            self.phase = .halfOpen(since: now)
            return .tries
        }
    }

    /// Whether a call may pass now; who asks and gets yes must say what became of it.
    package mutating func admits(at now: Int64) -> Bool { self.admission(at: now) != .refused }

    /// Who tries is still at it.
    package mutating func progressed(at now: Int64) {
        if case .halfOpen = self.phase { self.phase = .halfOpen(since: now) }
    }

    /// A call came through.
    ///
    /// - Parameter now: The time, where it is told how long failures took.
    package mutating func succeeded(at now: Int64 = .min) {
        self = CircuitBreaker(longestPause: self.longestPause)
        self.lastSuccess = now
    }

    /// Another service does not answer that often fails together with this one: the next call is to find out, unless one
    /// came through meanwhile.
    package mutating func doubt(since start: Int64) {
        if self.phase == .closed, self.lastSuccess <= start { self.isDoubted = true }
    }

    /// A call was given up before anybody knew what came of it: if it was to see whether the service works, the next may.
    package mutating func withdrew(at now: Int64) {
        if case .halfOpen = self.phase { self.phase = .open(until: now) }
    }

    /// A call failed for want of the service, not for what it asked.
    ///
    /// - Parameters:
    ///   - now: The time.
    ///   - duration: How long the call took, in nanoseconds.
    /// - Returns: Whether this opened it.
    package mutating func failed(at now: Int64, after duration: Int64 = 0) -> Bool {
        switch self.phase {
        case .closed:
            self.failures += 1
            // What came through meanwhile says that the service works, and only this call did not.
            let isSilent = duration >= Self.silence && self.lastSuccess <= now - duration
            guard isSilent || self.failures >= Self.threshold else { return false }
        case .halfOpen: self.pause = min(self.pause * 2, self.longestPause)
        // A call from before.
        case .open: return false
        }
        self.phase = .open(until: now + self.pause)
        return true
    }
}
