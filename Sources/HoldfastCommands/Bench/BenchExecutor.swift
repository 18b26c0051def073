// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
package import HoldfastCore

/// Where the workers of a measurement run.
package enum BenchExecutor: String, Sendable, CaseIterable, ExpressibleByArgument {
    /// On Swift's threads, as most programs do.
    case pool
    /// On the thread of the store.
    case loop

    /// Makes a store for it.
    ///
    /// - Parameter url: Where its locks live.
    /// - Returns: The store.
    /// - Throws: ``CommandFailure`` where there is no such place, or `LockError`.
    package func store(_ url: StoreURL) throws -> any LockStore {
        switch self {
        case .pool: try StoreFactory.make(url)
        case .loop: try StoreFactory.makeRunningCallers(url)
        }
    }
}
