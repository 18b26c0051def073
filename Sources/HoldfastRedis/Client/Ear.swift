// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// What a part knows of the whole that owns it, which is made after it.
final class Ear<Owner: AnyObject & Sendable>: Sendable {
    private struct Held: Sendable { weak let owner: Owner? }

    private let held = Mutex(Held(owner: nil))

    /// The owner, while it lives and once it is set.
    var owner: Owner? { self.held.withLock { $0.owner } }

    func set(_ owner: Owner) { self.held.withLock { $0 = Held(owner: owner) } }
}
