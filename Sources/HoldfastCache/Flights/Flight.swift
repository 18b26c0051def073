// SPDX-License-Identifier: Apache-2.0

import Holdfast
import Synchronization

/// A load that is under way for a key, and who waits for it.
///
/// It belongs to the cache and not to a caller: whoever joins gets its result or its error, and whoever leaves takes
/// nothing with him, unless he is the last one. Settled exactly once; each waiter is resumed exactly once, outside of all
/// locks.
@usableFromInline
final class Flight<Value: Sendable>: Sendable {
    /// How a load ended.
    enum Outcome: Sendable {
        case content(Content<Value>)
        case failure(any Error)
        /// Its time was over.
        case overdue(any Error)
    }

    /// Why a waiter goes on.
    enum WaitEnd: Sendable {
        case outcome(Outcome)
        /// He has waited long enough, since he has a stale value; the load goes on.
        case late(LoadContext<Value>.Stale)
        /// His own time is over.
        case overdue
        /// His task was cancelled.
        case cancelled
    }

    private struct State {
        var outcome: Outcome?
        var nextWaiter = 0
        /// Callers who joined and neither got an end nor left; `nil` until they wait.
        var waiters: [Int: CheckedContinuation<WaitEnd, Never>?] = [:]
        /// Ends that came before their waiters.
        var early: [Int: WaitEnd] = [:]
        var tags: TagSet?
        var supersessions = 0
        var isDetached = false
        var hasLanded = false
        /// Whether it counts among the loaders that were given up and still run.
        var isLingering = false
        /// What the tier has, though it is not fresh, and until when it may be given.
        var offered: (stale: LoadContext<Value>.Stale, until: Int64)?
        /// Callers who would have gone on by now with a stale value, if there had been one.
        var late: Set<Int> = []
    }

    /// Which load this is, among all of the process.
    let id: FlightID
    /// What was invalidated before it began; see ``Generations``.
    let stamp: UInt64
    /// When it began.
    let startedAt: Int64
    /// Stops whoever runs it.
    let stop = WakeSlot()
    private let state: Mutex<State>

    /// A load that begins.
    ///
    /// - Parameters:
    ///   - id: Which.
    ///   - stamp: What was invalidated before it.
    ///   - startedAt: The time.
    ///   - isDetached: Whether it goes on though nobody waits for it.
    ///   - tags: What is said of what it loads.
    init(id: FlightID, stamp: UInt64, startedAt: Int64, isDetached: Bool, tags: TagSet?) {
        self.id = id
        self.stamp = stamp
        self.startedAt = startedAt
        self.state = Mutex(State(tags: tags, isDetached: isDetached))
    }

    /// How many wait.
    var callers: Int { self.state.withLock { $0.waiters.count } }

    /// Whether it was settled.
    var isSettled: Bool { self.state.withLock { $0.outcome != nil } }

    /// Whether what it loads may not be stored any more.
    var isSuperseded: Bool { self.supersessions > 0 }

    /// How often the key was changed or invalidated since it began.
    var supersessions: Int { self.state.withLock { $0.supersessions } }

    /// Has what it loads not be stored, and its lock be let go of.
    func supersede() {
        self.state.withLock { $0.supersessions += 1 }
        self.stop.wake(.lost)
    }

    /// Waits until it has ended or was given up, and lets go of its lock then, or when what it loads may not be stored.
    ///
    /// A lock that it got after that it keeps: what it loads then is as new as what any other would load.
    func awaitEnd(_ hold: LeaseHold, _ giveUp: () -> Void = {}) async {
        while await self.stop.wait() == .lost { await hold.letGo(before: self.supersessions) }
        giveUp()
        await hold.letGo()
    }

    /// Whether none of the tags that it is known to carry was invalidated since it began.
    var isCurrent: Bool { self.state.withLock { $0.tags?.admits(self.stamp) ?? true } }

    /// Something else is said of what it loads.
    func carry(_ tags: TagSet?) { self.state.withLock { $0.tags = tags } }

    /// Whether it goes on though nobody waits for it.
    var isDetached: Bool { self.state.withLock { $0.isDetached } }

    /// Has it go on though nobody waits for it.
    func detach() { self.state.withLock { $0.isDetached = true } }

    /// Whether its loader has ended.
    var hasLanded: Bool { self.state.withLock { $0.hasLanded } }

    /// Its loader has ended.
    func land() { self.state.withLock { $0.hasLanded = true } }

    /// Counts it among those that were given up and still run.
    ///
    /// - Returns: Whether it does, and did not before.
    func linger() -> Bool {
        self.state.withLock { state in
            guard !state.hasLanded, !state.isLingering else { return false }
            state.isLingering = true
            return true
        }
    }

    /// Whether it was counted so.
    var isLingering: Bool { self.state.withLock { $0.isLingering } }

    /// What the tier has for the key, for those who have nothing better when it gets late.
    ///
    /// - Parameters:
    ///   - now: The time.
    ///   - mayGive: Whether nothing has invalidated it since.
    /// - Returns: The value; `nil` before somebody looked, or when it may not be given.
    func offered(at now: Int64, _ mayGive: (LoadContext<Value>.Stale) -> Bool) -> LoadContext<Value>.Stale? {
        guard let offered = self.state.withLock({ $0.offered }), now < offered.until else { return nil }
        return mayGive(offered.stale) ? offered.stale : nil
    }

    /// Gives those who wait what the tier has; who has waited long enough goes on with it.
    func offer(_ stale: LoadContext<Value>.Stale, until: Int64) {
        let late = self.state.withLock { state -> Set<Int> in
            state.offered = (stale, until)
            defer { state.late = [] }
            let late = state.late.filter { state.waiters[$0] != nil }
            // What is late is still wanted.
            if !late.isEmpty { state.isDetached = true }
            return late
        }
        for caller in late { self.release(caller, .late(stale)) }
    }

    /// The tier has nothing any more.
    func withdrawOffer() { self.state.withLock { $0.offered = nil } }

    /// A caller has waited long enough: he goes on with a stale value, now or when there is one.
    func isLate(_ caller: Int, with stale: LoadContext<Value>.Stale?) {
        let mayGo = self.state.withLock { state in
            guard state.waiters[caller] != nil else { return false }
            guard stale != nil else {
                state.late.insert(caller)
                return false
            }
            state.isDetached = true
            return true
        }
        if mayGo, let stale { self.release(caller, .late(stale)) }
    }

    /// Adds a caller.
    func join() -> Int {
        self.state.withLock { state in
            defer { state.nextWaiter += 1 }
            if let outcome = state.outcome {
                state.early[state.nextWaiter] = .outcome(outcome)
            } else {
                state.waiters[state.nextWaiter] = .some(nil)
            }
            return state.nextWaiter
        }
    }

    /// Waits for the end, or for the caller's.
    ///
    /// `@concurrent`, so that the continuation never belongs to a caller's actor.
    ///
    /// - Parameter caller: What ``join()`` gave.
    /// - Returns: Why the caller goes on.
    @concurrent
    func wait(_ caller: Int) async -> WaitEnd {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let end = self.state.withLock { state -> WaitEnd? in
                    if let end = state.early.removeValue(forKey: caller) { return end }
                    state.waiters[caller] = .some(continuation)
                    return nil
                }
                if let end { continuation.resume(returning: end) }
            }
        } onCancel: {
            self.release(caller, .cancelled)
        }
    }

    /// Lets one caller go on.
    func release(_ caller: Int, _ end: WaitEnd) {
        let continuation = self.state.withLock { state -> CheckedContinuation<WaitEnd, Never>? in
            guard let waiter = state.waiters.removeValue(forKey: caller) else { return nil }
            if waiter == nil { state.early[caller] = end }
            return waiter
        }
        continuation?.resume(returning: end)
    }

    /// A caller will not wait after all.
    func forget(_ caller: Int) { self.state.withLock { _ = $0.early.removeValue(forKey: caller) } }

    /// Ends the load for all who wait, the first time that this is called.
    ///
    /// - Parameter outcome: How.
    /// - Returns: Whether this was the first time.
    @discardableResult
    func settle(_ outcome: Outcome) -> Bool {
        let waiters = self.state.withLock { state -> [CheckedContinuation<WaitEnd, Never>]? in
            guard state.outcome == nil else { return nil }
            state.outcome = outcome
            var waiting: [CheckedContinuation<WaitEnd, Never>] = []
            for (caller, waiter) in state.waiters {
                if let waiter { waiting.append(waiter) } else { state.early[caller] = .outcome(outcome) }
            }
            state.waiters = [:]
            return waiting
        }
        guard let waiters else { return false }
        for waiter in waiters { waiter.resume(returning: .outcome(outcome)) }
        return true
    }
}

/// Which load, among all of a process.
struct FlightID: Sendable, Hashable {
    let number: UInt64
}
