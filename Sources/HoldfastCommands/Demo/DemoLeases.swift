// SPDX-License-Identifier: Apache-2.0

package import Holdfast
import HoldfastCore
import Synchronization

/// What a worker of the demo knows of its leases, and writes down when one ends: the cache engine takes and gives back the
/// locks.
package final class DemoLeases: LockObserver {
    private struct State {
        /// The ends of leases that are held, in boot time, by their tokens.
        var ends: [UInt64: Int64] = [:]
    }

    private let worker: Int
    private let log: DemoLog
    private let state = Mutex(State())

    /// Watches the locks of a worker.
    package init(worker: Int, log: DemoLog) {
        self.worker = worker
        self.log = log
    }

    /// The end of a lease as it was granted, in boot time; now, when it is not held.
    package func end(of token: UInt64) -> Int64 { self.state.withLock { $0.ends[token] } ?? BootTime.now }

    /// Takes note of grants, and of their ends.
    package func observe(_ event: LockEvent) {
        switch event {
        case .acquired(let acquisition):
            let grant = acquisition.grant
            self.state.withLock { $0.ends[grant.fencingToken.rawValue] = BootTime.of(grant.validUntil) }
        case .released(let grant, _, _), .lost(let grant, _, _):
            let token = grant.fencingToken.rawValue
            // Released after it was lost: that was the end of it.
            guard self.state.withLock({ $0.ends.removeValue(forKey: token) }) != nil else { return }
            // A log that cannot be written is noticed by the worker itself.
            try? self.log.append(
                DemoEvent(
                    time: BootTime.now,
                    worker: self.worker,
                    kind: .ended,
                    token: token,
                    value: BootTime.of(grant.validUntil)
                )
            )
        default: break
        }
    }
}
