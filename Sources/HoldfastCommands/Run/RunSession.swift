// SPDX-License-Identifier: Apache-2.0

import Glibc
package import Holdfast
package import HoldfastCore
import Synchronization

/// One `holdfast run`: waits for the lock, runs the command under it, gives it back.
package struct RunSession: Sendable {
    private let lock: LockOptions
    private let resources: [Resource]
    private let command: [CText]
    private let margins: KillMargins
    private let inherited: InheritedOwner?

    /// How long the group has to end on TERM when the lock is already another's.
    private static let graceAfterLoss: Int64 = 100_000_000

    /// How it ended.
    package struct Outcome: Sendable {
        /// The exit code.
        package let status: Int32
        /// Whether the lock was lost and the command stopped for it.
        package let isLost: Bool
        /// Whether somebody asked holdfast itself to end.
        package let isInterrupted: Bool
    }

    package init(
        lock: LockOptions,
        resources: [Resource],
        command: [CText],
        margins: KillMargins,
        inherited: InheritedOwner?
    ) {
        self.lock = lock
        self.resources = resources
        self.command = command
        self.margins = margins
        self.inherited = inherited
    }

    /// Runs it.
    ///
    /// - Parameter service: A running service.
    /// - Returns: How it ended.
    /// - Throws: ``CommandFailure`` or `LockError` when the command was not run.
    package func run(on service: LockService) async throws -> Outcome {
        try self.margins.check(service.capabilities)
        let inbox = SignalInbox()
        let outer = try await self.outerHolders(on: service)
        let wanted = self.resources.filter { outer[$0] == nil }
        if wanted.isEmpty, let first = self.resources.first, let holder = outer[first] {
            return try await self.reenter(holder, of: first, interruptedBy: inbox)
        }
        let leases: [Lease]
        do {
            leases = try await inbox.cancelling { try await self.acquire(wanted, on: service) }
        } catch is CancellationError {
            throw CommandFailure(ExitStatus.signalled(inbox.received ?? SIGINT))
        } catch let error as LockError where error.code == .timeout {
            throw self.lock.notAcquired(wanted.map(\.name), error)
        }
        if let signal = inbox.received {
            for lease in leases { _ = await lease.release() }
            return Outcome(status: ExitStatus.signalled(signal), isLost: false, isInterrupted: true)
        }
        do {
            return try await self.runCommand(under: leases, interruptedBy: inbox)
        } catch {
            for lease in leases { _ = await lease.release() }
            throw error
        }
    }

    /// The locks that the owner that started us holds.
    private func outerHolders(on service: LockService) async throws -> [Resource: Holder] {
        guard let inherited = self.inherited, !self.lock.mode.isPermit else { return [:] }
        var outer: [Resource: Holder] = [:]
        for resource in self.resources {
            let own = try await service.holders(of: resource).first { holder in
                holder.owner == inherited.owner && holder.reference.map(inherited.holding.contains) ?? false
            }
            guard let own else { continue }
            guard own.mode.covers(self.lock.mode) else {
                throw LockError(
                    .deadlock,
                    "the command that started this one holds '\(resource)' as \(own.mode), and it would wait for itself "
                        + "to get it as \(self.lock.mode); let the outer command take the stronger mode"
                )
            }
            outer[resource] = own
        }
        return outer
    }

    /// Runs the command under a lock that an outer command holds and renews; if that loses it, it ends us.
    private func reenter(
        _ holder: Holder,
        of resource: Resource,
        interruptedBy inbox: SignalInbox
    ) async throws -> Outcome {
        if let signal = inbox.received {
            return Outcome(status: ExitStatus.signalled(signal), isLost: false, isInterrupted: true)
        }
        let target = SignalTarget()
        SignalRelay.shared.handle { target.signal($0) }
        let child = try GuardedChild(
            self.command,
            environment: ChildEnvironment.variables(for: holder, of: resource),
            terminal: true
        )
        target.start(child)
        if let signal = inbox.received { child.signal(signal) }  // it came between the two handlers
        let end = await child.end()
        self.explain(end)
        return Outcome(status: end.status, isLost: false, isInterrupted: false)
    }

    private func acquire(_ wanted: [Resource], on service: LockService) async throws -> [Lease] {
        let label = self.lock.label ?? self.command.first?.lastPathComponent
        guard wanted.count == 1 else {
            let held = try await service.acquireAll(
                wanted,
                mode: self.lock.mode,
                lease: self.lock.lease,
                waitingAtMost: self.lock.wait,
                priority: self.lock.priority,
                lockDelay: self.lock.lockDelay,
                label: label
            )
            return held.leases
        }
        let lease = try await service.acquire(
            wanted[0],
            mode: self.lock.mode,
            lease: self.lock.lease,
            waitingAtMost: self.lock.wait,
            priority: self.lock.priority,
            fairness: self.lock.fairness,
            lockDelay: self.lock.lockDelay,
            label: label
        )
        return [lease]
    }

    private func runCommand(under leases: [Lease], interruptedBy inbox: SignalInbox) async throws -> Outcome {
        let interrupted = Atomic(false)
        let target = SignalTarget()
        SignalRelay.shared.handle { signal in
            if SignalRelay.isTerminating(signal) { interrupted.store(true, ordering: .relaxed) }
            target.signal(signal)
        }
        let child = try GuardedChild(
            self.command,
            environment: ChildEnvironment.variables(for: leases, besides: self.inherited),
            terminal: true,
            deadline: self.killTime(of: leases)
        )
        target.start(child)
        if let signal = inbox.received { child.signal(signal) }  // it came between the two handlers
        let (end, loss) = await withTaskCancellationHandler {
            await self.watch(child, leases)
        } onCancel: {
            // The service ended under us; nobody renews any more.
            child.stop(killAt: BootTime.now + Self.graceAfterLoss)
        }
        var replies: [ReleaseReply] = []
        for lease in leases { replies.append(await lease.release()) }
        return self.conclude(
            end,
            loss: loss,
            replies: replies,
            wasKilled: child.wasKilledAtDeadline,
            isInterrupted: interrupted.load(ordering: .relaxed) || inbox.received != nil
        )
    }

    /// Waits for the child while the leases' news reach it.
    private func watch(_ child: GuardedChild, _ leases: [Lease]) async -> (GuardedChild.End, LossReason?) {
        let streams = leases.map { ($0, $0.events) }
        return await withTaskGroup(of: LossReason?.self) { group in
            for (lease, events) in streams {
                group.addTask {
                    for await event in events {
                        if let loss = self.tell(child, event, of: lease, among: leases) { return loss }
                    }
                    return nil
                }
            }
            let end = await child.end()
            group.cancelAll()
            let loss = await group.reduce(nil) { $0 ?? $1 }
            return (end, loss)
        }
    }

    private func tell(
        _ child: GuardedChild,
        _ event: LeaseEvent,
        of lease: Lease,
        among leases: [Lease]
    ) -> LossReason? {
        let name = TerminalText.escaped(lease.resource.name)
        switch event {
        case .renewed: child.setDeadline(self.killTime(of: leases))
        case .jeopardy(let deadline):
            let left = DurationText.short(ContinuousClock.now.duration(to: deadline))
            Output.note("the store does not answer; '\(name)' ends in \(left) unless it does")
        case .revokeRequested:
            child.signal(SIGTERM)
            child.signal(SIGCONT)
            Output.note("asked to let go of '\(name)'; sent TERM to the command")
        case .lost(let reason):
            self.stop(child, reason)
            return reason
        case .acquired, .converted, .released: break
        }
        return nil
    }

    private func stop(_ child: GuardedChild, _ reason: LossReason) {
        switch reason {
        case .deadline:
            // The guard's deadline stands: KILL the kill margin before the end of the lease.
            child.signal(SIGTERM)
            child.signal(SIGCONT)
        case .expired, .forced, .stopped: child.stop(killAt: BootTime.now + Self.graceAfterLoss)
        }
    }

    /// When the first of the leases is so near its end that the command must not go on.
    private func killTime(of leases: [Lease]) -> Int64 {
        leases.map { BootTime.of($0.validUntil) - self.margins.killMargin(of: $0.grant.lease).nanoseconds }.min()
            ?? BootTime.now
    }

    private var shownCommand: String { String(decoding: self.command.first?.bytes ?? [], as: UTF8.self) }
    private var shownName: String {
        self.resources.map { TerminalText.escaped($0.name) }.joined(separator: "' and '")
    }

    private func conclude(
        _ end: GuardedChild.End,
        loss: LossReason?,
        replies: [ReleaseReply],
        wasKilled: Bool,
        isInterrupted: Bool
    ) -> Outcome {
        let lost = Outcome(status: ExitStatus.lost, isLost: true, isInterrupted: isInterrupted)
        if let loss {
            Output.note("lost '\(self.shownName)' (\(Self.reason(loss))); the command was stopped")
            return lost
        }
        if wasKilled {
            Output.note("the lease of '\(self.shownName)' ran out while holdfast was held up; the command was killed")
            return lost
        }
        if replies.contains(.alreadyLost) {
            Output.note("'\(self.shownName)' was lost before the command ended; another may have run meanwhile")
            return lost
        }
        if replies.contains(.unknown) {
            Output.note("the store did not confirm the release of '\(self.shownName)'; its lease ends by itself")
        }
        self.explain(end)
        return Outcome(status: end.status, isLost: false, isInterrupted: isInterrupted)
    }

    private func explain(_ end: GuardedChild.End) {
        guard case .notStarted(let number) = end else { return }
        Output.note("cannot run '\(TerminalText.escaped(self.shownCommand))': \(Errno.text(for: number))")
    }

    private static func reason(_ loss: LossReason) -> String {
        switch loss {
        case .deadline: "no renewal was confirmed in time"
        case .expired: "the store does not know it any more"
        case .forced: "an operator took it away"
        case .stopped: "the lock service stopped"
        }
    }
}
