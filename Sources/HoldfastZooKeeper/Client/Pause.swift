// SPDX-License-Identifier: Apache-2.0

import Dispatch
import HoldfastCore

/// Pauses that heed no cancellation, for what has to be brought to its end.
final class Pause: Sendable {
    static let shared = Pause()

    private let queue = DispatchQueue(label: "holdfast.zookeeper.pauses")

    /// Calls back after a while.
    func after(_ pause: Duration, _ done: @escaping @Sendable () -> Void) {
        self.queue.asyncAfter(deadline: .now() + .nanoseconds(Int(pause.nanoseconds)), execute: done)
    }
}
