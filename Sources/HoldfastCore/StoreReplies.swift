// SPDX-License-Identifier: Apache-2.0

/// The answer to an acquire.
public enum AcquireReply: Sendable, Hashable {
    /// The lock is held. The lease counts from when the store handled the request: the requester counts it from before
    /// it sent the request, which is never later.
    case granted(FencingToken)
    /// The request has a place in the queue.
    case waiting(Waiting)
    /// The lock is not free, and the request did not want to wait.
    case busy(blockers: [Holder])
    /// This request was released, withdrawn or forced out before; this is a late copy of it. Nothing is held.
    case finished

    /// A place in the queue.
    public struct Waiting: Sendable, Hashable {
        /// How many requests stand before this one; 0 for the next in line.
        public var position: Int
        /// After how long to send the request again if no signal came: when the holder's lease or the acceptance of the
        /// one before ends.
        ///
        /// A net for lost signals and dead holders, not the way to wait.
        public var checkAfter: Duration
        /// Who stands in the way.
        public var blockers: [Holder]

        /// Makes a place in the queue.
        ///
        /// - Parameters:
        ///   - position: How many requests stand before this one.
        ///   - checkAfter: After how long to ask again if no signal came.
        ///   - blockers: Who stands in the way.
        public init(position: Int, checkAfter: Duration, blockers: [Holder]) {
            self.position = position
            self.checkAfter = checkAfter
            self.blockers = blockers
        }
    }
}

/// Why a lock is not held any more.
public enum LossReason: String, Sendable, Hashable, Codable {
    /// The store does not know the grant: its lease ended there, or the store lost its data.
    case expired
    /// An operator took it away.
    case forced
    /// The holder's own deadline came before any renewal was confirmed. The store may still show the lock as held.
    case deadline
    /// The service stopped: nobody renews the lease any more.
    case stopped
}

/// The answer to a renewal of one grant.
public enum RenewReply: Sendable, Hashable {
    /// The lease counts anew. The flag says that somebody asked the holder to let go.
    case renewed(revokeRequested: Bool)
    /// The store is sure that this grant does not hold the lock.
    case lost(LossReason)
    /// It is not known; a later renewal may tell. Never a loss by itself.
    case unknown
}

/// One grant to be renewed.
public struct Renewal: Sendable, Hashable {
    /// The grant.
    public let key: GrantKey
    /// The lease, counted by the store from when it handles the renewal.
    public let lease: Duration

    /// Makes a renewal.
    public init(key: GrantKey, lease: Duration) {
        self.key = key
        self.lease = lease
    }
}

/// The answer to a release.
public enum ReleaseReply: String, Sendable, Hashable, Codable {
    /// The lock was held by this grant and is not any more.
    case released
    /// The grant did not hold the lock. Nothing was changed; whoever holds it now is not disturbed.
    case alreadyLost
    /// The store did not answer. The lease ends by itself unless the release took effect.
    case unknown
}

/// The answer to a withdrawal.
public enum WithdrawReply: Sendable, Hashable {
    /// The request left the queue.
    case withdrawn
    /// The request had been granted meanwhile; the grant is released.
    case released
    /// The store did not know the request. A late copy of it will be answered with ``AcquireReply/finished``.
    case notFound
}

/// The answer to a conversion.
public enum ConvertReply: Sendable, Hashable {
    /// The grant has the new mode; the token is new after an upgrade and the old one after a downgrade.
    case converted(FencingToken)
    /// Other holders are in the way. The grant is as it was.
    case busy(blockers: [Holder])
    /// The grant keeps its mode until the other holders are gone; nobody else is let in meanwhile.
    case waiting(AcquireReply.Waiting)
    /// The store is sure that this grant does not hold the lock.
    case lost
}

/// The answer to a request that the holders let go.
public struct RevokeReply: Sendable, Hashable {
    /// Who was asked.
    public var asked: [Holder]
    /// How many of them are known to have been reached; the others hear of it at their next renewal, if they live.
    public var reached: Int

    /// Makes an answer.
    public init(asked: [Holder], reached: Int) {
        self.asked = asked
        self.reached = reached
    }
}

/// What a store says unasked.
public enum StoreSignal: Sendable, Hashable {
    /// The lock was handed to this waiting request; it has its acceptance time to send the request again.
    ///
    /// For a holder that waits to become exclusive: it is.
    case granted(RequestID)
    /// The lock was handed to this waiting request, which accepts unasked (``LockRequest/acceptsUnasked``): it is held,
    /// and its lease counts from no earlier than the instant.
    case handedOver(RequestID, FencingToken, since: ContinuousClock.Instant)
    /// Something changed for this waiting request: send it again after this long unless another signal comes.
    case check(RequestID, after: Duration)
    /// The grant is gone.
    case lost(RequestID, LossReason)
    /// Somebody asks the holder of this grant to let go.
    case revokeRequested(RequestID)
    /// Signals may have been missed: every waiting request of this store should be sent again, spread a little.
    case interrupted
    /// The connection is lost, and with it the certainty: whether grants are still held is in doubt until a renewal is
    /// answered. Leases go on until their deadlines.
    case doubted
}
