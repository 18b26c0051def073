// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import Synchronization

/// How long one load still waits for the tier and the locks.
///
/// The first of them that takes long and does not answer is the last. The load then goes on without all of them, so that an
/// outage costs it one timeout and not three.
final class LoadPatience: Sendable {
    private let end = Atomic(Int64.max)

    init() {}

    /// Since when something did not answer, so that nothing is asked any more; `nil` while all answers.
    var silentSince: Int64? {
        let time = self.end.load(ordering: .relaxed)
        return time == .max ? nil : time
    }

    /// Something did not answer.
    ///
    /// - Parameters:
    ///   - now: The time; what fails at once costs nothing.
    ///   - start: When it was asked.
    func failed(at now: Int64, since start: Int64) {
        if now - start >= CircuitBreaker.silence { self.end.store(start, ordering: .relaxed) }
    }
}

extension Cache.Fill {
    /// How long it waits for the lock service: when it may not go on without a lock, what the tier did does not count.
    func lockPatience(_ patience: LoadPatience) -> LoadPatience {
        self.options.lockOutage == .fail ? LoadPatience() : patience
    }
}
