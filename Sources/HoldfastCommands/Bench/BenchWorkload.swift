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
    /// As `cont16`, but nine of ten cycles of each worker share the lock.
    case rwMix16 = "rw_mix16"
    /// Four workers, one lock: each takes it as `update`, becomes exclusive, and gives it back.
    case upgrade
    /// 16 workers, a semaphore of four permits.
    case sem16

    /// Those that are measured unless one is named.
    package static let usual: [BenchWorkload] = [.seq1, .par64, .cont16]
    /// How many permits `sem16` has.
    package static let permits = 4

    /// How many workers there are.
    package var workers: Int {
        switch self {
        case .seq1: 1
        case .par64: 64
        case .cont16, .rwMix16, .sem16: 16
        case .upgrade: 4
        }
    }

    /// How a worker takes the lock in one of its cycles.
    package func mode(of worker: Int, cycle: Int) -> LockMode {
        switch self {
        case .seq1, .par64, .cont16: .exclusive
        case .rwMix16: (worker + cycle) % 10 == 0 ? .exclusive : .shared
        case .upgrade: .update
        case .sem16: .permit(of: Self.permits)
        }
    }

    /// Whether all workers want the same lock.
    package var isContended: Bool {
        switch self {
        case .seq1, .par64: false
        case .cont16, .rwMix16, .upgrade, .sem16: true
        }
    }

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
