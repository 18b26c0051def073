// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// How a load ended, and what becomes of that.
struct Landing<Value: Sendable>: Sendable {
    /// Where the value comes from.
    enum Source: Sendable, Hashable {
        /// The loader was called.
        case loader
        /// The shared tier had it.
        case tier
        /// It was in memory, and the tier could not say that it is not valid any more.
        case memory
        /// It was written behind, and the source may not have it yet.
        case queue
        /// Somebody else loads it; what is in memory stays for now.
        case elsewhere
        /// The loader was not called, and nothing else had it.
        case nowhere
    }

    /// What callers get.
    var result: Result<Content<Value>, any Error>
    /// What the loader said.
    var settings: LoadContext<Value>.Settings
    /// Where it comes from.
    var source = Source.loader
    /// The version in the tier; `nil` for one of this process.
    var version: UInt64?
    /// Who had the lock under which the loader was called; `nil` without a lock.
    var owner: OwnerID?
    /// The token of that lock.
    var token: FencingToken?
    /// How it lives, where that was decided before.
    var lifetime: Lifetime?
    /// Whether something newer is in the tier, so that it is not stored.
    var isOvertaken = false
    /// What the other processes are to be told.
    var change: BusMessage.Change?

    /// What the loader made of it.
    init(
        _ result: Result<Content<Value>, any Error>,
        _ settings: LoadContext<Value>.Settings,
        from source: Source = .loader
    ) {
        self.result = result
        self.settings = settings
        self.source = source
    }

    /// Who led the load.
    var leader: LoadHistory.Leader { self.source == .tier ? .tier : .own(self.owner, self.token) }
}
