// SPDX-License-Identifier: Apache-2.0

import Holdfast
import Synchronization

/// The lock under which a load runs; given back when the load has ended, was given up or may not be stored.
final class LeaseHold: Sendable {
    private struct State {
        var lease: Lease?
        /// How often the load had been superseded when it got the lock.
        var since: Int?
        var isOver = false
    }

    private let state = Mutex(State())

    /// How often the load had been superseded when it got the lock; `nil` before that.
    var since: Int? { self.state.withLock { $0.since } }

    /// Keeps a lock until ``letGo()``; gives it back at once when that was called before.
    ///
    /// - Parameters:
    ///   - lease: The lock.
    ///   - since: How often the load has been superseded.
    /// - Returns: Whether it is kept.
    func keep(_ lease: Lease, since: Int) async -> Bool {
        let isOver = self.state.withLock { state in
            if !state.isOver { (state.lease, state.since) = (lease, since) }
            return state.isOver
        }
        if isOver { _ = await lease.release() }
        return !isOver
    }

    /// Gives the lock back, if the load got it before it was superseded so often.
    func letGo(before supersessions: Int) async {
        let lease = self.state.withLock { state in
            state.since.map { $0 < supersessions } ?? false ? state.lease.take() : nil
        }
        _ = await lease?.release()
    }

    /// Gives the lock back, if there is one, and keeps none any more.
    func letGo() async {
        let lease = self.state.withLock { state in
            state.isOver = true
            return state.lease.take()
        }
        _ = await lease?.release()
    }
}
