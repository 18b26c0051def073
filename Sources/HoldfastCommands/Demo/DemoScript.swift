// SPDX-License-Identifier: Apache-2.0

import Glibc

/// What is done to the workers of the demo, and when: a pure machine that reads the log and says whom to kill and whom to
/// stop.
package struct DemoScript: Sendable {
    /// What to do to a worker.
    package enum Action: Sendable, Hashable {
        /// Send this signal.
        case signal(Int32, worker: Int)
    }

    private enum Phase: Sendable, Hashable {
        case beforeKill
        case afterKill(worker: Int, token: UInt64)
        case beforeStop
        case stopped(worker: Int, token: UInt64)
        case continued(worker: Int, token: UInt64)
        case done
    }

    private var phase = Phase.beforeKill
    private let killAfter: Int64
    private let stopAfter: Int64
    /// Which worker was killed, and when.
    package private(set) var killed: (worker: Int, time: Int64)?

    /// Makes a script for a run of a certain length, all in boot time.
    package init(start: Int64, end: Int64) {
        self.killAfter = start + (end - start) / 5
        self.stopAfter = start + (end - start) * 2 / 5
    }

    /// Whether all was done that should be.
    package var isDone: Bool { self.phase == .done }

    /// Reads an event.
    ///
    /// - Parameters:
    ///   - event: The event.
    ///   - now: The boot time.
    /// - Returns: What to do now.
    package mutating func action(after event: DemoEvent, now: Int64) -> Action? {
        switch (self.phase, event.kind) {
        case (.beforeKill, .begin) where event.time >= self.killAfter:
            self.phase = .afterKill(worker: event.worker, token: event.token)
            self.killed = (event.worker, now)
            return .signal(SIGKILL, worker: event.worker)
        case (.afterKill(_, let token), .wrote) where event.token > token: self.phase = .beforeStop
        case (.beforeStop, .begin) where event.time >= self.stopAfter:
            self.phase = .stopped(worker: event.worker, token: event.token)
            return .signal(SIGSTOP, worker: event.worker)
        case (.stopped(let worker, let token), .wrote) where event.token > token:
            self.phase = .continued(worker: worker, token: token)
            return .signal(SIGCONT, worker: worker)
        case (.stopped(let worker, let token), .wrote) where event.token == token:
            // It was done before the signal came: let it go on, and try with the next one.
            self.phase = .beforeStop
            return .signal(SIGCONT, worker: worker)
        case (.continued(_, let token), .refused) where event.token == token: self.phase = .done
        default: break
        }
        return nil
    }
}
