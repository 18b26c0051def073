// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore
import Synchronization

extension RedisQuorumLockStore {
    /// See ``LockStore/renew(_:)``.
    ///
    /// One round trip to all servers at once. A grant is renewed when a majority renews it, and lost when so many say so
    /// that no majority is left. A server that has lost it while a majority has not is asked to take it again.
    ///
    /// - Parameter renewals: At most ``Limits/maximumRenewalBatch`` grants.
    /// - Returns: An answer for each, in the same order.
    /// - Throws: ``LockError`` when no majority answers.
    public func renew(_ renewals: [Renewal]) async throws -> [RenewReply] {
        guard !renewals.isEmpty else { return [] }
        guard renewals.count <= Limits.maximumRenewalBatch else {
            throw LockError(.invalidArgument, "at most \(Limits.maximumRenewalBatch) grants can be renewed at once")
        }
        for renewal in renewals { try self.check(lease: renewal.lease) }
        let sent = ContinuousClock.now
        let total = self.nodes.count
        let command = self.nodes[0].commands.renew(renewals)
        let outcome = await Canvass.run(total) { number, done in
            self.nodes[number].run(command, done)
        } decide: { (answers: [Result<[RenewReply], LockError>?]) -> RenewTally? in
            let tally = RenewTally(answers, count: renewals.count)
            return tally.isSettled || !answers.contains { $0 == nil } ? tally : nil
        } afterwards: { number, answer, tally in
            guard case .success(let replies) = answer else { return }
            for (index, reply) in replies.enumerated() {
                guard case .lost = reply, case .renewed = tally.replies[index] else { continue }
                self.heal(renewals[index].key.id, on: number)
            }
        }
        if let error = outcome.failure(needed: self.needed) { throw error }
        self.book.withLock { book in
            for (renewal, reply) in zip(renewals, outcome.replies) {
                switch reply {
                case .renewed:
                    book.update(renewal.key.id) { $0.validUntil = sent.advanced(by: renewal.lease) }
                case .lost: _ = book.remove(renewal.key.id)
                case .unknown: break
                }
            }
        }
        return outcome.replies
    }

    /// See ``LockStore/release(_:)``.
    ///
    /// One round trip to all servers at once; comes back when a majority has answered. Servers that may have given the
    /// lock without our knowing are told too.
    ///
    /// - Parameter grant: The grant.
    /// - Returns: What became of it.
    /// - Throws: ``LockError`` when no majority answers; the rest ends with its lease unless the release reaches it.
    public func release(_ grant: GrantKey) async throws -> ReleaseReply {
        let (doubted, entry) = self.book.withLock { ($0.doubted(grant.id), $0.remove(grant.id)) }
        let total = self.nodes.count
        let (needed, waitsForAll) = (self.needed, self.configuration.waitsForAll)
        let time = entry?.request.lease ?? Self.debtTime
        let outcome = await Canvass.run(total) { number, done in
            let node = self.nodes[number]
            let isKnown = entry?.nodes.contains(number) ?? true
            node.release(grant, within: time) { outcome in
                // It may wait there, or a copy of the acquire may come after this.
                if case .success(let reply) = outcome, doubted.contains(number) || (!isKnown && reply == .alreadyLost) {
                    node.withdraw(grant, within: time)
                }
                done(outcome)
            }
        } decide: { (answers: [Result<ReleaseReply, LockError>?]) -> Result<ReleaseReply, LockError>? in
            let replies = answers.compactMap { try? $0?.get() }
            let released = replies.count { $0 == .released }
            let lost = replies.count - released
            let isComplete = !answers.contains { $0 == nil }
            if waitsForAll, !isComplete { return nil }
            if released >= needed { return .success(.released) }
            if lost > total - needed { return .success(.alreadyLost) }
            guard isComplete else { return nil }
            return .failure(Self.silence(answers, answered: released + lost, needed: needed))
        }
        return try outcome.get()
    }

    /// See ``LockStore/withdraw(_:)``.
    ///
    /// One round trip to all servers at once; comes back when a majority has answered.
    ///
    /// - Parameter request: The request.
    /// - Returns: What became of it.
    /// - Throws: ``LockError`` when no majority answers; the places in the queues then end at the wait limit, and what a
    ///   minority gave with its lease.
    public func withdraw(_ request: GrantKey) async throws -> WithdrawReply {
        let held = self.book.withLock { $0.remove(request.id) } != nil
        let (needed, waitsForAll) = (self.needed, self.configuration.waitsForAll)
        let outcome = await Canvass.run(self.nodes.count) { number, done in
            self.nodes[number].withdraw(request, within: Self.debtTime, done)
        } decide: { (answers: [Result<WithdrawReply, LockError>?]) -> Result<WithdrawReply, LockError>? in
            let replies = answers.compactMap { try? $0?.get() }
            let isComplete = !answers.contains { $0 == nil }
            let released = replies.count { $0 == .released }
            if released >= needed, !waitsForAll { return .success(.released) }
            guard isComplete || (replies.count >= needed && !waitsForAll && !held) else { return nil }
            guard replies.count >= needed else {
                return .failure(Self.silence(answers, answered: replies.count, needed: needed))
            }
            if released >= needed || (held && released > 0) { return .success(.released) }
            // What a minority gave was a try, not the lock.
            return .success(replies.contains { $0 != .notFound } ? .withdrawn : .notFound)
        }
        return try outcome.get()
    }

    /// For how long a request of unknown lease may hold something on a server that does not answer.
    private static let debtTime = RedisQuorumConfiguration.defaultRestartGuard

    /// Why too few answered.
    static func silence<Reply>(
        _ answers: [Result<Reply, LockError>?],
        answered: Int,
        needed: Int
    ) -> LockError {
        for case .failure(let error)? in answers {
            return LockError(
                error.code,
                "only \(answered) of \(answers.count) Redis servers answered, and \(needed) must; \(error.message)"
            )
        }
        return ScriptReplies.unreadable
    }
}

/// What several servers say to renewals: pure.
package struct RenewTally: Sendable {
    /// What it comes to, for each.
    package let replies: [RenewReply]
    /// Whether answers that are missing cannot change it.
    package let isSettled: Bool
    private let answers: [Result<[RenewReply], LockError>?]

    /// Counts.
    ///
    /// - Parameters:
    ///   - answers: The answer of each server, `nil` for those that have not answered.
    ///   - count: How many renewals each was asked for.
    package init(_ answers: [Result<[RenewReply], LockError>?], count: Int) {
        self.answers = answers
        let needed = AcquireTally.majority(of: answers.count)
        let known = answers.compactMap { try? $0?.get() }.filter { $0.count >= count }
        var replies: [RenewReply] = []
        replies.reserveCapacity(count)
        var isSettled = known.count >= needed
        for index in 0..<count {
            var renewed = 0
            var lost = 0
            var isAsked = false
            for answer in known {
                switch answer[index] {
                case .renewed(let revoke):
                    renewed += 1
                    isAsked = isAsked || revoke
                case .lost: lost += 1
                case .unknown: break
                }
            }
            if renewed >= needed {
                replies.append(.renewed(revokeRequested: isAsked))
            } else if lost > answers.count - needed {
                replies.append(.lost(.expired))
            } else {
                replies.append(.unknown)
                isSettled = false
            }
        }
        self.replies = replies
        self.isSettled = isSettled
    }

    /// The error when no majority answered.
    func failure(needed: Int) -> LockError? {
        let answered = self.answers.count { if case .success? = $0 { true } else { false } }
        return answered >= needed
            ? nil : RedisQuorumLockStore.silence(self.answers, answered: answered, needed: needed)
    }
}
