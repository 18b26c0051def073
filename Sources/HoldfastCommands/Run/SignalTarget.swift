// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// Passes signals on to a command that is about to start; what comes before it has started is kept for it.
final class SignalTarget: Sendable {
    private enum State {
        case waiting([Int32])
        case started(GuardedChild)
    }

    private let state = Mutex(State.waiting([]))

    init() {}

    /// A signal came.
    func signal(_ number: Int32) {
        let child = self.state.withLock { state -> GuardedChild? in
            switch state {
            case .waiting(let kept):
                state = .waiting(kept + [number])
                return nil
            case .started(let child): return child
            }
        }
        child?.signal(number)
    }

    /// The command has started.
    func start(_ child: GuardedChild) {
        let kept = self.state.withLock { state -> [Int32] in
            defer { state = .started(child) }
            if case .waiting(let kept) = state { return kept }
            return []
        }
        for number in kept { child.signal(number) }
    }
}
