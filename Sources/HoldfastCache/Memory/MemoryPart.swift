// SPDX-License-Identifier: Apache-2.0

public import Synchronization

/// A part of the memory with its lock: one changes it at a time, and on each processor one looks at it.
@usableFromInline
final class MemoryPart<Key: Hashable & Sendable, Value: Sendable>: @unchecked Sendable {
    // Sendable since the shard is changed only while all seats are empty, and looked at only from one of them.

    @usableFromInline
    typealias Shard = MemoryShard<Key, Value>

    @usableFromInline
    let shard: UnsafeMutablePointer<Shard>
    @usableFromInline
    let seats: ReadSeats

    init(_ shard: consuming sending Shard) {
        self.seats = shard.books.seats
        self.shard = .allocate(capacity: 1)
        self.shard.initialize(to: shard)
    }

    deinit {
        self.shard.deinitialize(count: 1)
        self.shard.deallocate()
    }

    /// Does something with the shard, alone.
    @inlinable
    @inline(__always)
    func withLock<Result: Sendable>(_ body: (inout Shard) -> Result) -> Result {
        self.seats.whileEmpty { body(&self.shard.pointee) }
    }

    /// Looks at a key quickly.
    ///
    /// - Parameters:
    ///   - key: The key.
    ///   - hash: Its hash.
    ///   - suspectBelow: See ``Generations``.
    ///   - countsMisses: Whether nothing more comes of a miss, so that it is counted here.
    ///   - now: The time, asked for only if it matters.
    /// - Returns: What was found.
    @inlinable
    @inline(__always)
    func glance(
        _ key: Key,
        _ hash: UInt64,
        suspectBelow: UInt64,
        countsMisses: Bool,
        now: () -> Int64
    ) -> Shard.Glance {
        let seat = self.seats.own
        var isFull = false
        let glance = seat.pointee.lock.withLock { _ in
            let (glance, slot) = self.shard.pointee.glance(key, hash, suspectBelow: suspectBelow, now: now)
            switch glance {
            case .hit:
                seat.pointee.hits &+= 1
                isFull = seat.pointee.note(slot)
            case .miss: if countsMisses { seat.pointee.misses &+= 1 }
            case .look: break
            }
            return glance
        }
        if isFull { self.withLock { $0.books.tellReads() } }
        return glance
    }
}
