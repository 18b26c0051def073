// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// Where one task sleeps until something happens: a signal, a timer, a turn, an end.
///
/// What happens while nobody sleeps is kept, so that no wake-up is lost between looking and sleeping. At most one task
/// waits at a time; each continuation is resumed exactly once, by the first reason or by cancellation.
package final class WakeSlot: Sendable {
    /// Why a sleeper was woken.
    package struct Reasons: OptionSet, Sendable {
        package let rawValue: UInt8

        /// Makes a set of them.
        package init(rawValue: UInt8) { self.rawValue = rawValue }

        /// The local gate lets this request through.
        package static let admitted = Reasons(rawValue: 1)
        /// The store said something about this request.
        package static let signal = Reasons(rawValue: 2)
        /// A timer is due.
        package static let timer = Reasons(rawValue: 4)
        /// The service stopped.
        package static let stopped = Reasons(rawValue: 8)
        /// The sleeping task is cancelled.
        ///
        /// Never kept.
        package static let cancelled = Reasons(rawValue: 16)
        /// The lease was lost.
        package static let lost = Reasons(rawValue: 32)
        /// The work that runs under the lock ended.
        package static let finished = Reasons(rawValue: 64)
    }

    private struct State {
        var pending: Reasons = []
        var sleeper: CheckedContinuation<Reasons, Never>?
    }

    private let state = Mutex(State())

    /// Nothing has happened.
    package init() {}

    /// Wakes the sleeper, or the next one.
    package func wake(_ reasons: Reasons) {
        let woken = self.state.withLock { state -> (CheckedContinuation<Reasons, Never>, Reasons)? in
            guard let sleeper = state.sleeper else {
                state.pending.formUnion(reasons.subtracting(.cancelled))
                return nil
            }
            let all = state.pending.union(reasons)
            state.sleeper = nil
            state.pending = []
            return (sleeper, all)
        }
        if let (sleeper, all) = woken { sleeper.resume(returning: all) }
    }

    /// Sleeps until there is a reason, and takes all reasons there are.
    ///
    /// `@concurrent`, so that the continuation never belongs to a caller's actor: resumed from another thread, an
    /// inherited isolation was seen to be lost in release builds of Swift 6.3.
    @concurrent
    package func wait() async -> Reasons {
        await withTaskCancellationHandler {
            await withCheckedContinuation { self.sleep($0, heedsCancellation: true) }
        } onCancel: {
            self.wake(.cancelled)
        }
    }

    /// Sleeps until there is a reason, even in a task that is cancelled.
    @concurrent
    package func waitUncancelled() async -> Reasons {
        await withCheckedContinuation { self.sleep($0, heedsCancellation: false) }
    }

    private func sleep(_ continuation: CheckedContinuation<Reasons, Never>, heedsCancellation: Bool) {
        let reasons = self.state.withLock { state -> Reasons? in
            // Under the lock: either this sees the cancellation, or its handler sees the sleeper.
            let isCancelled = heedsCancellation && Task.isCancelled
            let pending = state.pending.union(isCancelled ? .cancelled : [])
            guard pending.isEmpty else {
                state.pending = []
                return pending
            }
            precondition(state.sleeper == nil, "two tasks wait on one slot")
            state.sleeper = continuation
            return nil
        }
        if let reasons { continuation.resume(returning: reasons) }
    }
}

extension WakeSlot: LeaseWatcher {
    func leaseWasLost() { self.wake(.lost) }
}
