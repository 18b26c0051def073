// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore

/// A lock that this process holds, or held.
///
/// The lease is renewed in the background until ``release()``; until when it may be believed is ``validUntil``. What it
/// does not promise: that nobody else *acts* as holder at the same time. A process that was paused past the deadline
/// does not notice until it looks. Check ``checkValid()`` before each effect, and hand ``fencingToken`` to a resource
/// that refuses older ones (see ``FencedStore``).
///
/// A handle that goes away without ``release()`` stops the renewals; the lock is then free when its lease ends.
public final class Lease: Sendable {
    let core: LeaseCore
    private let engine: Engine
    /// Whether this handle has given its hold back.
    private let hold = HoldFlag()

    init(core: LeaseCore, engine: Engine) {
        self.core = core
        self.engine = engine
    }

    deinit {
        if self.hold.end(), self.core.leave() { self.engine.abandon(self.core) }
    }

    /// What is locked.
    public var resource: Resource { self.core.key.resource }
    /// How it is locked.
    public var mode: LockMode { self.core.mode }
    /// The number for the resource to check.
    ///
    /// The same over re-entry, renewal and downgrade; new after an upgrade.
    public var fencingToken: FencingToken { self.core.token }
    /// Until when the lock may be believed to be held, unless renewed.
    ///
    /// Moves forward with each confirmed renewal.
    public var validUntil: ContinuousClock.Instant { self.core.validUntil }
    /// Who holds the lock.
    public var owner: OwnerID { self.core.owner }
    /// The grant as of now, for handing on.
    ///
    /// Holds the secret id.
    public var grant: Grant { self.core.grant }

    /// Makes sure that the lock may still be believed to be held.
    ///
    /// Costs no round trip.
    ///
    /// - Throws: ``LockError`` with code ``LockError/Code/lost`` when it was lost, released, or its deadline is over.
    public func checkValid() throws(LockError) {
        if !self.core.isValid(at: self.engine.now) { throw self.engine.lossError(of: self.core) }
    }

    /// Renews now, besides the automatic renewals.
    ///
    /// One round trip.
    ///
    /// - Throws: ``LockError`` with code ``LockError/Code/lost`` when the store is sure that the lock is lost, or
    ///   ``LockError/Code/storeUnavailable`` when it did not answer; the lease then goes on until its deadline.
    public func renew() async throws {
        try await self.engine.renewNow(self.core)
    }

    /// Makes a lock that is held as `update` exclusive.
    ///
    /// Waits until the readers are gone; nobody else is let in meanwhile. The lease is renewed while it waits. Afterwards
    /// ``mode`` is exclusive and ``fencingToken`` a new one, for every handle of a re-entered lease. One round trip when
    /// there are no readers; does nothing when the lock is exclusive already. Whatever is thrown but a loss, the lock is
    /// held as `update` again, and who waited behind it goes on; if the store does not answer then either, it may become
    /// exclusive without this process knowing until ``release()``.
    ///
    /// - Parameter waitingAtMost: How long to wait in all, or `nil` to wait as long as it takes.
    /// - Throws: ``LockError`` with code ``LockError/Code/upgradeConflict`` at once when the lock is held as `shared`, or
    ///   another task upgrades the same lease; ``LockError/Code/timeout``; ``LockError/Code/deadlock``;
    ///   ``LockError/Code/lost`` when the lock was lost; ``LockError/Code/unsupported`` when the store cannot do it; or
    ///   `CancellationError`.
    public func upgrade(waitingAtMost: Duration? = nil) async throws {
        try await self.engine.upgrade(self.core, waitingAtMost: waitingAtMost)
    }

    /// Makes a lock weaker without giving it up: nobody who does not fit beside it comes in between.
    ///
    /// The token stays. One round trip; runs to its end even when the task is cancelled.
    ///
    /// - Parameter mode: `shared`, or `update` to be able to upgrade again later.
    /// - Throws: ``LockError`` with code ``LockError/Code/invalidArgument`` when the lock is weaker than that,
    ///   ``LockError/Code/lost`` when it is not held any more, or another when the store fails; which of the two modes it
    ///   has is then not known.
    public func downgrade(to mode: LockMode = .shared) async throws {
        try await self.engine.downgrade(self.core, to: mode)
    }

    /// Gives the lock back.
    ///
    /// Runs to its end even when the task is cancelled. One round trip; none when the store is known to have taken the
    /// lock away. A second call does nothing and gives the same answer, or ``ReleaseReply/released`` at once while the
    /// first is under way. A re-entered lock is given back by the last of its handles; the others get
    /// ``ReleaseReply/released``.
    ///
    /// - Returns: What became of it. After ``ReleaseReply/unknown`` the engine goes on trying until the lease is over.
    @discardableResult
    public func release() async -> ReleaseReply {
        guard self.hold.end() else { return self.core.releaseReply ?? .released }
        guard self.core.leave() else { return .released }
        return await self.engine.release(self.core)
    }

    /// Stops the automatic renewals and lets go of the lock without giving it back: somebody else does that, who gets
    /// the grant.
    ///
    /// - Returns: The grant, valid until its `validUntil` unless it is renewed.
    /// - Throws: ``LockError`` with code ``LockError/Code/lost`` when the lock is not held any more,
    ///   ``LockError/Code/invalidArgument`` when an outer scope of the same owner uses it too, or the store's own when
    ///   it fails; the lock is then held and renewed as before.
    public func detach() async throws -> Grant {
        try await self.engine.detach(self.core, self.hold)
    }

    /// What happens to this lease from now on, beginning with ``LeaseEvent/acquired``.
    ///
    /// Each call gives a stream of its own, which keeps the newest 16 events for a slow reader and ends after the
    /// release.
    public var events: AsyncStream<LeaseEvent> { self.core.events() }

    /// Runs work as the owner of this lease, so that scoped locks of the same resource inside it re-enter instead of
    /// waiting for themselves.
    ///
    /// - Parameter work: The work. Tasks that it starts inherit the owner.
    /// - Returns: What the work returns.
    /// - Throws: What the work throws.
    public func within<Result>(_ work: () async throws -> Result) async rethrows -> Result {
        let context = OwnerContext(core: self.core, engine: self.engine, outer: OwnerContext.current)
        return try await OwnerContext.$current.withValue(context, operation: work)
    }
}
