// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import HoldfastCache

/// Whose memory `holdfast bench` measures.
package enum CachePeer: String, Sendable, CaseIterable, ExpressibleByArgument {
    /// Ours.
    case holdfast
    /// A dictionary with a list for the order of use, behind one lock: what one writes without a library.
    case mutexLRU = "mutex-lru"
}

/// A memory that can be measured.
protocol BenchedMemory: Sendable {
    /// The value of a key, if it is there; a use of it.
    func cached(_ key: Int) -> Int?
    /// Stores a value.
    func put(_ value: Int, for key: Int)
}

/// Ours.
struct HoldfastMemory: BenchedMemory {
    let cache: Cache<Int, Int>

    func cached(_ key: Int) -> Int? { self.cache.cached(key) }

    func put(_ value: Int, for key: Int) { try? self.cache.set(value, for: key) }
}
