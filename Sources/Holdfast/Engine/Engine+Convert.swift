// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import Synchronization

extension Engine {
    /// Makes a lock in update mode exclusive: waits until the readers are gone, and lets nobody else in meanwhile.
    ///
    /// Whatever ends the wait, the lock is held in update mode again afterwards, or lost.
    func upgrade(_ core: LeaseCore, waitingAtMost limit: Duration?) async throws {
        let started = self.now
        let deadline = try Self.deadline(of: limit, from: started)
        guard try self.canUpgrade(core) else { return }
        try Self.beginConversion(of: core)
        defer { core.endConversion() }
        do {
            try await self.becomeExclusive(core, until: deadline)
        } catch {
            await self.endUpgrade(core)
            throw error
        }
        self.observe(.converted(core.grant, waited: started.duration(to: self.now)))
    }

    /// Makes a lock weaker at once; who fits beside it then is let in.
    func downgrade(_ core: LeaseCore, to mode: LockMode) async throws {
        let started = self.now
        guard self.capabilities.converts else { throw self.cannotConvert }
        guard core.isValid(at: started) else { throw self.lossError(of: core) }
        if core.mode == mode { return }
        guard mode == .shared || mode == .update, core.mode.covers(mode) else {
            throw LockError(.invalidArgument, "a lock held as \(core.mode) cannot be downgraded to \(mode)")
        }
        try Self.beginConversion(of: core)
        defer { core.endConversion() }
        switch try await self.store.convert(Conversion(core.key, to: mode)) {
        case .converted(let token): try self.adopt(mode, token, of: core)
        case .lost: throw self.end(core)
        case .busy, .waiting:
            throw LockError(.storeCorrupted, "the \(self.capabilities.name) store refused to weaken a lock")
        }
        self.observe(.converted(core.grant, waited: started.duration(to: self.now)))
    }

    private static func beginConversion(of core: LeaseCore) throws {
        guard core.beginConversion() else {
            throw LockError(.upgradeConflict, "another task changes the mode of this lease on \(core.key.resource)")
        }
    }

    private var cannotConvert: LockError {
        LockError(.unsupported, "the \(self.capabilities.name) store does not change the mode of a lock")
    }

    /// - Returns: Whether there is something to do.
    private func canUpgrade(_ core: LeaseCore) throws -> Bool {
        guard self.capabilities.converts else { throw self.cannotConvert }
        guard core.isValid(at: self.now) else { throw self.lossError(of: core) }
        switch core.mode {
        case .exclusive: return false
        case .update: return true
        case .shared, .permit:
            // Two readers that both want to write would wait for each other for ever (redisson #4796).
            throw LockError(
                .upgradeConflict,
                "only a lock held as update can become exclusive, and \(core.key.resource) is held as \(core.mode); "
                    + "acquire it as update"
            )
        }
    }

    private func becomeExclusive(_ core: LeaseCore, until deadline: Instant?) async throws {
        let holding = Self.holding(OwnerContext.current, self.configuration.inherited)
        let conversion = Conversion(
            core.key,
            to: .exclusive,
            contention: .queue,
            holding: holding.filter { $0 != core.key.id.reference }
        )
        var slot: WakeSlot?
        var watch = DeadlockWatch([core.key.id.reference], self)
        defer {
            if let slot {
                self.stopWaiting(core.key.id)
                core.unwatch(slot)
            }
            watch.end()
        }
        // Why to give up; the store is asked once more first, since the upgrade may just have come.
        var end: LockError?
        while true {
            try Task.checkCancellation()
            switch try await self.store.convert(conversion) {
            case .converted(let token): return try self.adopt(.exclusive, token, of: core)
            case .lost: throw self.end(core)
            case .busy:
                throw LockError(.storeCorrupted, "the \(self.capabilities.name) store refused to wait for an upgrade")
            case .waiting(let place):
                if let end { throw end }
                let isFirst = slot == nil
                let sleeper = self.sleeper(&slot, for: core.key.id, deadline)
                if isFirst { core.watch(sleeper) }
                end = try await self.waitForReaders(core, place, sleeper, &watch, until: deadline)
            }
        }
    }

    /// - Returns: Why to give up unless the store says that the upgrade came, or `nil` to go on.
    private func waitForReaders(
        _ core: LeaseCore,
        _ place: AcquireReply.Waiting,
        _ slot: WakeSlot,
        _ watch: inout DeadlockWatch,
        until deadline: Instant?
    ) async throws -> LockError? {
        let key = core.key
        let check = self.now.advanced(by: self.checkDelay(place))
        while true {
            self.setTimer(.wait(key.id), atFirstOf: [check, deadline, watch.next])
            let reasons = await slot.wait()
            if reasons.contains(.cancelled) { throw CancellationError() }
            if !reasons.isDisjoint(with: [.lost, .stopped]) { throw self.lossError(of: core) }
            if reasons.contains(.signal) { return nil }
            let now = self.now
            if let deadline, now >= deadline {
                return LockError(
                    .timeout,
                    "the readers of \(key.resource) were not gone within the wait limit; it is held as update",
                    blockers: place.blockers
                )
            }
            guard now < check, watch.isDue(at: now) else { return nil }
            let suspect = Suspect(reference: key.id.reference, owner: core.owner, resource: key.resource)
            if let deadlock = await self.look(for: suspect, &watch) {
                return self.deadlockError(deadlock, key.resource)
            }
        }
    }

    /// Goes back to update mode, however far the upgrade came.
    private func endUpgrade(_ core: LeaseCore) async {
        var schedule = RetrySchedule(base: .milliseconds(20), cap: .milliseconds(500))
        // Asked at least once, so that the store hears of the end of a wait; and for as long as the lock is held, since
        // an upgrade that stays behind would keep everybody out.
        repeat {
            do {
                switch try await self.store.convert(Conversion(core.key, to: .update)) {
                case .converted(let token): try? self.adopt(.update, token, of: core)
                case .lost: _ = self.end(core)
                case .busy, .waiting: break
                }
                return
            } catch {
                self.observe(.cleanUpFailed(core.key.resource, error))
                let pause = self.identifiers.pause(&schedule)
                let slot = WakeSlot()
                await self.rest(on: slot, for: pause)
            }
        } while core.isValid(at: self.now)
    }

    /// Sleeps for a while whether or not the task is cancelled.
    private func rest(on slot: WakeSlot, for pause: Duration) async {
        let id = self.identifiers.requestID()
        let end = self.now.advanced(by: pause)
        let isRunning = self.state.withLock { state in
            guard state.phase == .running else { return false }
            state.waiting[id] = Waiting(slot: slot, deadline: end)
            return true
        }
        guard isRunning else { return }
        self.setTimer(.wait(id), at: end)
        _ = await slot.waitUncancelled()
        self.stopWaiting(id)
    }

    /// Books a mode that the store said.
    ///
    /// - Throws: ``LockError`` when the lock was lost before the answer came.
    private func adopt(_ mode: LockMode, _ token: FencingToken, of core: LeaseCore) throws {
        guard core.isValid(at: self.now) else { throw self.lossError(of: core) }
        core.converted(to: mode, token)
        self.changeInGate(core.turn, core.key.resource, to: mode)
    }

    /// Lets those of this process through who fit beside the new mode.
    func changeInGate(_ turn: RequestID, _ resource: Resource, to mode: LockMode) {
        let slots = self.state.withLock { state in
            state.gate.change(turn, to: mode, resource).compactMap { state.waiting[$0]?.slot }
        }
        for slot in slots { slot.wake(.admitted) }
    }

    /// Ends a lease that the store does not know any more.
    private func end(_ core: LeaseCore) -> LockError {
        if core.end(.expired) { self.forget(core, because: .expired) }
        return self.lossError(of: core)
    }
}
