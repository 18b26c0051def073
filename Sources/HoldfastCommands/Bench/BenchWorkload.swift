// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
package import HoldfastCore

/// What `holdfast bench` measures; one operation is a whole cycle of acquire and release.
package enum BenchWorkload: String, Sendable, CaseIterable, ExpressibleByArgument {
    /// One worker, one lock, no competition.
    case seq1
    /// 64 workers, 64 locks, one service.
    case par64
    /// 16 workers, one lock, nothing done under it, each asks again at once. Each worker has a service of its own, so
    /// that every hand-over goes through the store.
    case cont16

    /// How many workers there are.
    package var workers: Int {
        switch self {
        case .seq1: 1
        case .par64: 64
        case .cont16: 16
        }
    }

    /// Whether all workers want the same lock.
    package var isContended: Bool { self == .cont16 }

    /// The lock of a worker.
    ///
    /// - Parameters:
    ///   - worker: The worker's number.
    ///   - run: What tells this run from others.
    /// - Returns: The resource.
    /// - Throws: `LockError` when `run` does not fit into a name.
    package func resource(of worker: Int, run: String) throws -> Resource {
        try Resource("holdfast-bench/\(run)/\(self.isContended ? "one" : String(worker))")
    }
}
