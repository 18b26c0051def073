// SPDX-License-Identifier: Apache-2.0

import ArgumentParser

/// Where the workers of a measurement run.
package enum BenchExecutor: String, Sendable, CaseIterable, ExpressibleByArgument {
    /// On Swift's threads, as most programs do.
    case pool
    /// On the thread of the store's connections.
    case loop
}
