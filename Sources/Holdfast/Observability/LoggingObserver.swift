// SPDX-License-Identifier: Apache-2.0

#if Logging
import HoldfastCore
public import Logging

/// Writes lock events to swift-log.
///
/// The daily run is at `debug` and `trace`; what an operator should see is at `info` (a revocation, interrupted signals)
/// and `warning` (a loss, work beyond its lease, an abandoned handle, a failed clean-up). Secrets are never logged.
public struct LoggingObserver: LockObserver {
    private let logger: Logger

    /// Makes an observer.
    ///
    /// - Parameter logger: Where to write.
    public init(logger: Logger) { self.logger = logger }

    /// Writes an event.
    ///
    /// - Parameter event: What happened.
    public func observe(_ event: LockEvent) {
        switch event {
        case .acquired(let acquisition):
            self.logger.debug(
                "lock acquired",
                metadata: Self.metadata(acquisition.grant).merging([
                    LockNames.lockOutcome: "\(acquisition.path.rawValue)",
                    LockNames.waitDuration: "\(acquisition.waited.inSeconds)",
                ]) { $1 }
            )
        case .notAcquired(let failure): self.log(failure)
        case .released(let grant, let reply, let held):
            self.logger.debug(
                "lock released",
                metadata: Self.metadata(grant).merging([
                    LockNames.lockOutcome: "\(reply.rawValue)", LockNames.heldDuration: "\(held.inSeconds)",
                ]) { $1 }
            )
        case .renewed(let renewals):
            let level: Logger.Level = renewals.unknown + renewals.lost > 0 ? .info : .trace
            self.logger.log(
                level: level,
                "leases renewed: \(renewals.renewed), lost: \(renewals.lost), unknown: \(renewals.unknown)"
            )
        case .lost(let grant, let reason, let held):
            self.logger.warning(
                "lock lost while in use",
                metadata: Self.metadata(grant).merging([
                    LockNames.lossReason: "\(reason.rawValue)", LockNames.heldDuration: "\(held.inSeconds)",
                ]) { $1 }
            )
        case .revokeRequested(let grant):
            self.logger.info("asked to let go of a lock", metadata: Self.metadata(grant))
        case .abandoned(let grant):
            self.logger.warning(
                "a lease went away without release(); the lock is free when its lease ends",
                metadata: Self.metadata(grant)
            )
        case .outlived(let grant, let excess):
            self.logger.warning("work went on \(excess.brief) beyond its lease", metadata: Self.metadata(grant))
        case .cleanUpFailed(let resource, let error):
            self.logger.warning(
                "giving a lock back failed; trying again until its lease is over",
                metadata: [LockNames.resource: "\(resource)", LockNames.error: "\(error)"]
            )
        case .deadlock(let deadlock):
            self.logger.warning("locks wait for each other in a circle: \(deadlock)")
        case .converted(let grant, let waited):
            self.logger.debug(
                "lock has another mode",
                metadata: Self.metadata(grant).merging([LockNames.waitDuration: "\(waited.inSeconds)"]) { $1 }
            )
        case .signalsInterrupted: self.logger.info("lock signals were interrupted; waiting requests ask again")
        }
    }

    private func log(_ failure: LockEvent.Failure) {
        var metadata: Logger.Metadata = [
            LockNames.resource: "\(failure.resource)",
            LockNames.lockMode: "\(failure.mode)",
            LockNames.lockOutcome: "\(failure.outcome.rawValue)",
            LockNames.waitDuration: "\(failure.waited.inSeconds)",
        ]
        if let error = failure.error { metadata[LockNames.error] = "\(error)" }
        self.logger.log(level: failure.outcome == .failed ? .info : .debug, "lock not acquired", metadata: metadata)
    }

    private static func metadata(_ grant: Grant) -> Logger.Metadata {
        [
            LockNames.resource: "\(grant.resource)",
            LockNames.lockMode: "\(grant.mode)",
            LockNames.owner: "\(grant.owner)",
            LockNames.fencingToken: "\(grant.fencingToken)",
        ]
    }
}
#endif
