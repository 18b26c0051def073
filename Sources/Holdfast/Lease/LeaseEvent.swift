// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore

/// What happens to one lease.
///
/// New cases may come; keep a default branch.
public enum LeaseEvent: Sendable, Hashable {
    /// The lock is held. Comes first, to every reader.
    case acquired
    /// The lock has another mode, and after an upgrade another token.
    case converted(LockMode, FencingToken)
    /// A renewal was confirmed.
    case renewed(validUntil: ContinuousClock.Instant)
    /// A renewal got no answer. Unless one does before, the lease ends at the deadline; work is stopped a margin earlier.
    case jeopardy(deadline: ContinuousClock.Instant)
    /// The lock is not held any more, or not for sure. Nothing comes after it but ``released(_:)``.
    case lost(LossReason)
    /// The lock was given back. Comes last.
    case released(ReleaseReply)
    /// Somebody asks to let go. Nothing is taken; finish what you do and release.
    case revokeRequested
}
