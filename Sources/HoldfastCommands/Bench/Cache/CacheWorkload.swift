// SPDX-License-Identifier: Apache-2.0

/// What `holdfast bench` measures of the cache; the same as the peers' harness does.
package enum CacheWorkload: String, Sendable, CaseIterable {
    /// Reads only, on a warm cache.
    case read100
    /// Three reads to one write.
    case r75w25
    /// A read, and a write when nothing was there.
    case through

    /// How many different keys there are.
    package static let keys = 1_000_000
    /// How many of them fit.
    package static let capacity = 100_000
    /// How many requests the trace has.
    package static let requests = 4_000_000
    /// How uneven the keys are asked for.
    package static let exponent = 0.99
}
