// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore

/// A place where so many parties meet: nobody goes on before all have come, and nobody leaves before all are done.
///
/// ```swift
/// let barrier = try Barrier("rebuild/step-2", parties: 3, on: locks)
/// try await barrier.withBarrier { _ in try await step() }
/// ```
///
/// A double barrier, as in the recipes of ZooKeeper, that can be used again at once: each meeting is a round with a name of
/// its own, so whoever comes back early meets in the next round and does not disturb those who still leave.
///
/// A party is a lease. One that dies while it waits for the others has not come; one that dies inside has left when its
/// lease ends. A party that is cancelled takes back everything at once. If parties fail after all had come, one that
/// has not yet seen that all were there may go on waiting for others in their place.
///
/// Nothing signals that the last one came or left, so parties look for it: after 10 ms first, then with growing pauses up
/// to every 250 ms. What it does not promise: that parties go on at the same moment, or that exactly ``parties`` ever
/// take part: a further one waits for a round of its own.
///
/// Beside the name itself a barrier uses the names `<name>/turn` and `<name>/passed`.
public final class Barrier: Sendable {
    /// The most parties: each looks at all others several times a second.
    public static let maximumParties = 1000
    /// How long a party that dies just while it comes holds up those behind it.
    public static let turnLease: Duration = .seconds(5)

    /// The name.
    public let resource: Resource
    /// How many parties meet.
    public let parties: Int
    private let locks: LockService
    private let lease: Duration?
    /// Held by one party at a time, while it finds its round.
    private let turn: Resource
    /// Held by those who have seen that their round is complete, until all have left it.
    private let passed: Resource

    /// Describes a barrier; nothing is sent.
    ///
    /// - Parameters:
    ///   - resource: The name; two more are made of it that are up to 7 bytes longer.
    ///   - parties: How many meet, 1 to ``maximumParties``. All have to say the same.
    ///   - locks: Where it lives.
    ///   - lease: After how long a dead party has left; `nil` for the configured lease.
    /// - Throws: ``LockError`` with code ``LockError/Code/invalidArgument`` when the number is out of its range, or
    ///   ``LockError/Code/invalidResource`` when the name is too long.
    public init(
        _ resource: Resource,
        parties: Int,
        on locks: LockService,
        lease: Duration? = nil
    ) throws(LockError) {
        guard (1...Self.maximumParties).contains(parties) else {
            throw LockError(.invalidArgument, "a barrier has 1 to \(Self.maximumParties) parties, not \(parties)")
        }
        self.resource = resource
        self.parties = parties
        self.locks = locks
        self.lease = lease
        self.turn = try Resource("\(resource)/turn")
        self.passed = try Resource("\(resource)/passed")
    }

    /// Waits until all have come, runs work, and waits until all have left.
    ///
    /// If the work throws, or the task is cancelled, this party leaves without waiting for the others. The work is
    /// cancelled when this party's lease is lost.
    ///
    /// - Parameters:
    ///   - waitingAtMost: How long to wait for the others to come, and again for them to leave; `nil` to wait as long as
    ///     it takes.
    ///   - work: What to do when all are there.
    /// - Returns: What the work returns.
    /// - Throws: The work's own error, or as ``enter(waitingAtMost:)`` and ``BarrierPass/leave(waitingAtMost:)``.
    public func withBarrier<Result: Sendable>(
        waitingAtMost: Duration? = nil,
        _ work: @escaping @Sendable (BarrierPass) async throws -> Result
    ) async throws -> Result {
        let pass = try await self.enter(waitingAtMost: waitingAtMost)
        do {
            let result = try await self.locks.supervise(pass.leases) { try await work(pass) }
            try await pass.leave(waitingAtMost: waitingAtMost)
            return result
        } catch {
            let lost = pass.leases.first { $0.core.loss != nil }
            await pass.abandon()
            if error is CancellationError, !Task.isCancelled, let lost {
                throw self.locks.engine.lossError(of: lost.core)
            }
            throw error
        }
    }

    /// Waits until all have come.
    ///
    /// Six round trips when this is the last one to come; for the others, two for each look. When it ends by an error or
    /// by cancellation, this party has not come, and holds nothing.
    ///
    /// - Parameter waitingAtMost: How long to wait in all, or `nil` to wait as long as it takes.
    /// - Returns: What this party leaves with.
    /// - Throws: ``LockError`` with code ``LockError/Code/timeout``; ``LockError/Code/lost`` when this party's lease was
    ///   lost meanwhile; another code when the store fails; or `CancellationError`.
    public func enter(waitingAtMost: Duration? = nil) async throws -> BarrierPass {
        let patience = try Patience(atMost: waitingAtMost, self.locks.engine)
        var hold = try await self.come(patience)
        do {
            while true {
                switch try await patience.wait({ try await self.verdict(on: hold) }) {
                case .complete:
                    let mark = try await self.locks.queueApart(
                        AcquireOptions(self.passed, .shared, lease: self.lease, label: hold.owner.label)
                    )
                    return BarrierPass(hold: hold, mark: mark, on: self.locks)
                case .elsewhere:
                    await hold.release()
                    hold = try await self.come(patience)
                case nil:
                    throw LockError(.timeout, "fewer than \(self.parties) parties came to \(self.resource) in time")
                }
            }
        } catch {
            await hold.release()
            throw error
        }
    }

    /// How many have come to the round that is filling now.
    ///
    /// Two round trips. Old news when it arrives.
    ///
    /// - Returns: The number; 0 also while a round is complete and nobody waits for the next.
    /// - Throws: ``LockError`` when the store fails.
    public func waiting() async throws -> Int { try await self.rounds().first(where: self.isOpen)?.count ?? 0 }

    // MARK: - Rounds

    /// A meeting, by what the holds of its parties say.
    private struct Round {
        let name: String
        var count: Int
        /// Whether somebody saw that all had come.
        let hasPassed: Bool
    }

    /// How a party that waits stands.
    private enum Verdict {
        case complete
        /// A round that is older has a place free: to wait apart from it could be for ever.
        case elsewhere
    }

    private func isOpen(_ round: Round) -> Bool { !round.hasPassed && round.count < self.parties }

    /// Comes to the oldest round that has a place free, or else to a new one.
    ///
    /// One party at a time, so that no two see the same last place.
    private func come(_ patience: Patience) async throws -> Lease {
        let turn = try await self.locks.queueApart(
            AcquireOptions(self.turn, .exclusive, lease: Self.turnLease, waitingAtMost: patience.remaining)
        )
        do {
            let round =
                try await self.rounds().first(where: self.isOpen)?.name
                ?? Hex.text(of: self.locks.engine.identifiers.word())
            let hold = try await self.locks.queueApart(
                AcquireOptions(
                    self.resource,
                    .shared,
                    lease: self.lease,
                    waitingAtMost: patience.remaining,
                    label: round
                )
            )
            guard turn.core.isValid(at: self.locks.engine.clock.now) else {
                await hold.release()
                throw self.locks.engine.lossError(of: turn.core)
            }
            await turn.release()
            return hold
        } catch {
            await turn.release()
            throw error
        }
    }

    private func verdict(on hold: Lease) async throws -> Verdict? {
        try hold.checkValid()
        let rounds = try await self.rounds()
        guard let own = rounds.first(where: { $0.name == hold.owner.label }) else { return nil }
        if own.hasPassed || own.count >= self.parties { return .complete }
        return rounds.first(where: self.isOpen)?.name == own.name ? nil : .elsewhere
    }

    /// The rounds that somebody is in, the oldest first.
    ///
    /// Parties are read before the marks: a party takes its mark before it leaves, so a round that is seen to get
    /// smaller is seen to have passed.
    private func rounds() async throws -> [Round] {
        let names = try await BarrierPass.rounds(of: self.resource, self.locks)
        let passed = Set(try await BarrierPass.rounds(of: self.passed, self.locks))
        var rounds: [Round] = []
        for name in names {
            if let index = rounds.firstIndex(where: { $0.name == name }) {
                rounds[index].count += 1
            } else {
                rounds.append(Round(name: name, count: 1, hasPassed: passed.contains(name)))
            }
        }
        return rounds
    }
}
