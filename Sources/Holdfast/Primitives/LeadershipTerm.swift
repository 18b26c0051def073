// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore

/// The time for which a candidate leads: an exclusive lease under another name.
///
/// Renewed in the background until it is resigned or lost. A term whose handle goes away without ``resign()`` ends with its
/// lease.
public final class LeadershipTerm: Sendable {
    let lease: Lease

    init(_ lease: Lease) { self.lease = lease }

    /// The number of the term, for what the leader writes to: greater than that of every leader before.
    public var token: FencingToken { self.lease.fencingToken }
    /// Until when this candidate may believe that it leads, unless the term is renewed.
    public var validUntil: ContinuousClock.Instant { self.lease.validUntil }
    /// Who leads.
    public var owner: OwnerID { self.lease.owner }
    /// What happens to the term from now on; ``LeaseEvent/lost(_:)`` comes a margin before another can lead.
    ///
    /// As ``Lease/events``.
    public var events: AsyncStream<LeaseEvent> { self.lease.events }

    /// Makes sure that this candidate may still believe that it leads.
    ///
    /// Costs no round trip.
    ///
    /// - Throws: ``LockError`` with code ``LockError/Code/lost`` when the term is over.
    public func checkValid() throws(LockError) { try self.lease.checkValid() }

    /// Waits until the term is lost or resigned, or the task is cancelled.
    ///
    /// A loss is known a margin before another can lead, unless the store says first that it was taken away.
    public func ended() async {
        for await event in self.lease.events {
            if case .lost = event { return }
        }
    }

    /// Ends the term, so that the next candidate leads at once.
    ///
    /// Runs to its end even when the task is cancelled. One round trip. A second call does nothing.
    ///
    /// - Returns: What the store said.
    @discardableResult
    public func resign() async -> ReleaseReply { await self.lease.release() }
}
