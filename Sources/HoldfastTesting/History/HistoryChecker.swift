// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore

/// Finds broken promises in a history.
///
/// Pure: it reads events and nothing else. Owners' tokens are unique, so no search is needed; all checks are linear or
/// n log n, but for the number of simultaneous holders.
///
/// - EXCL: the times in which clients believe to hold a lock (from the return of the grant to the release, the
///   announced loss or the deadline, whichever is first) never conflict.
/// - FENCE: tokens of a resource are unique, and rise from every grant that returned before a request was sent to the
///   grant of that request; what a fenced resource accepted never goes down; what it refused was below.
/// - HONEST: a holder whose lock ended by itself is told no later than its deadline; a release that says `released`
///   comes before the next conflicting grant.
/// - LIVE: every request comes to an end, and after the last fault within a bound.
/// - CLEAN: at the end nothing is left in the store.
public struct HistoryChecker: Sendable {
    /// A promise.
    public enum Rule: String, Sendable, Hashable, CaseIterable {
        /// At most one writer, and no reader beside it.
        case exclusion = "EXCL"
        /// Tokens rise.
        case fence = "FENCE"
        /// Losses are announced, answers are true.
        case honest = "HONEST"
        /// Nobody waits for ever.
        case live = "LIVE"
        /// Nothing is left behind.
        case clean = "CLEAN"
    }

    /// A broken promise, with the two events that show it.
    public struct Violation: Sendable, Hashable, CustomStringConvertible {
        /// Which promise.
        public let rule: Rule
        /// What is wrong.
        public let message: String
        /// The earlier event.
        public let first: HistoryEvent?
        /// The event that cannot be, or should have come earlier.
        public let second: HistoryEvent?

        /// All of it in some lines.
        public var description: String {
            [
                "\(self.rule.rawValue): \(self.message)",
                self.first?.description,
                self.second?.description,
            ].compactMap { $0 }.joined(separator: "\n    ")
        }
    }

    /// How much later than its deadline a loss may be announced: for the test's own task switches.
    public var announcementSlack: Duration
    /// How long a request may take once the last fault is over; `nil` to check only that it ends.
    public var liveBound: Duration?
    /// Whether the store may give a lock to two holders, since the test makes it lose its data.
    public var losesData: Bool

    /// Makes a checker.
    ///
    /// - Parameters:
    ///   - announcementSlack: How much later than its deadline a loss may be announced.
    ///   - liveBound: How long a request may take once the last fault is over.
    ///   - losesData: Whether exclusion may end because the store loses its data; tokens still have to rise.
    public init(announcementSlack: Duration = .zero, liveBound: Duration? = nil, losesData: Bool = false) {
        self.announcementSlack = announcementSlack
        self.liveBound = liveBound
        self.losesData = losesData
    }

    /// Checks everything.
    ///
    /// - Parameters:
    ///   - events: The history, oldest first.
    ///   - leftovers: What is not free in the store at the end.
    /// - Returns: The broken promises; empty when all were kept.
    public func check(_ events: [HistoryEvent], leftovers: [ResourceStatus] = []) -> [Violation] {
        let attempts = Self.attempts(in: events)
        let granted = attempts.filter { $0.granted != nil }
        let resources = Dictionary(grouping: granted) { $0.resource }
        var violations: [Violation] = []
        for (_, holds) in resources.sorted(by: { $0.key < $1.key }) {
            if !self.losesData { violations += Self.exclusion(holds) + Self.truthOfReleases(holds) }
            violations += Self.tokens(holds)
        }
        violations += Self.writes(events)
        violations += self.announcements(granted, events)
        violations += self.liveness(attempts, events)
        violations += leftovers.map { status in
            Violation(
                rule: .clean,
                message: "\(status.resource) has \(status.holders.count) holders and \(status.waiters.count) waiters",
                first: nil,
                second: nil
            )
        }
        return violations
    }
}
