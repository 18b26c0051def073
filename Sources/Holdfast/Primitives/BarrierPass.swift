// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore

/// A party's place inside a barrier, from ``Barrier/enter(waitingAtMost:)`` to ``leave(waitingAtMost:)``.
///
/// Renewed in the background. One that goes away without leaving has left when its lease ends.
public final class BarrierPass: Sendable {
    private let hold: Lease
    private let mark: Lease
    private let locks: LockService

    init(hold: Lease, mark: Lease, on locks: LockService) {
        self.hold = hold
        self.mark = mark
        self.locks = locks
    }

    var leases: [Lease] { [self.hold, self.mark] }

    /// The name of the round, the same for all parties that met in it.
    public var round: String { self.hold.owner.label ?? "" }

    /// Makes sure that the others may still believe that this party is inside.
    ///
    /// Costs no round trip.
    ///
    /// - Throws: ``LockError`` with code ``LockError/Code/lost`` when its lease was lost, or it has left.
    public func checkValid() throws(LockError) {
        try self.hold.checkValid()
        try self.mark.checkValid()
    }

    /// Leaves, and waits until all have left.
    ///
    /// Two round trips and one for each look. Whatever is thrown, this party has left, and holds nothing.
    ///
    /// - Parameter waitingAtMost: How long to wait in all, or `nil` to wait as long as it takes.
    /// - Throws: ``LockError`` with code ``LockError/Code/timeout`` when others are still inside;
    ///   ``LockError/Code/lost`` when this party's lease was lost before; another code when the store fails; or
    ///   `CancellationError`.
    public func leave(waitingAtMost: Duration? = nil) async throws {
        do {
            try self.checkValid()
            let patience = try Patience(atMost: waitingAtMost, self.locks.engine)
            await self.hold.release()
            let isEmpty = try await patience.wait {
                try self.mark.checkValid()
                let rounds = try await Self.rounds(of: self.hold.resource, self.locks)
                return rounds.contains(self.round) ? nil : true
            }
            guard isEmpty == true else {
                throw LockError(.timeout, "not all parties have left \(self.hold.resource) in time")
            }
            await self.mark.release()
        } catch {
            await self.abandon()
            throw error
        }
    }

    /// Leaves without waiting for the others.
    ///
    /// Runs to its end even when the task is cancelled. One or two round trips; a second call does nothing.
    public func abandon() async { await self.leases.release() }

    /// The rounds of those who hold a name, the one that has held longest first.
    static func rounds(of resource: Resource, _ locks: LockService) async throws -> [String] {
        try await locks.holders(of: resource).compactMap { $0.isAccepting ? nil : $0.owner?.label }
    }
}
