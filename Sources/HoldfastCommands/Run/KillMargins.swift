// SPDX-License-Identifier: Apache-2.0

package import HoldfastCore

/// When the child of a lost lock gets TERM and KILL.
///
/// The engine gives up a lease a *margin* before its deadline: then TERM is sent. KILL follows the *kill margin* before
/// the deadline. Between the two is the child's time to clean up.
package struct KillMargins: Sendable, Hashable {
    /// How long before the deadline KILL is sent, as it was asked for; `nil` for a part of the lease.
    private let fixed: Duration?
    /// The lease that was asked for.
    private let lease: Duration
    /// The engine's margins for it.
    package let policy: LeaseTimeline.Policy

    /// The engine's usual margin, as a part of the lease.
    private static let usualFraction = 0.1
    /// The usual kill margin, as a part of the lease: the rest of the usual margin is for cleaning up.
    private static let usualKillFraction = 0.03

    /// Makes margins.
    ///
    /// - Parameters:
    ///   - lease: The lease.
    ///   - killMargin: How long before the deadline to kill, or `nil` for the usual part of the lease. The engine's
    ///     margin grows to at least twice of it.
    /// - Throws: ``CommandFailure`` when it is more than a quarter of the lease.
    package init(lease: Duration, killMargin: Duration?) throws {
        self.lease = lease
        self.fixed = killMargin
        guard let killMargin else {
            self.policy = LeaseTimeline.Policy(marginFraction: Self.usualFraction)
            return
        }
        guard killMargin * 4 <= lease else {
            let limit = DurationText.short(lease / 4)
            throw CommandFailure(
                ExitStatus.configuration,
                "the kill margin must be at most a quarter of the lease (\(limit)); use a longer --lease"
            )
        }
        self.policy = LeaseTimeline.Policy(marginFraction: max(Self.usualFraction, 2 * (killMargin / lease)))
    }

    /// How long before the deadline KILL is sent.
    ///
    /// - Parameter lease: The lease that was given; in a store of sessions that can be shorter than what was asked for.
    /// - Returns: The time before its end.
    package func killMargin(of lease: Duration) -> Duration { self.fixed ?? lease * Self.usualKillFraction }

    /// Checks that the store gives the lease that a margin was asked for.
    ///
    /// - Throws: ``CommandFailure`` when it gives a shorter one.
    package func check(_ capabilities: StoreCapabilities) throws {
        guard self.fixed != nil, let longest = capabilities.sessionLease, longest < self.lease else { return }
        throw CommandFailure(
            ExitStatus.configuration,
            "the \(capabilities.name) store ends a lease after \(DurationText.short(longest)) without word; with a kill "
                + "margin, use a --lease of at most that, or a longer session=DURATION in the store's URL"
        )
    }
}
