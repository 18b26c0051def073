// SPDX-License-Identifier: Apache-2.0

import Dispatch
import HoldfastCore
import Synchronization

/// A thread of a service's own, for what keeps leases alive.
///
/// Swift's threads are shared by the whole process: code that computes for long or waits without `await` can occupy all of
/// them, and a lease that is renewed there would be lost meanwhile. Timers are here for the same reason: those of
/// `Task.sleep` end on the shared threads. Source: SE-0417.
final class Keeper: TaskExecutor {
    /// What is armed is looked at again after this: a timer that does not count while the machine sleeps is late by no
    /// more.
    private static let longestSleep: Duration = .seconds(60)

    private let queue = DispatchQueue(label: "holdfast.keeper", qos: .userInitiated)
    /// Which timer counts.
    private let armed = Mutex<UInt64>(0)

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        self.queue.async { unsafe job.runSynchronously(on: self.asUnownedTaskExecutor()) }
    }

    /// Calls back after a while, unless it is asked again before that.
    func wake(after pause: Duration, _ done: @escaping @Sendable () -> Void) {
        let number = self.armed.withLock { number in
            number += 1
            return number
        }
        let nanoseconds = max(0, min(pause, Self.longestSleep).nanoseconds)
        self.queue.asyncAfter(deadline: .now() + .nanoseconds(Int(nanoseconds))) { [weak self] in
            guard let self, self.armed.withLock({ $0 == number }) else { return }
            done()
        }
    }
}
