// SPDX-License-Identifier: Apache-2.0

import Foundation
import Synchronization

/// Waits for other processes to let go of the file, up to a limit.
///
/// Only ever asked on the store's own thread, which may block. SQLite's own waiting starts at whole milliseconds;
/// a lock command holds the file for some 50 µs.
final class BusyPatience: Sendable {
    private let limit: Duration
    private let started = Mutex<ContinuousClock.Instant?>(nil)

    /// Makes patience.
    ///
    /// - Parameter limit: How long to wait in all for one transaction.
    init(limit: Duration) { self.limit = limit }

    /// Waits a little.
    ///
    /// - Parameter attempt: How often this was asked for the same lock; 0 starts the time anew.
    /// - Returns: Whether to try again.
    func shouldRetry(after attempt: Int) -> Bool {
        let now = ContinuousClock.now
        let start = self.started.withLock { started in
            if attempt == 0 || started == nil { started = now }
            return started ?? now
        }
        guard start.duration(to: now) < self.limit else { return false }
        if attempt < 4 {
            sched_yield()
        } else {
            // 50 µs at first, 1 ms at most.
            var pause = timespec(tv_sec: 0, tv_nsec: min(50_000 << min(attempt / 8, 5), 1_000_000))
            nanosleep(&pause, nil)
        }
        return true
    }
}
