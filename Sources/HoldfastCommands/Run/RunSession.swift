// SPDX-License-Identifier: Apache-2.0

import Glibc
package import Holdfast
package import HoldfastCore
import Synchronization

/// One `holdfast run`: waits for the lock, runs the command under it, gives it back.
package struct RunSession: Sendable {
    private let lock: LockOptions
    private let resource: Resource
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
        resource: Resource,
        command: [CText],
        margins: KillMargins,
        inherited: InheritedOwner?
    ) {
        self.lock = lock
        self.resource = resource
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
        let inbox = SignalInbox()
        if let holder = try await self.outerHolder(on: service) { return try await self.reenter(holder) }
        let lease: Lease
        do {
            lease = try await inbox.cancelling { try await self.acquire(on: service) }
        } catch is CancellationError {
            throw CommandFailure(ExitStatus.signalled(inbox.received ?? SIGINT))
        } catch let error as LockError where error.code == .timeout {
            throw self.lock.notAcquired(error)
        }
        if let signal = inbox.received {
            _ = await lease.release()
            return Outcome(status: ExitStatus.signalled(signal), isLost: false, isInterrupted: true)
        }
        do {
            return try await self.runCommand(under: lease, interruptedBy: inbox)
        } catch {
            _ = await lease.release()
            throw error
        }
    }

    /// The lock as the owner that started us holds it, if it does.
    private func outerHolder(on service: LockService) async throws -> Holder? {
        guard let inherited = self.inherited else { return nil }
        let holders = try await service.holders(of: self.resource)
        let own = holders.first { holder in
            holder.owner == inherited.owner && holder.reference.map(inherited.holding.contains) ?? false
        }
        guard let own, !self.lock.mode.isPermit else { return nil }
        guard own.mode.covers(self.lock.mode) else {
            throw LockError(
                .deadlock,
                "the command that started this one holds '\(self.resource)' as \(own.mode), and it would wait for itself "
                    + "to get it as \(self.lock.mode); let the outer command take the stronger mode"
            )
        }
        return own
    }

    /// Runs the command under the lock that an outer command holds and renews; if that loses it, it ends us.
    private func reenter(_ holder: Holder) async throws -> Outcome {
        let child = try GuardedChild(
            self.command,
            environment: ChildEnvironment.variables(for: holder, of: self.resource),
            terminal: true
        )
        SignalRelay.shared.handle { child.signal($0) }
        let end = await child.end()
        self.explain(end)
        return Outcome(status: end.status, isLost: false, isInterrupted: false)
    }

    private func acquire(on service: LockService) async throws -> Lease {
        return try await service.acquire(
            self.resource,
            mode: self.lock.mode,
            lease: self.lock.lease,
            waitingAtMost: self.lock.wait,
            priority: self.lock.priority,
            fairness: self.lock.fairness,
            lockDelay: self.lock.lockDelay,
            label: self.lock.label ?? String(self.shownCommand.split(separator: "/").last ?? "")
        )
    }

    private func runCommand(under lease: Lease, interruptedBy inbox: SignalInbox) async throws -> Outcome {
        let child = try GuardedChild(
            self.command,
            environment: ChildEnvironment.variables(for: lease, besides: self.inherited),
            terminal: true,
            deadline: self.killTime(lease.validUntil)
        )
        let interrupted = Atomic(false)
        SignalRelay.shared.handle { signal in
            if SignalRelay.isTerminating(signal) { interrupted.store(true, ordering: .relaxed) }
            child.signal(signal)
        }
        if let signal = inbox.received { child.signal(signal) }  // it came between the two handlers
        let (end, loss) = await withTaskCancellationHandler {
            await self.watch(child, lease)
        } onCancel: {
            // The service ended under us; nobody renews any more.
            child.stop(killAt: BootTime.now + Self.graceAfterLoss)
        }
        let reply = await lease.release()
        return self.conclude(
            end,
            loss: loss,
            reply: reply,
            wasKilled: child.wasKilledAtDeadline,
            isInterrupted: interrupted.load(ordering: .relaxed) || inbox.received != nil
        )
    }

    /// Waits for the child while the lease's news reach it.
    private func watch(_ child: GuardedChild, _ lease: Lease) async -> (GuardedChild.End, LossReason?) {
        let events = lease.events
        return await withTaskGroup(of: LossReason?.self) { group in
            group.addTask {
                for await event in events {
                    if let loss = self.tell(child, event) { return loss }
                }
                return nil
            }
            let end = await child.end()
            group.cancelAll()
            return (end, await group.next() ?? nil)
        }
    }

    private func tell(_ child: GuardedChild, _ event: LeaseEvent) -> LossReason? {
        switch event {
        case .renewed(let validUntil): child.setDeadline(self.killTime(validUntil))
        case .jeopardy(let deadline):
            let left = DurationText.short(ContinuousClock.now.duration(to: deadline))
            Output.note("the store does not answer; '\(self.shownName)' ends in \(left) unless it does")
        case .revokeRequested:
            child.signal(SIGTERM)
            child.signal(SIGCONT)
            Output.note("asked to let go of '\(self.shownName)'; sent TERM to the command")
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

    private func killTime(_ validUntil: ContinuousClock.Instant) -> Int64 {
        BootTime.of(validUntil) - self.margins.killMargin.nanoseconds
    }

    private var shownCommand: String { String(decoding: self.command.first?.bytes ?? [], as: UTF8.self) }
    private var shownName: String { TerminalText.escaped(self.resource.name) }

    private func conclude(
        _ end: GuardedChild.End,
        loss: LossReason?,
        reply: ReleaseReply,
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
        switch reply {
        case .released: break
        case .alreadyLost:
            Output.note("'\(self.shownName)' was lost before the command ended; another may have run meanwhile")
            return lost
        case .unknown:
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
