// SPDX-License-Identifier: Apache-2.0

package import HoldfastCore
import Synchronization

/// What a caller asks for.
struct AcquireOptions: Sendable {
    var resource: Resource
    var mode: LockMode
    var lease: Duration?
    var waitingAtMost: Duration?
    var contention: LockRequest.Contention
    var priority: Int
    var lockDelay: Duration
    var label: String?
    var fairness = LockRequest.Fairness.fair
    /// The owner to act for and what it holds, when that is not to be seen from the task.
    var inherited: InheritedOwner?
}

extension Engine {
    /// Gets a lock.
    ///
    /// - Returns: The lease, or `nil` when it is taken and the options say not to wait.
    func acquire(_ options: AcquireOptions) async throws -> LeaseCore? {
        let started = self.now
        do {
            let (core, path) = try await self.locate(options, from: started)
            guard let core else {
                self.observe(.notAcquired(self.failure(options, .busy, started, nil)))
                return nil
            }
            self.observe(
                .acquired(.init(grant: core.grant, path: path, waited: started.duration(to: self.now)))
            )
            return core
        } catch {
            let outcome: LockEvent.Failure.Outcome =
                switch error {
                case is CancellationError: .cancelled
                case let error as LockError where error.code == .timeout: .timeout
                case let error as LockError where error.code == .deadlock: .deadlock
                case _: .failed
                }
            self.observe(.notAcquired(self.failure(options, outcome, started, error)))
            throw error
        }
    }

    private func failure(
        _ options: AcquireOptions,
        _ outcome: LockEvent.Failure.Outcome,
        _ started: Instant,
        _ error: (any Error)?
    ) -> LockEvent.Failure {
        LockEvent.Failure(
            resource: options.resource,
            mode: options.mode,
            outcome: outcome,
            waited: started.duration(to: self.now),
            error: error
        )
    }

    private func locate(
        _ options: AcquireOptions,
        from started: Instant
    ) async throws -> (LeaseCore?, LockEvent.Acquisition.Path) {
        let context = OwnerContext.current
        var request = self.makeRequest(options, context)
        try self.capabilities.check(request)
        let deadline = try Self.deadline(of: options.waitingAtMost, from: started)
        if let core = try self.reenter(options, context) { return (core, .reentered) }
        try Task.checkCancellation()
        var now = started
        var hasWaited = false
        var turn = try self.enterGate(request, from: started, until: deadline)
        if case .early = turn {
            try await self.ensureRunning(request.id, until: deadline)
            now = self.now
            if let deadline { request.waitLimit = max(.zero, now.duration(to: deadline)) }
            turn = try self.enterGate(request, from: now, until: deadline)
        }
        switch turn {
        case .admitted: break
        case .refused: return (nil, .free)
        case .early: throw Self.stoppedError
        case .queued(let slot):
            try await self.awaitTurn(request, slot, until: deadline)
            hasWaited = true
            now = self.now
            if let deadline { request.waitLimit = max(.zero, now.duration(to: deadline)) }
        }
        do {
            let (core, path) = try await self.obtain(request, at: now, until: deadline)
            if core == nil { self.leaveGate(request.key) }
            return (core, hasWaited ? .waited : path)
        } catch {
            self.leaveGate(request.key)
            throw error
        }
    }

    private func makeRequest(_ options: AcquireOptions, _ context: OwnerContext?) -> LockRequest {
        let inherited = options.inherited ?? self.configuration.inherited
        let owner = options.inherited?.owner ?? context?.owner ?? inherited?.owner
        let (id, serial) = self.identifiers.requestID(withSerial: owner == nil)
        return LockRequest(
            id: id,
            resource: options.resource,
            mode: options.mode,
            owner: owner ?? OwnerID(process: self.identity, serial: serial, label: options.label),
            lease: self.leaseToBelieve(options.lease ?? self.configuration.lease),
            contention: options.contention,
            waitLimit: options.waitingAtMost,
            acceptance: self.configuration.acceptance,
            lockDelay: options.lockDelay,
            priority: options.priority,
            fairness: options.fairness,
            holding: Self.holding(context, inherited),
            acceptsUnasked: self.isSystemClock
        )
    }

    /// The lease that a holder may go by: in a store whose locks live with a session, at most as long as that may be
    /// silent.
    private func leaseToBelieve(_ lease: Duration) -> Duration {
        self.capabilities.sessionLease.map { min(lease, $0) } ?? lease
    }

    /// What is kept while work waits: what it runs under here, and what its owner holds elsewhere.
    static func holding(_ context: OwnerContext?, _ inherited: InheritedOwner?) -> [String] {
        (context?.holding ?? []) + (inherited?.holding ?? [])
    }

    /// When a caller's patience ends.
    ///
    /// - Throws: ``LockError`` when the limit is negative.
    static func deadline(of limit: Duration?, from started: Instant) throws(LockError) -> Instant? {
        guard let limit else { return nil }
        guard limit >= .zero else { throw LockError(.invalidArgument, "a wait limit cannot be negative") }
        return started.advanced(by: min(limit, Limits.maximumWait))
    }

    /// Gives the lock that the owner holds already, if it does.
    private func reenter(_ options: AcquireOptions, _ context: OwnerContext?) throws -> LeaseCore? {
        guard let held = context?.held(options.resource, of: self) else { return nil }
        guard self.configuration.isReentrant else {
            throw LockError(.deadlock, "\(options.resource) is held by this owner already, and re-entry is off")
        }
        if options.mode.isPermit { return nil }
        guard held.mode.covers(options.mode) else {
            throw LockError(
                .deadlock,
                "this owner holds \(options.resource) as \(held.mode) and would wait for itself to get it as "
                    + "\(options.mode); take the stronger mode first"
            )
        }
        if held.reenter(at: self.now) { return held }
        // Given back meanwhile by a scope that this work outlived: then it is a lock like any other.
        guard held.isHeld else { return nil }
        throw self.lossError(of: held)
    }

    // MARK: - In this process

    var isRunning: Bool { self.state.withLock { $0.phase == .running } }

    /// How long even a request that is not to wait waits for `run()`: it comes while the task that calls it is being
    /// started, and should ask once.
    private static let startupGrace: Duration = .seconds(1)

    func ensureRunning(_ id: RequestID, until deadline: Instant?) async throws {
        let started = self.now
        let limit = started.advanced(by: self.configuration.startupLimit)
        let end = deadline.map { min(max($0, started.advanced(by: Self.startupGrace)), limit) } ?? limit
        while true {
            let slot = WakeSlot()
            let phase = self.state.withLock { state in
                if state.phase == .idle { state.starting[id] = slot }
                return state.phase
            }
            switch phase {
            case .running: return
            case .stopped: throw Self.stoppedError
            case .idle: break
            }
            // Nobody keeps time yet, so this wait keeps its own.
            let clock = self.clock
            let reasons = await withTaskGroup(of: Void.self) { group in
                group.addTask {
                    try? await clock.sleep(until: end, tolerance: nil)
                    slot.wake(.timer)
                }
                let reasons = await slot.wait()
                group.cancelAll()
                return reasons
            }
            _ = self.state.withLock { $0.starting.removeValue(forKey: id) }
            if reasons.contains(.admitted) { continue }
            if reasons.contains(.cancelled) { throw CancellationError() }
            // It may have begun without having said so yet.
            guard self.state.withLock({ $0.phase == .idle }) else { continue }
            throw LockError(.notRunning, "the lock service is not running: run its run() in a task or a service group")
        }
    }

    /// Where a request stands in this process.
    enum Turn {
        case admitted
        case refused
        case queued(WakeSlot)
        /// Nowhere: the service is not running.
        case early
    }

    /// Takes this process' turn, or a place in its queue.
    func enterGate(_ request: LockRequest, from now: Instant, until deadline: Instant?) throws -> Turn {
        var mustNudge = false
        let turn = self.state.withLock { state -> Turn? in
            guard state.phase == .running else { return .early }
            switch state.gate.enter(request, at: self.timestamp(now)) {
            case .admitted: return .admitted
            case .refused: return .refused
            case .full: return nil
            case .queued:
                let slot = WakeSlot()
                state.waiting[request.id] = Waiting(slot: slot, deadline: deadline)
                if let deadline { mustNudge = Self.setTimer(.wait(request.id), at: deadline, &state) }
                return .queued(slot)
            }
        }
        if mustNudge { self.nudge.wake(.timer) }
        guard let turn else {
            throw LockError(.limitReached, "too many tasks of this process wait for \(request.resource)")
        }
        return turn
    }

    /// Sleeps until the requests before this one have left.
    ///
    /// One that may be part of a deadlock goes on to the store's queue after a while: there, every process can see it.
    func awaitTurn(_ request: LockRequest, _ slot: WakeSlot, until deadline: Instant?) async throws {
        let watch = DeadlockWatch(request.holding, self)
        if watch.next != nil { self.setTimer(.wait(request.id), atFirstOf: [deadline, watch.next]) }
        while true {
            let reasons = await slot.wait()
            if reasons.contains(.admitted), !reasons.contains(.cancelled) {
                self.stopWaiting(request.id)
                return
            }
            let isOver = deadline.map { self.now >= $0 } ?? false
            guard isOver || !reasons.isDisjoint(with: [.cancelled, .stopped]) else {
                if watch.isDue(at: self.now) {
                    self.stopWaiting(request.id)
                    self.state.withLock { $0.gate.pass(request.id, request.resource) }
                    return
                }
                // Woken to look at the store, where this request is not yet: only the limit counts here.
                self.setTimer(.wait(request.id), atFirstOf: [deadline, watch.next])
                continue
            }
            self.stopWaiting(request.id)
            self.leaveGate(request.key)
            if reasons.contains(.cancelled) { throw CancellationError() }
            if reasons.contains(.stopped) { throw Self.stoppedError }
            throw self.timeout(request, blockers: self.localHolders(of: request.resource))
        }
    }

    func stopWaiting(_ id: RequestID) {
        self.state.withLock { state in
            state.waiting[id] = nil
            state.wheel.clear(.wait(id))
        }
    }

    /// Lets the next task of this process through.
    func leaveGate(_ key: GrantKey) {
        let slots = self.state.withLock { state in
            state.gate.leave(key.id, key.resource).compactMap { state.waiting[$0]?.slot }
        }
        for slot in slots { slot.wake(.admitted) }
    }

    private func localHolders(of resource: Resource) -> [Holder] {
        let now = self.now
        return self.state.withLock { state in
            state.leases.values.filter { $0.key.resource == resource }
        }.map { core in
            Holder(
                reference: core.key.id.reference,
                owner: core.owner,
                mode: core.mode,
                fencingToken: core.token,
                heldFor: core.acquiredAt.duration(to: now),
                remaining: now.duration(to: core.validUntil)
            )
        }
    }

    func timeout(_ request: LockRequest, blockers: [Holder]) -> LockError {
        let holders = blockers.map { holder in
            holder.heldFor.map { "\(holder.name) for \($0.brief)" } ?? holder.name
        }
        let suffix = holders.isEmpty ? "" : "; held by " + holders.joined(separator: ", ")
        return LockError(
            .timeout,
            "\(request.resource) was not free within the wait limit\(suffix)",
            blockers: blockers
        )
    }
}

extension LockMode {
    /// Whether a holder of this mode may do what a holder of the other may.
    package func covers(_ other: LockMode) -> Bool {
        switch (self, other) {
        case (.exclusive, .exclusive), (.exclusive, .update), (.exclusive, .shared): true
        case (.update, .update), (.update, .shared), (.shared, .shared): true
        case (_, _): false
        }
    }
}
