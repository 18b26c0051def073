// SPDX-License-Identifier: Apache-2.0

import HeapModule
import Holdfast
import HoldfastCore
import Synchronization

/// Deadlines of loads and callers: one sleeping task for all of them.
final class CacheTimers: Sendable {
    /// What to take back when it is not needed any more.
    struct ID: Sendable, Hashable {
        fileprivate let number: UInt64
    }

    private struct Alarm: Comparable {
        let time: Int64
        let number: UInt64

        static func < (left: Alarm, right: Alarm) -> Bool { (left.time, left.number) < (right.time, right.number) }
    }

    private struct State {
        var alarms = Heap<Alarm>()
        var actions: [UInt64: @Sendable () -> Void] = [:]
        var nextNumber: UInt64 = 0
        /// Until when the task sleeps; `nil` while nobody does.
        var armed: Int64?
    }

    /// Alarms that were taken back stay in the heap until they are this many.
    private static let slack = 256

    private let clock: CacheClock
    private let state = Mutex(State())
    private let nudge = WakeSlot()

    init(_ clock: CacheClock) { self.clock = clock }

    /// Calls back at a time; soon, if that is over.
    ///
    /// The action must not block.
    func schedule(at time: Int64, _ action: @escaping @Sendable () -> Void) -> ID {
        let (id, mustNudge) = self.state.withLock { state in
            let number = state.nextNumber
            state.nextNumber += 1
            state.actions[number] = action
            state.alarms.insert(Alarm(time: time, number: number))
            guard let armed = state.armed, time < armed else { return (ID(number: number), false) }
            state.armed = time
            return (ID(number: number), true)
        }
        if mustNudge { self.nudge.wake(.timer) }
        return id
    }

    /// Takes an action back; nothing happens when it was done.
    func cancel(_ id: ID) {
        self.state.withLock { state in
            guard state.actions.removeValue(forKey: id.number) != nil else { return }
            guard state.alarms.count > 2 * state.actions.count + Self.slack else { return }
            let actions = state.actions
            state.alarms = Heap(state.alarms.unordered.filter { actions[$0.number] != nil })
        }
    }

    /// Does what is due, until the task is cancelled.
    func run() async {
        while !Task.isCancelled {
            let (due, next) = self.state.withLock { state -> ([@Sendable () -> Void], Int64) in
                let now = self.clock.now
                var due: [@Sendable () -> Void] = []
                while let first = state.alarms.min, first.time <= now || state.actions[first.number] == nil {
                    state.alarms.removeMin()
                    if let action = state.actions.removeValue(forKey: first.number) { due.append(action) }
                }
                state.armed = state.alarms.min?.time ?? .max
                return (due, state.armed ?? .max)
            }
            for action in due { action() }
            if due.isEmpty { await self.sleep(until: next) }
        }
    }

    private func sleep(until time: Int64) async {
        guard time < .max else {
            _ = await self.nudge.wait()
            return
        }
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                // What lies further off is looked at again.
                let end = min(time, self.clock.now.after(.seconds(24 * 60 * 60)))
                try? await self.clock.sleeper.sleep(until: self.clock.instant(of: end), tolerance: nil)
                if !Task.isCancelled { self.nudge.wake(.timer) }
            }
            _ = await self.nudge.wait()
            group.cancelAll()
        }
    }
}
