// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import Synchronization

extension Engine {
    /// Gives a lock back: out of the books first, so that no renewal starts any more, then to the store.
    ///
    /// The next task of this process may go to the store at once. If its request overtakes the release there, it waits
    /// there and is handed the lock by it.
    func release(_ core: LeaseCore) async -> ReleaseReply {
        self.beginRelease(core)
        let reply = await self.releaseInStore(core)
        self.endRelease(core, reply)
        return reply
    }

    @inline(never)
    private func beginRelease(_ core: LeaseCore) {
        for slot in self.takeOut(core) { slot.wake(.admitted) }
        guard self.isObserved else { return }
        let excess = core.validUntil.duration(to: self.now)
        if excess > .zero { self.observe(.outlived(core.grant, by: excess)) }
    }

    @inline(never)
    private func endRelease(_ core: LeaseCore, _ reply: ReleaseReply) {
        core.released(reply)
        self.observe(.released(core.grant, reply: reply, held: core.acquiredAt.duration(to: self.now)))
    }

    private func releaseInStore(_ core: LeaseCore) async -> ReleaseReply {
        switch core.loss {
        case .expired, .forced:
            // The store said so itself.
            return .alreadyLost
        case .deadline, .stopped, nil:
            do {
                return try await self.store.release(core.key)
            } catch {
                self.observe(.cleanUpFailed(core.key.resource, error))
                // A lost lock takes one round trip at most; one that is held is worth more tries.
                if core.loss == nil { self.cleanUpLater(core.key, until: core.validUntil) }
                return .unknown
            }
        }
    }

    /// Takes a lease out of the books and ends its turn.
    ///
    /// - Returns: Who of this process is next.
    private func takeOut(_ core: LeaseCore) -> [WakeSlot] {
        self.state.withLock { state in
            if state.leases[core.key.id] === core {
                state.leases[core.key.id] = nil
                state.wheel.clear(.lease(core.key.id))
            }
            return state.gate.leave(core.turn, core.key.resource).compactMap { state.waiting[$0]?.slot }
        }
    }

    /// Lets a lock go on without this process: it is renewed no more, and its turn in this process is over.
    ///
    /// Until the store agreed the lock is held and renewed as before.
    func detach(_ core: LeaseCore, _ hold: borrowing HoldFlag) async throws -> Grant {
        try self.checkDetaching()
        guard core.isValid(at: self.now) else { throw self.lossError(of: core) }
        guard core.isHeldOnce, !hold.hasEnded else {
            throw LockError(.invalidArgument, "\(core.key.resource) is in use by an outer scope, which will release it")
        }
        if let store = self.store as? any DetachableStore { try await store.detach(core.key) }
        let grant = core.grant
        guard hold.end(), core.leave() else {
            throw LockError(.invalidArgument, "\(core.key.resource) was released or re-entered meanwhile")
        }
        for slot in self.takeOut(core) { slot.wake(.admitted) }
        core.endStreams()
        return grant
    }

    /// Checks that a lock can outlive this process.
    ///
    /// - Throws: ``LockError`` with code ``LockError/Code/unsupported``.
    func checkDetaching() throws(LockError) {
        guard self.capabilities.sessionLease == nil else {
            throw LockError(
                .unsupported,
                "a lock in the \(self.capabilities.name) store ends with the process that took it, and cannot be "
                    + "handed on or counted after it"
            )
        }
    }

    /// Ends a lease whose deadline is over, if nobody has noticed yet.
    func endIfOver(_ core: LeaseCore) {
        guard core.isHeld, self.now >= core.validUntil else { return }
        if core.end(.deadline) { self.forget(core, because: .deadline) }
    }

    /// Notes that the last handle went away without a release.
    func abandon(_ core: LeaseCore) {
        for slot in self.takeOut(core) { slot.wake(.admitted) }
        core.endStreams()
        self.observe(.abandoned(core.grant))
    }

    /// Renews one lease outside of the rounds.
    func renewNow(_ core: LeaseCore) async throws {
        guard core.isValid(at: self.now) else { throw self.lossError(of: core) }
        let sentAt = self.now
        let replies = try await self.store.renew([Renewal(key: core.key, lease: core.lease)])
        self.take(replies.first ?? .unknown, for: core, sentAt: sentAt)
        switch replies.first ?? .unknown {
        case .renewed:
            // An answer that came after the margin changed nothing.
            guard core.isValid(at: self.now) else { throw self.lossError(of: core) }
        case .lost: throw self.lossError(of: core)
        case .unknown: throw LockError(.storeUnavailable, "the renewal of \(core.key.resource) was not confirmed")
        }
    }

    /// Books the answer to a renewal.
    func take(_ reply: RenewReply, for core: LeaseCore, sentAt: Instant) {
        if let reason = core.renewalEnded(reply, sentAt: sentAt, at: self.now) {
            self.forget(core, because: reason)
        } else if core.loss == nil, core.isHeld {
            self.schedule(core)
        }
    }

    /// Sets the next look at a lease, if it is still in the books.
    private func schedule(_ core: LeaseCore) {
        let look = core.nextLook(gridFrom: self.origin)
        let mustNudge = self.state.withLock { state -> Bool in
            guard state.leases[core.key.id] != nil else { return false }
            return Self.setTimer(.lease(core.key.id), at: look, &state)
        }
        if mustNudge { self.nudge.wake(.timer) }
    }

    /// Takes up a lock that was held before, perhaps by another process.
    func resume(_ grant: Grant) async throws -> LeaseCore {
        let request = LockRequest(
            id: grant.id,
            resource: grant.resource,
            mode: grant.mode,
            owner: grant.owner,
            lease: grant.lease,
            contention: .fail
        )
        try self.capabilities.check(request)
        if !self.isRunning { try await self.ensureRunning(request.id, until: nil) }
        try self.admit(request)
        defer { self.state.withLock { _ = $0.resuming.remove(request.id) } }
        do {
            let core = try await self.resumeInStore(request, grant)
            self.observe(.acquired(.init(grant: core.grant, path: .resumed, waited: .zero)))
            return core
        } catch {
            self.leaveGate(request.key)
            throw error
        }
    }

    /// Lets a grant in past those of this process who wait for it.
    ///
    /// Each grant is held by one handle.
    private func admit(_ request: LockRequest) throws {
        let isNew = self.state.withLock { state in
            guard state.leases[request.id] == nil, state.resuming.insert(request.id).inserted else { return false }
            state.gate.admit(request.id, request.mode, request.resource)
            return true
        }
        if !isNew { throw LockError(.invalidArgument, "this process holds the grant of \(request.resource) already") }
    }

    private func resumeInStore(_ request: LockRequest, _ grant: Grant) async throws -> LeaseCore {
        let sentAt = self.now
        let reply = try await self.store.renew([Renewal(key: grant.key, lease: grant.lease)]).first ?? .unknown
        switch reply {
        case .renewed: break
        case .lost: throw LockError(.lost, "the grant of \(grant.resource) is not held any more")
        case .unknown: throw LockError(.storeUnavailable, "the store did not say whether the grant is still held")
        }
        // The grant may have been written down before a change of mode: what the store says counts.
        let status = try await self.store.status(of: grant.resource)
        guard let holder = status.holders.first(where: { $0.reference == grant.id.reference }) else {
            throw LockError(.lost, "the grant of \(grant.resource) is not held any more")
        }
        var request = request
        if holder.mode != request.mode {
            request.mode = holder.mode
            self.changeInGate(request.id, request.resource, to: holder.mode)
        }
        let core = LeaseCore(
            request: request,
            turn: request.id,
            token: holder.fencingToken ?? grant.fencingToken,
            timeline: self.timeline(grant.lease, from: sentAt),
            acquiredAt: sentAt
        )
        // What was handed over is not ours to release: another service may take it up.
        guard self.adopt(core) else { throw Self.stoppedError }
        return core
    }
}
