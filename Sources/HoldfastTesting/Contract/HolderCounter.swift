// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// Counts how many are inside at once.
final class HolderCounter: Sendable {
    private let state = Mutex((inside: 0, total: 0))

    /// How many ever came in.
    var total: Int { self.state.withLock { $0.total } }

    /// Comes in, and says how many are inside now.
    func enter() -> Int {
        self.state.withLock { state in
            state.inside += 1
            state.total += 1
            return state.inside
        }
    }

    func leave() { self.state.withLock { $0.inside -= 1 } }
}
