// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import Synchronization

extension Engine {
    /// What the last answer of the store means for a request.
    private enum Step {
        case granted(FencingToken, LeaseTimeline, Instant)
        case busy
        /// Nothing came of this id; ask anew with another.
        case again
        case wait(AcquireReply.Waiting)
    }

    /// What came of asking the store once.
    private struct Answer {
        let sentAt: Instant
        let reply: Result<AcquireReply, any Error>
    }

    /// Gets the lock from the store.
    ///
    /// A free lock is had here, with little besides the store's own work; all else takes longer than that anyway.
    ///
    /// - Parameters:
    ///   - request: The request.
    ///   - now: The time, or a little before.
    ///   - deadline: When the caller's patience ends.
    /// - Returns: The lease, `nil` when it is taken and the request does not wait; and how it was had.
    /// - Throws: What ended the wait; nothing is held then.
    func obtain(
        _ request: LockRequest,
        at now: Instant,
        until deadline: Instant?
    ) async throws -> (LeaseCore?, LockEvent.Acquisition.Path) {
        let first = await self.send(request, at: now)
        if let core = self.take(first, of: request) { return (core, .free) }
        return try await self.obtain(request, until: deadline, after: first)
    }

    private func send(_ request: LockRequest, at sentAt: Instant) async -> Answer {
        do {
            return Answer(sentAt: sentAt, reply: .success(try await self.store.acquire(request)))
        } catch {
            return Answer(sentAt: sentAt, reply: .failure(error))
        }
    }

    /// Takes a grant into the books, if it is one and nothing is the matter.
    ///
    /// - Returns: The lease, or `nil` for another answer, or a grant that has to be looked at.
    @inline(never)
    private func take(_ answer: Answer, of request: LockRequest) -> LeaseCore? {
        guard case .success(.granted(let token)) = answer.reply, !Task.isCancelled else { return nil }
        let now = self.now
        let timeline = self.timeline(request.lease, from: answer.sentAt)
        guard now < timeline.stopAt else { return nil }
        let core = LeaseCore(request: request, turn: request.id, token: token, timeline: timeline, acquiredAt: now)
        return self.adopt(core) ? core : nil
    }

    /// Asks, waits for signals, asks again, until granted or the deadline.
    ///
    /// The wait limit is one deadline for all of it. A signal that comes with the deadline wins: the lock was handed
    /// over in time. What came of asking for the first time is given.
    private func obtain(
        _ original: LockRequest,
        until deadline: Instant?,
        after first: Answer
    ) async throws -> (LeaseCore?, LockEvent.Acquisition.Path) {
        var first: Answer? = first
        var request = original
        var path = LockEvent.Acquisition.Path.free
        var slot: WakeSlot?
        var isKnown = false
        var restarts = 0
        var watch = DeadlockWatch(request.holding, self)
        defer {
            if slot != nil { self.stopWaiting(request.id) }
            watch.end()
        }
        while true {
            switch try await self.ask(request, &first, &slot, &isKnown, until: deadline) {
            case .granted(let token, let timeline, let now):
                let core = LeaseCore(
                    request: request,
                    turn: original.id,
                    token: token,
                    timeline: timeline,
                    acquiredAt: now
                )
                guard self.adopt(core) else {
                    _ = try? await self.store.release(core.key)
                    throw Self.stoppedError
                }
                return (core, path)
            case .busy: return (nil, path)
            case .again:
                let old = request.id
                request = request.renamed(self.identifiers.requestID())
                isKnown = false
                if let slot { self.rename(old, to: request, slot, deadline) }
                try Task.checkCancellation()
                if let deadline, self.now >= deadline { throw self.timeout(request, blockers: []) }
                restarts += 1
                if restarts > 1 {
                    // Once is bad luck; a store that goes on like this must not be asked without pause.
                    try await self.pause(
                        request,
                        Self.restartPause,
                        self.sleeper(&slot, for: request.id, deadline)
                    )
                }
            case .wait(let place):
                path = .waited
                let sleeper = self.sleeper(&slot, for: request.id, deadline)
                if let handOver = try await self.wait(request, place, sleeper, &watch, until: deadline) {
                    first = Answer(sentAt: handOver.since, reply: .success(.granted(handOver.token)))
                }
            }
            if let deadline { request.waitLimit = max(.zero, self.now.duration(to: deadline)) }
        }
    }

    /// Where a request sleeps; entered in the books the first time, with the signal that came before it.
    func sleeper(_ slot: inout WakeSlot?, for id: RequestID, _ deadline: Instant?) -> WakeSlot {
        if let slot { return slot }
        let new = WakeSlot()
        slot = new
        let isEarly = self.state.withLock { state in
            let early = state.earlyGrants.take(id)
            state.waiting[id] = Waiting(slot: new, deadline: deadline, handOver: early.flatMap(\.self))
            // Whoever comes after the end is told by nobody else.
            if state.phase == .stopped { new.wake(.stopped) }
            return early != nil
        }
        if isEarly { new.wake(.signal) }
        return new
    }

    /// Sends what concerns a request that starts anew to the same sleeper.
    private func rename(_ old: RequestID, to request: LockRequest, _ slot: WakeSlot, _ deadline: Instant?) {
        self.state.withLock { state in
            state.wheel.clear(.wait(old))
            if state.waiting.removeValue(forKey: old) != nil {
                state.waiting[request.id] = Waiting(slot: slot, deadline: deadline)
            }
        }
    }

    /// How long a request rests that has to start anew again and again.
    private static let restartPause: Duration = .milliseconds(50)

    /// Asks the store once, through outages up to the limit.
    ///
    /// - Parameters:
    ///   - request: The request.
    ///   - first: The answer, if it was asked already.
    ///   - slot: Where to sleep between tries.
    ///   - isKnown: Whether the store may know the request from an earlier try, so that it has to be taken back.
    ///   - deadline: When the caller's patience ends.
    /// - Returns: What to do next.
    /// - Throws: The store's error when it goes on too long, or what ended the wait; nothing is held then.
    private func ask(
        _ request: LockRequest,
        _ first: inout Answer?,
        _ slot: inout WakeSlot?,
        _ isKnown: inout Bool,
        until deadline: Instant?
    ) async throws -> Step {
        var schedule = RetrySchedule(base: .milliseconds(20), cap: .milliseconds(500))
        var firstAsked: Instant?
        while true {
            let answer: Answer
            if let first { answer = first } else { answer = await self.send(request, at: self.now) }
            first = nil
            let sentAt = answer.sentAt
            let outageBegan = firstAsked ?? sentAt
            firstAsked = outageBegan
            let reply: AcquireReply
            do {
                reply = try answer.reply.get()
                isKnown = true
            } catch let error as LockError where error.code == .storeUnavailable && request.contention == .queue {
                isKnown = true
                let limit = outageBegan.advanced(by: self.configuration.outageLimit)
                let end = deadline.map { min($0, limit) } ?? limit
                let pause = self.identifiers.pause(&schedule)
                guard !Task.isCancelled, self.now.advanced(by: pause) < end else {
                    await self.giveUp(request)
                    if Task.isCancelled { throw CancellationError() }
                    throw error
                }
                try await self.pause(request, pause, self.sleeper(&slot, for: request.id, deadline))
                continue
            } catch {
                // Whether it took effect is not known, so it is taken back. Only a limit says that nothing was sent.
                if isKnown || (error as? LockError)?.code != .limitReached { await self.giveUp(request) }
                throw error
            }
            switch self.judge(reply, to: request, sentAt: sentAt, deadline) {
            case .step(let step): return step
            case .giveUp(let consequence):
                await self.giveUp(request)
                return try consequence.get()
            }
        }
    }

    private func pause(_ request: LockRequest, _ pause: Duration, _ slot: WakeSlot) async throws {
        self.setTimer(.wait(request.id), at: self.now.advanced(by: pause))
        let reasons = await slot.wait()
        if !reasons.isDisjoint(with: [.cancelled, .stopped]) { try await self.leave(request, reasons) }
    }

    /// What an answer leads to.
    private enum Verdict {
        case step(Step)
        /// A grant that cannot be used: it is given back first.
        case giveUp(Result<Step, any Error>)
    }

    private func judge(
        _ reply: AcquireReply,
        to request: LockRequest,
        sentAt: Instant,
        _ deadline: Instant?
    ) -> Verdict {
        switch reply {
        case .busy: return .step(.busy)
        case .finished: return .step(.again)
        case .waiting(let place): return .step(.wait(place))
        case .granted(let token):
            let now = self.now
            let timeline = self.timeline(request.lease, from: sentAt)
            if Task.isCancelled { return .giveUp(.failure(CancellationError())) }
            if now < timeline.stopAt { return .step(.granted(token, timeline, now)) }
            // The answer took longer than the lease is good for (etcd #11456): give it back and start anew.
            if let deadline, now >= deadline { return .giveUp(.failure(self.timeout(request, blockers: []))) }
            return .giveUp(.success(request.contention == .queue ? .again : .busy))
        }
    }

    /// Takes a held lease into the books.
    ///
    /// - Returns: Whether there are books: nobody would renew it after the service stopped.
    func adopt(_ core: LeaseCore) -> Bool {
        let look = core.nextLook(gridFrom: self.origin)
        var mustNudge = false
        var loss: LossReason?
        let isRunning = self.state.withLock { state in
            guard state.phase == .running else { return false }
            state.leases[core.key.id] = core
            loss = state.earlyLosses.take(core.key.id)
            mustNudge = Self.setTimer(.lease(core.key.id), at: look, &state)
            return true
        }
        if mustNudge { self.nudge.wake(.timer) }
        if let loss, core.end(loss) { self.forget(core, because: loss) }
        return isRunning
    }

    static var stoppedError: LockError { LockError(.notRunning, "the lock service has stopped") }

    /// Sleeps until it is time to ask again, or throws when it is time to give up.
    ///
    /// - Returns: What was handed over, which is the answer then.
    private func wait(
        _ request: LockRequest,
        _ place: AcquireReply.Waiting,
        _ slot: WakeSlot,
        _ watch: inout DeadlockWatch,
        until deadline: Instant?
    ) async throws -> HandOver? {
        let check = self.now.advanced(by: self.checkDelay(place))
        while true {
            self.setTimer(.wait(request.id), atFirstOf: [check, deadline, watch.next])
            let reasons = await slot.wait()
            if !reasons.isDisjoint(with: [.cancelled, .stopped]) { try await self.leave(request, reasons) }
            if reasons.contains(.signal) { return self.takeHandOver(request.id) }
            let now = self.now
            if let deadline, now >= deadline {
                await self.giveUp(request)
                throw self.timeout(request, blockers: place.blockers)
            }
            guard now < check, watch.isDue(at: now) else { return nil }
            let suspect = Suspect(reference: request.id.reference, owner: request.owner, resource: request.resource)
            guard let deadlock = await self.look(for: suspect, &watch) else { continue }
            // Handed over in the last moment: then nobody is stuck any more, and this begins anew.
            if await self.giveUp(request) == .released { return nil }
            throw self.deadlockError(deadlock, request.resource)
        }
    }

    /// What was handed over to a request, once.
    private func takeHandOver(_ id: RequestID) -> HandOver? {
        self.state.withLock { state in
            defer { state.waiting[id]?.handOver = nil }
            return state.waiting[id]?.handOver
        }
    }

    /// After how long to ask again if no signal comes.
    ///
    /// At the latest when the store says, and before that once for each acceptance time and place in the queue: a lost
    /// signal then costs the next in line one acceptance time instead of a lease, a row of dead waiters is passed at
    /// their acceptance times, and a queue of a thousand asks the store a few dozen times a second.
    func checkDelay(_ place: AcquireReply.Waiting) -> Duration {
        let own = self.configuration.acceptance * (min(max(place.position, 0), Self.slowestCheck - 1) + 1)
        let delay = max(min(place.checkAfter, own), Self.shortestCheck)
        return delay + self.identifiers.jitter(upTo: delay / 16)
    }

    /// A store that says "ask again at once" is asked again after this: a waiter must not spin (rueidis #602).
    private static let shortestCheck: Duration = .milliseconds(1)
    /// The longest time between own checks, in acceptance times.
    private static let slowestCheck = 30

    private func leave(_ request: LockRequest, _ reasons: WakeSlot.Reasons) async throws {
        await self.giveUp(request)
        if reasons.contains(.cancelled) { throw CancellationError() }
        throw Self.stoppedError
    }

    /// Takes a request back wherever it is; if that fails, tries again in the background until it can hold nothing.
    ///
    /// - Returns: Where it was, or `nil` when that is not known.
    @discardableResult
    func giveUp(_ request: LockRequest) async -> WithdrawReply? {
        do {
            return try await self.store.withdraw(request.key)
        } catch {
            self.observe(.cleanUpFailed(request.resource, error))
            // The request may hold a place until its wait limit, or a grant until its lease is over.
            self.cleanUpLater(request.key, until: self.now.advanced(by: request.lease))
            return nil
        }
    }

    /// Puts something on the list of what is to be given back.
    func cleanUpLater(_ key: GrantKey, until: Instant) {
        var mustNudge = false
        self.state.withLock { state in
            guard state.phase == .running else { return }
            state.cleanUps[key.id] = CleanUp(
                key: key,
                until: until,
                schedule: RetrySchedule(base: .milliseconds(50), cap: .seconds(1))
            )
            mustNudge = Self.setTimer(.cleanUp(key.id), at: self.now.advanced(by: .milliseconds(50)), &state)
        }
        if mustNudge { self.nudge.wake(.timer) }
    }
}

extension LockRequest {
    /// The same request under another id.
    fileprivate func renamed(_ id: RequestID) -> LockRequest {
        LockRequest(
            id: id,
            resource: self.resource,
            mode: self.mode,
            owner: self.owner,
            lease: self.lease,
            contention: self.contention,
            waitLimit: self.waitLimit,
            acceptance: self.acceptance,
            lockDelay: self.lockDelay,
            priority: self.priority,
            fairness: self.fairness,
            holding: self.holding,
            acceptsUnasked: self.acceptsUnasked
        )
    }
}

extension IdentifierSource {
    /// Draws a pause from a schedule.
    func pause(_ schedule: inout RetrySchedule) -> Duration {
        var generator = Borrowed(source: self)
        return schedule.next(using: &generator)
    }

    private struct Borrowed: RandomNumberGenerator {
        let source: IdentifierSource
        func next() -> UInt64 { self.source.word() }
    }
}
