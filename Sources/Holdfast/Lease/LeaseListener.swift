// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// Who is told what happens to a lease: a stream of its own, or one that several leases share.
///
/// Both functions are called with a lock held or not, from any thread: they must neither block nor call back.
struct LeaseListener: Sendable {
    /// Takes an event.
    let yield: @Sendable (LeaseEvent) -> Void
    /// Learns that no more events come.
    let finish: @Sendable () -> Void
}
