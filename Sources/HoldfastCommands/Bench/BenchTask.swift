// SPDX-License-Identifier: Apache-2.0

import ArgumentParser

/// What `--workload` names: one of locks, or one of the cache.
package enum BenchTask: Sendable, Hashable, ExpressibleByArgument {
    /// Cycles of acquire and release.
    case locks(BenchWorkload)
    /// Reads and writes of a cache.
    case cache(CacheWorkload)
    /// Many getters of one key.
    case stampede

    /// Reads a name.
    package init?(argument: String) {
        if let workload = BenchWorkload(rawValue: argument) {
            self = .locks(workload)
        } else if let workload = CacheWorkload(rawValue: argument) {
            self = .cache(workload)
        } else if argument == "stampede" {
            self = .stampede
        } else {
            return nil
        }
    }

    /// What an error message offers.
    package static var allValueStrings: [String] {
        BenchWorkload.allCases.map(\.rawValue) + CacheWorkload.allCases.map(\.rawValue) + ["stampede"]
    }
}
