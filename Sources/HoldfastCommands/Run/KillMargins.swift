// SPDX-License-Identifier: Apache-2.0

package import HoldfastCore

/// When the child of a lost lock gets TERM and KILL.
///
/// The engine gives up a lease a *margin* before its deadline: then TERM is sent. KILL follows the *kill margin* before
/// the deadline. Between the two is the child's time to clean up.
package struct KillMargins: Sendable, Hashable {
    /// How long before the deadline KILL is sent.
    package let killMargin: Duration
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
        guard let killMargin else {
            self.killMargin = lease * Self.usualKillFraction
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
        self.killMargin = killMargin
        self.policy = LeaseTimeline.Policy(marginFraction: max(Self.usualFraction, 2 * (killMargin / lease)))
    }
}
