// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import HoldfastCache

/// Whose memory `holdfast bench` measures.
package enum CachePeer: String, Sendable, CaseIterable, ExpressibleByArgument {
    /// Ours.
    case holdfast
    /// A dictionary of linked objects behind one lock: what one writes without a library.
    case nodeLRU = "mutex-lru"
    /// The same with its links as numbers in an array: as fast as one lock gets.
    case flatLRU = "mutex-lru-flat"
}

/// A memory that can be measured.
package protocol BenchedMemory: Sendable {
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
