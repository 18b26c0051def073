// SPDX-License-Identifier: Apache-2.0

import Holdfast
import Synchronization

/// The lock under which a load runs; given back when the load has ended, was given up or may not be stored.
final class LeaseHold: Sendable {
    private struct State {
        var lease: Lease?
        var isOver = false
    }

    private let state = Mutex(State())

    /// Keeps a lock until ``letGo()``; gives it back at once when that was called before.
    ///
    /// - Returns: Whether it is kept.
    func keep(_ lease: Lease) async -> Bool {
        let isOver = self.state.withLock { state in
            if !state.isOver { state.lease = lease }
            return state.isOver
        }
        if isOver { _ = await lease.release() }
        return !isOver
    }

    /// Gives the lock back, if there is one.
    func letGo() async {
        let lease = self.state.withLock { state in
            state.isOver = true
            return state.lease.take()
        }
        _ = await lease?.release()
    }
}
