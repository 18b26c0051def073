// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// Who wants to hear of signals.
package final class SignalHandlers: Sendable {
    private struct State {
        var next = 0
        var active: [Int: @Sendable (StoreSignal) -> Void] = [:]
    }

    private let state = Mutex(State())

    /// Nobody yet.
    package init() {}

    /// Adds a handler.
    package func add(_ handler: @escaping @Sendable (StoreSignal) -> Void) -> SignalSubscription {
        let number = self.state.withLock { state in
            defer { state.next += 1 }
            state.active[state.next] = handler
            return state.next
        }
        return SignalSubscription { [weak self] in self?.state.withLock { _ = $0.active.removeValue(forKey: number) } }
    }

    /// Tells everybody.
    package func emit(_ signal: StoreSignal) {
        for handler in self.state.withLock({ Array($0.active.values) }) { handler(signal) }
    }
}
