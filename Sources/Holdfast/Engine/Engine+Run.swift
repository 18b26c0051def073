// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import Synchronization

extension Engine {
    /// What is due now.
    private struct Work {
        var renewals: [LeaseCore] = []
        var losses: [LeaseCore] = []
        var cleanUps: [CleanUp] = []
        var sleepers: [WakeSlot] = []
    }

    /// Does the background work until cancelled: time, renewals, clean-ups, and the store's own.
    func run() async throws {
        guard self.begin() else {
            throw LockError(.invalidArgument, "run() of a lock service can be called once only")
        }
        // Cancelled below, so that nothing has to be weak: an object that ever was referred to weakly pays for that with
        // each reference to it.
        let subscription = self.store.subscribe { signal in self.receive(signal) }
        self.welcome()
        defer {
            subscription.cancel()
            self.stop()
        }
        do {
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await self.store.run() }
                // Given `nil`, optimised builds of Swift 6.3.1 run it on the global pool, whatever the group's task prefers.
                if let keeper = self.keeper {
                    group.addTask(executorPreference: keeper) { await self.keepTime() }
                } else {
                    group.addTask { await self.keepTime() }
                }
                group.addTask { _ = await self.stopRequest.wait() }
                // Whichever ends first ends the service. Holders and waiters are told before the others are awaited:
                // nobody watches their deadlines any more.
                defer {
                    self.stop()
                    group.cancelAll()
                }
                try await group.next()
            }
        } catch is CancellationError {
            return
        }
    }

    private func begin() -> Bool {
        self.state.withLock { state in
            guard state.phase == .idle else { return false }
            state.phase = .running
            return true
        }
    }

    private func welcome() {
        let slots = self.state.withLock { state in
            defer { state.starting = [:] }
            return Array(state.starting.values)
        }
        for slot in slots { slot.wake(.admitted) }
    }

    /// Ends everything: who waits is told, and who holds a lease is told that nobody renews it any more.
    private func stop() {
        let (slots, cores) = self.state.withLock { state -> ([WakeSlot], [LeaseCore]) in
            state.phase = .stopped
            state.cleanUps = [:]
            return (state.waiting.values.map(\.slot) + state.starting.values, Array(state.leases.values))
        }
        for slot in slots { slot.wake(.stopped) }
        for core in cores where core.end(.stopped) { self.forget(core, because: .stopped) }
    }

    private func keepTime() async {
        await withDiscardingTaskGroup { group in
            while !Task.isCancelled {
                let (work, next) = self.collect(at: self.now)
                for sleeper in work.sleepers { sleeper.wake(.timer) }
                for core in work.losses { self.forget(core, because: .deadline) }
                // Apart for each server, so that one that hangs holds up nobody else's answers.
                let servers = Dictionary(grouping: work.renewals) { self.store.server(of: $0.key.resource) }
                for (_, cores) in servers.sorted(by: { $0.key < $1.key }) {
                    for batch in cores.chunked(by: Limits.maximumRenewalBatch) {
                        group.addTask { await self.renew(Array(batch)) }
                    }
                }
                for cleanUp in work.cleanUps { group.addTask { await self.retry(cleanUp) } }
                await self.sleep(until: next)
            }
        }
    }

    /// Sleeps until an instant or a nudge, whichever comes first.
    private func sleep(until instant: Instant?) async {
        guard let instant else {
            _ = await self.nudge.wait()
            return
        }
        if let keeper = self.keeper {
            keeper.wake(after: self.now.duration(to: instant)) { [nudge] in nudge.wake(.timer) }
            _ = await self.nudge.wait()
            return
        }
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                // What lies further off is looked at again; a clock cannot sleep for ever.
                let end = min(instant, self.now.advanced(by: .seconds(24 * 60 * 60)))
                try? await self.clock.sleep(until: end, tolerance: nil)
                if !Task.isCancelled { self.nudge.wake(.timer) }
            }
            _ = await self.nudge.wait()
            group.cancelAll()
        }
    }

    /// Takes out what is due, and says when to look again.
    private func collect(at now: Instant) -> (Work, Instant?) {
        var work = Work()
        let leases = self.state.withLock { state -> [LeaseCore] in
            var leases: [LeaseCore] = []
            for key in state.wheel.due(at: now) {
                switch key {
                case .lease(let id): if let core = state.leases[id] { leases.append(core) }
                case .wait(let id): if let waiting = state.waiting[id] { work.sleepers.append(waiting.slot) }
                case .cleanUp(let id): if let cleanUp = state.cleanUps[id] { work.cleanUps.append(cleanUp) }
                }
            }
            return leases
        }
        var looks: [(RequestID, Instant)] = []
        for core in leases {
            switch core.action(at: now) {
            case .renew:
                work.renewals.append(core)
                // The deadline is watched while the renewal is under way.
                looks.append((core.key.id, core.stopAt))
            case .stop: work.losses.append(core)
            case .wait: looks.append((core.key.id, core.nextLook(gridFrom: self.origin)))
            }
        }
        let next = self.state.withLock { state -> Instant? in
            for (id, instant) in looks where state.leases[id] != nil { state.wheel.set(.lease(id), at: instant) }
            state.armed = state.wheel.next
            return state.armed
        }
        return (work, next)
    }

    // MARK: - Renewals and clean-ups

    private func renew(_ cores: [LeaseCore]) async {
        let sentAt = self.now
        var replies: [RenewReply]
        do {
            replies = try await self.store.renew(cores.map { Renewal(key: $0.key, lease: $0.lease) })
        } catch {
            // A failed renewal is unknown, not lost.
            replies = Array(repeating: .unknown, count: cores.count)
        }
        var counts = (renewed: 0, lost: 0, unknown: 0)
        for (index, core) in cores.enumerated() {
            let reply = index < replies.count ? replies[index] : .unknown
            switch reply {
            case .renewed: counts.renewed += 1
            case .lost: counts.lost += 1
            case .unknown: counts.unknown += 1
            }
            self.take(reply, for: core, sentAt: sentAt)
        }
        let duration = sentAt.duration(to: self.now)
        self.observe(
            .renewed(.init(renewed: counts.renewed, lost: counts.lost, unknown: counts.unknown, duration: duration))
        )
    }

    /// Tries once more to give something back.
    private func retry(_ cleanUp: CleanUp) async {
        do {
            _ = try await self.store.withdraw(cleanUp.key)
            self.state.withLock { $0.cleanUps[cleanUp.key.id] = nil }
        } catch {
            var next = cleanUp
            let instant = self.now.advanced(by: self.identifiers.pause(&next.schedule))
            let mustNudge = self.state.withLock { state -> Bool in
                guard state.phase == .running, instant < cleanUp.until else {
                    state.cleanUps[cleanUp.key.id] = nil
                    return false
                }
                state.cleanUps[cleanUp.key.id] = next
                return Self.setTimer(.cleanUp(cleanUp.key.id), at: instant, &state)
            }
            if mustNudge { self.nudge.wake(.timer) }
        }
    }
}

extension Array {
    /// Cuts into runs of at most a given length.
    fileprivate func chunked(by length: Int) -> [ArraySlice<Element>] {
        stride(from: 0, to: self.count, by: length).map { self[$0..<Swift.min($0 + length, self.count)] }
    }
}
