// SPDX-License-Identifier: Apache-2.0

/// The names of metrics, log keys and spans: all in one place, and a promise.
public enum LockNames {
    /// Timer, seconds from the call to the grant.
    ///
    /// Dimensions: ``store``, ``mode``, ``outcome``.
    public static let waitSeconds = "holdfast_lock_wait_seconds"
    /// Timer, seconds from the grant to the release.
    ///
    /// Dimensions: ``store``, ``mode``.
    public static let heldSeconds = "holdfast_lock_held_seconds"
    /// Counter of calls to get a lock.
    ///
    /// Dimensions: ``store``, ``mode``, ``outcome`` (`free`, `waited`, `reentered`, `resumed`, `busy`, `timeout`,
    /// `deadlock`, `cancelled`, `failed`).
    public static let acquisitionsTotal = "holdfast_lock_acquisitions_total"
    /// Counter of releases.
    ///
    /// Dimensions: ``store``, ``outcome`` (`released`, `alreadyLost`, `unknown`).
    public static let releasesTotal = "holdfast_lock_releases_total"
    /// Counter of renewals of single leases.
    ///
    /// Dimensions: ``store``, ``outcome`` (`renewed`, `lost`, `unknown`).
    public static let renewalsTotal = "holdfast_lock_renewals_total"
    /// Timer, seconds for a batch of renewals.
    ///
    /// Dimensions: ``store``.
    public static let renewalSeconds = "holdfast_lock_renewal_seconds"
    /// Counter of locks lost while in use.
    ///
    /// Dimensions: ``store``, ``reason``.
    public static let lossesTotal = "holdfast_lock_losses_total"
    /// Counter of requests to let go.
    ///
    /// Dimensions: ``store``.
    public static let revocationsTotal = "holdfast_lock_revocations_total"
    /// Counter of handles that went away without a release.
    ///
    /// Dimensions: ``store``.
    public static let abandonedTotal = "holdfast_lock_abandoned_total"
    /// Counter of work that went on beyond its lease.
    ///
    /// Dimensions: ``store``.
    public static let outlivedTotal = "holdfast_lock_outlived_total"
    /// Counter of failed clean-ups.
    ///
    /// Dimensions: ``store``.
    public static let cleanUpFailuresTotal = "holdfast_lock_cleanup_failures_total"
    /// Counter of deadlocks found by this process, whether ended or only reported.
    ///
    /// Dimensions: ``store``.
    public static let deadlocksTotal = "holdfast_lock_deadlocks_total"
    /// Counter of upgrades and downgrades.
    ///
    /// Dimensions: ``store``, ``mode`` (the new one).
    public static let conversionsTotal = "holdfast_lock_conversions_total"
    /// Counter of interruptions of a store's signals.
    ///
    /// Dimensions: ``store``.
    public static let interruptionsTotal = "holdfast_lock_signal_interruptions_total"

    /// Dimension: the store's short name.
    ///
    /// Resources are no dimension: their number has no bound.
    public static let store = "store"
    /// Dimension: the kind of mode.
    public static let mode = "mode"
    /// Dimension: how it ended.
    public static let outcome = "outcome"
    /// Dimension: why it was lost.
    public static let reason = "reason"

    /// Log key and span attribute: the resource.
    public static let resource = "lock.resource"
    /// Log key and span attribute: the mode.
    public static let lockMode = "lock.mode"
    /// Log key and span attribute: the owner.
    public static let owner = "lock.owner"
    /// Log key and span attribute: the fencing token.
    public static let fencingToken = "lock.fencing_token"
    /// Log key and span attribute: how it ended.
    public static let lockOutcome = "lock.outcome"
    /// Log key: why it was lost.
    public static let lossReason = "lock.loss.reason"
    /// Log key: seconds waited.
    public static let waitDuration = "lock.wait.duration"
    /// Log key: seconds held.
    public static let heldDuration = "lock.held.duration"
    /// Log key: the error.
    public static let error = "error"

    /// Span: from the call to the grant.
    public static let acquireSpan = "lock.acquire"
    /// Span: from the call to the change of mode.
    public static let convertSpan = "lock.convert"
    /// Span: from the grant to the release.
    public static let holdSpan = "lock.hold"
}
