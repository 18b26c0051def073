// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore

/// Something that happened in a lock service, for logs, metrics and traces.
///
/// New cases may come; keep a default branch.
public enum LockEvent: Sendable {
    /// A lock was granted.
    case acquired(Acquisition)
    /// A lock was not granted.
    case notAcquired(Failure)
    /// A lock was given back.
    case released(Grant, reply: ReleaseReply, held: Duration)
    /// A round of renewals ended.
    case renewed(Renewals)
    /// A lock was lost while it was in use.
    case lost(Grant, reason: LossReason, held: Duration)
    /// Somebody asked the holder to let go.
    case revokeRequested(Grant)
    /// A handle went away without a release; the lease now ends by itself.
    case abandoned(Grant)
    /// Work went on after its lease was no longer valid, by this long.
    case outlived(Grant, by: Duration)
    /// Giving a lock or a place in a queue back failed; it is tried again until its lease is over.
    case cleanUpFailed(Resource, any Error)
    /// Requests wait for each other in a circle. One of them, of this service, gives up, unless the service only reports.
    case deadlock(Deadlock)
    /// A lock has another mode now, after waiting for it this long.
    case converted(Grant, waited: Duration)
    /// The store's signals were interrupted; waiting requests ask again.
    case signalsInterrupted

    /// A lock that was granted.
    public struct Acquisition: Sendable {
        /// How it came.
        public enum Path: String, Sendable {
            /// Free at the first try.
            case free
            /// After waiting in this process or in the store.
            case waited
            /// Held by the same owner already.
            case reentered
            /// Taken up again.
            case resumed
        }

        /// The grant.
        public let grant: Grant
        /// How it came.
        public let path: Path
        /// From the call to the grant.
        public let waited: Duration
    }

    /// A lock that was not granted.
    public struct Failure: Sendable {
        /// Why.
        public enum Outcome: String, Sendable {
            /// It was taken, and the caller did not want to wait.
            case busy
            /// The wait limit came first.
            case timeout
            /// It would have waited for itself.
            case deadlock
            /// The caller was cancelled.
            case cancelled
            /// The store or the service failed.
            case failed
        }

        /// The resource.
        public let resource: Resource
        /// The mode.
        public let mode: LockMode
        /// Why.
        public let outcome: Outcome
        /// From the call to the end.
        public let waited: Duration
        /// The error, unless the outcome says all.
        public let error: (any Error)?
    }

    /// A round of renewals.
    public struct Renewals: Sendable {
        /// Confirmed.
        public let renewed: Int
        /// Lost for sure.
        public let lost: Int
        /// Without an answer; tried again.
        public let unknown: Int
        /// How long the round trip took.
        public let duration: Duration
    }
}

/// Receives what happens in a lock service.
///
/// Called in the task or on the thread where it happens, never under a lock of the service; must not block. A span that
/// is current in the caller's task is current here too, except for renewals, losses and revocations.
public protocol LockObserver: Sendable {
    /// Takes an event.
    ///
    /// - Parameter event: What happened.
    func observe(_ event: LockEvent)
}
