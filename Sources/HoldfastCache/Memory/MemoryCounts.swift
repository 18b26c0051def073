// SPDX-License-Identifier: Apache-2.0

/// Why an entry left the memory tier.
public enum RemovalCause: Sendable, Hashable, CaseIterable {
    /// Another value took its place.
    case replaced
    /// Its time was over.
    case expired
    /// It was removed or invalidated, by its key, a tag, a prefix, or with all others.
    case invalidated
    /// There was no room for it.
    case evicted
}

/// What happened in a memory tier; counted where it happens, under the lock that is held there anyway.
@usableFromInline
struct MemoryCounts: Sendable {
    @usableFromInline
    var hits: UInt64 = 0
    var negativeHits: UInt64 = 0
    @usableFromInline
    var misses: UInt64 = 0
    var joins: UInt64 = 0
    var expirations: UInt64 = 0
    var invalidations: UInt64 = 0
    var evictions: UInt64 = 0

    /// Counts a read that found something.
    mutating func countHit(isNegative: Bool) {
        if isNegative { self.negativeHits &+= 1 } else { self.hits &+= 1 }
    }

    /// Counts a removal.
    @usableFromInline
    mutating func count(_ cause: RemovalCause) {
        switch cause {
        case .replaced: break
        case .expired: self.expirations &+= 1
        case .invalidated: self.invalidations &+= 1
        case .evicted: self.evictions &+= 1
        }
    }

    /// Adds those of another part.
    mutating func add(_ other: MemoryCounts) {
        self.hits &+= other.hits
        self.negativeHits &+= other.negativeHits
        self.misses &+= other.misses
        self.joins &+= other.joins
        self.expirations &+= other.expirations
        self.invalidations &+= other.invalidations
        self.evictions &+= other.evictions
    }
}
