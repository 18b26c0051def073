// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// Counts who is inside.
final class Counter: Sendable {
    private let state = Mutex((now: 0, most: 0, total: 0))

    func enter() {
        self.state.withLock { state in
            state.now += 1
            state.total += 1
            state.most = max(state.most, state.now)
        }
    }

    func leave() { self.state.withLock { $0.now -= 1 } }

    var most: Int { self.state.withLock { $0.most } }
    var total: Int { self.state.withLock { $0.total } }
}
