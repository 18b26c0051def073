// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import Synchronization

/// Numbers the changes of modes that a store asks for, so that a server can tell a late copy of one from a new one.
///
/// A grant that another process held before may have higher numbers there; the server says so, and the count goes on above
/// them.
final class ConversionCount: Sendable {
    /// How often a change is asked for under another number: once is enough, unless others change the same grant.
    static let mostAttempts = 3

    private let last = Atomic<Int64>(0)

    /// The next number.
    func next() -> Int64 { self.last.add(1, ordering: .relaxed).newValue }

    /// Numbers after this are higher; but for those that no count reaches: they are of a key that is damaged.
    func raise(to number: Int64) { self.last.max(min(number, ScriptReplies.largest), ordering: .relaxed) }

    /// Others ask for changes of the same grant.
    static func conflict(_ resource: Resource) -> LockError {
        LockError(.storeUnavailable, "somebody else changes the mode of the same grant of \(resource)")
    }
}
