// SPDX-License-Identifier: Apache-2.0

import CProcessor
public import Synchronization

/// Where readers of a part of the memory sit: each processor has a seat, with a lock and what its reads leave behind.
///
/// A reader takes the lock of its seat, a writer those of all, so readers on different processors do not even share a
/// line of the processor's cache that is written. (A *big reader lock*: Corbet, Rubini and Kroah-Hartman, *Linux Device
/// Drivers*, 3rd edition, chapter 5, on `brlock`.)
@usableFromInline
final class ReadSeats: @unchecked Sendable {
    // Sendable since a seat is touched only under its own lock, or under all.

    /// Room for ``batch`` slots.
    @usableFromInline
    typealias Reads = (UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64)

    /// One seat; three lines of the processor's cache, the last of which keeps the next one off.
    @usableFromInline
    struct Seat: ~Copyable {
        @usableFromInline
        let lock = Mutex<Void>(())
        /// How many slots there are in `reads`.
        @usableFromInline
        var count: Int32 = 0
        /// Hits of quick looks.
        @usableFromInline
        var hits: UInt64 = 0
        /// Misses of quick looks.
        @usableFromInline
        var misses: UInt64 = 0
        /// Entries that were read and that the policy has not heard of yet: told together, its steps through memory overlap.
        @usableFromInline
        var reads: Reads = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        private var padding: (UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0, 0, 0, 0, 0)

        init() {}

        /// Notes that an entry was read.
        ///
        /// - Returns: Whether there is no room for another one.
        @inlinable
        mutating func note(_ slot: Int32) -> Bool {
            // Others sit down between the one who filled it and the emptying; the policy can do without theirs.
            guard self.count < ReadSeats.batch else { return true }
            let place = Int(self.count) &* MemoryLayout<Int32>.stride
            withUnsafeMutableBytes(of: &self.reads) { $0.storeBytes(of: slot, toByteOffset: place, as: Int32.self) }
            self.count &+= 1
            return self.count >= ReadSeats.batch
        }

        /// Takes out what was read.
        mutating func takeReads(into slots: inout ContiguousArray<Int32>) {
            let count = Int(self.count)
            self.count = 0
            withUnsafeBytes(of: &self.reads) { slots.append(contentsOf: $0.bindMemory(to: Int32.self).prefix(count)) }
        }
    }

    /// How many reads the policy is told of at once.
    @usableFromInline
    static var batch: Int32 { 22 }
    /// Two lines, which processors fetch together.
    private static var alignment: Int { 128 }

    /// The seats, one or two.
    @usableFromInline
    let seats: UnsafeMutablePointer<Seat>
    /// One less than there are.
    @usableFromInline
    let mask: Int

    /// Makes seats.
    ///
    /// - Parameter isShared: Whether there is more than one. With one, the policy hears of reads in their exact order.
    init(isShared: Bool) {
        let count = isShared ? 2 : 1
        self.mask = count - 1
        self.seats = UnsafeMutableRawPointer.allocate(
            byteCount: count * MemoryLayout<Seat>.stride,
            alignment: Self.alignment
        ).bindMemory(to: Seat.self, capacity: count)
        for index in 0..<count { (self.seats + index).initialize(to: Seat()) }
    }

    deinit {
        self.seats.deinitialize(count: self.mask + 1)
        UnsafeMutableRawPointer(self.seats).deallocate()
    }

    /// The seat of whoever asks; of which processor it is, is a matter of speed only.
    @usableFromInline
    var own: UnsafeMutablePointer<Seat> { self.seats + (Int(sched_getcpu()) & self.mask) }

    /// Does something with nobody on any seat.
    @inlinable
    @inline(__always)
    func whileEmpty<Result: Sendable>(_ body: () -> Result) -> Result {
        self.seats.pointee.lock.withLock { _ in
            // In the same order for all, so that no two wait for each other.
            self.mask == 0 ? body() : (self.seats + 1).pointee.lock.withLock { _ in body() }
        }
    }

    // MARK: - With nobody on any seat

    /// Hits and misses of quick looks.
    var counts: (hits: UInt64, misses: UInt64) {
        var counts: (hits: UInt64, misses: UInt64) = (0, 0)
        for index in 0...self.mask {
            counts.hits &+= self.seats[index].hits
            counts.misses &+= self.seats[index].misses
        }
        return counts
    }

    /// Whether anything was read that was not taken out.
    var haveReads: Bool { (0...self.mask).contains { self.seats[$0].count > 0 } }

    /// Takes out what was read.
    func takeReads(into slots: inout ContiguousArray<Int32>) {
        for index in 0...self.mask where self.seats[index].count > 0 { self.seats[index].takeReads(into: &slots) }
    }
}
