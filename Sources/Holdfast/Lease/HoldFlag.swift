// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// Says once that a hold has ended.
struct HoldFlag: ~Copyable, Sendable {
    private let ended = Atomic(false)

    /// Whether the hold has ended.
    var hasEnded: Bool { self.ended.load(ordering: .acquiring) }

    /// Ends the hold.
    ///
    /// - Returns: Whether it had not ended before.
    func end() -> Bool { !self.ended.exchange(true, ordering: .acquiringAndReleasing) }
}
