// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore
import Synchronization

/// A number of permits that all users of a store share: so many may work at once.
///
/// ```swift
/// let slots = try Semaphore("reports/slots", permits: 4, on: locks)
/// try await slots.withPermit { lease in try await render() }
/// ```
///
/// A permit is a lease: a dead holder's permit is free when its lease ends, and nobody else's renewals keep it alive. Work
/// under a permit is cancelled before its lease can end, as under a lock. Permits are handed out first come, first
/// served, but for priorities. They are not re-entered: work that takes a second permit inside a first needs two, and may
/// wait for itself when there is one only.
///
/// What it does not promise: with work that ignores cancellation, or on a machine that sleeps, more than ``permits`` may
/// be at work for a while. ``Lease/fencingToken`` grows with every permit, but the work of several holders overlaps, so it
/// orders them and does not exclude the older.
///
/// The store keeps no number of permits: it goes by the one in each request (see ``resize(to:)``). All users have to
/// name the same one.
public final class Semaphore: Sendable {
    /// The most permits that a semaphore can have: a store looks at all holders for each request.
    public static let maximumPermits = 10_000

    /// The name.
    public let resource: Resource
    private let locks: LockService
    private let count: Mutex<Int>

    /// Describes a semaphore; nothing is sent.
    ///
    /// - Parameters:
    ///   - resource: The name. Locks of other kinds on it exclude all permits.
    ///   - permits: How many may hold one at once, 1 to ``maximumPermits``.
    ///   - locks: Where it lives.
    /// - Throws: ``LockError`` with code ``LockError/Code/invalidArgument`` when the number is out of its range.
    public init(_ resource: Resource, permits: Int, on locks: LockService) throws(LockError) {
        try Self.check(permits)
        self.resource = resource
        self.locks = locks
        self.count = Mutex(permits)
    }

    /// How many permits there are for requests that this object sends from now on.
    public var permits: Int { self.count.withLock { $0 } }

    /// Changes the number of permits for **later requests of this object**.
    ///
    /// Nothing is sent, and nothing is taken from anybody. The store goes by the number in the request at hand: a request
    /// is granted when fewer than that number hold a permit. So after a change
    /// - a holder keeps its permit, also when there are now more holders than permits; nobody gets one until enough have
    ///   left;
    /// - a request that waits already keeps the number that it came with; while it is the next in line, those behind it
    ///   wait with it, whatever their number;
    /// - other ``Semaphore`` objects, in this process and in others, have the number that they were given: to resize for
    ///   all, tell all. Until then those with the larger number fill it.
    ///
    /// - Parameter permits: How many may hold one at once, 1 to ``maximumPermits``.
    /// - Throws: ``LockError`` with code ``LockError/Code/invalidArgument`` when the number is out of its range.
    public func resize(to permits: Int) throws(LockError) {
        try Self.check(permits)
        self.count.withLock { $0 = permits }
    }

    /// How many permits are free right now, by the number that this object has; not below zero.
    ///
    /// One round trip. Old news when it arrives: use ``tryAcquire(lease:label:)`` to get one. Those who wait count as
    /// nothing, so a permit that is free may be somebody's already.
    ///
    /// - Returns: The number.
    /// - Throws: ``LockError`` when the store fails.
    public func available() async throws -> Int {
        max(0, self.permits - (try await self.locks.holders(of: self.resource).count))
    }

    /// Waits for a permit, runs work with it, and gives it back.
    ///
    /// Costs, cancellation and loss are those of
    /// ``LockService/withLock(_:mode:lease:waitingAtMost:priority:fairness:lockDelay:label:_:)``.
    ///
    /// - Parameters:
    ///   - lease: How long a dead holder keeps its permit; `nil` for the configured one.
    ///   - waitingAtMost: How long to wait in all, or `nil` to wait as long as it takes.
    ///   - priority: How many seconds earlier than it came the request stands in the queue, -100 to 100.
    ///   - label: A name for people, shown to whoever looks at the semaphore.
    ///   - work: What to do with the permit.
    /// - Returns: What the work returns.
    /// - Throws: As for a lock.
    public func withPermit<Result: Sendable>(
        lease: Duration? = nil,
        waitingAtMost: Duration? = nil,
        priority: Int = 0,
        label: String? = nil,
        _ work: @escaping @Sendable (Lease) async throws -> Result
    ) async throws -> Result {
        try await self.locks.withLock(
            self.resource,
            mode: .permit(of: self.permits),
            lease: lease,
            waitingAtMost: waitingAtMost,
            priority: priority,
            label: label,
            work
        )
    }

    /// Waits for a permit and returns a handle to it.
    ///
    /// One round trip when one is free. Prefer ``withPermit(lease:waitingAtMost:priority:label:_:)``.
    ///
    /// - Parameters:
    ///   - lease: How long a dead holder keeps its permit; `nil` for the configured one.
    ///   - waitingAtMost: How long to wait in all, or `nil` to wait as long as it takes. Zero asks once.
    ///   - priority: How many seconds earlier than it came the request stands in the queue, -100 to 100.
    ///   - label: A name for people, shown to whoever looks at the semaphore.
    /// - Returns: The permit; its `release()` gives it back.
    /// - Throws: ``LockError`` with code ``LockError/Code/timeout``, another when the store fails, or
    ///   `CancellationError`. Nothing is held then.
    public func acquire(
        lease: Duration? = nil,
        waitingAtMost: Duration? = nil,
        priority: Int = 0,
        label: String? = nil
    ) async throws -> Lease {
        try await self.locks.acquire(
            self.resource,
            mode: .permit(of: self.permits),
            lease: lease,
            waitingAtMost: waitingAtMost,
            priority: priority,
            label: label
        )
    }

    /// Takes a permit if one is free right now and nobody waits for it.
    ///
    /// One round trip at most.
    ///
    /// - Parameters:
    ///   - lease: How long a dead holder keeps its permit; `nil` for the configured one.
    ///   - label: A name for people, shown to whoever looks at the semaphore.
    /// - Returns: The permit, or `nil`.
    /// - Throws: ``LockError`` when the store fails, or `CancellationError`. Nothing is held then.
    public func tryAcquire(lease: Duration? = nil, label: String? = nil) async throws -> Lease? {
        try await self.locks.tryAcquire(self.resource, mode: .permit(of: self.permits), lease: lease, label: label)
    }

    private static func check(_ permits: Int) throws(LockError) {
        guard (1...Self.maximumPermits).contains(permits) else {
            throw LockError(.invalidArgument, "a semaphore has 1 to \(Self.maximumPermits) permits, not \(permits)")
        }
    }
}
