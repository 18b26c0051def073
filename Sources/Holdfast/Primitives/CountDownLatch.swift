// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore

/// A gate that opens when so many have counted down.
///
/// ```swift
/// let shards = try CountDownLatch("import/2026-11", count: 16, on: locks)
/// try await shards.withCountDown { try await importShard() }     // each of sixteen workers
/// try await shards.wait()                                          // whoever needs them all
/// ```
///
/// A count-down stays when the process that made it ends: it is a grant that nobody renews and no process is tied to. So it
/// does not stay for ever, but for the ``retention``, which counts from the count-down. **A latch that is not opened
/// within the retention of its first count-down loses that one, and an open latch closes again, count-down by count-down,
/// when theirs are over.** Make the retention longer than the whole matter takes; it can be 24 h at most.
///
/// What it does not promise: to know who counted. A worker that counts down, crashes and is started again counts twice. A
/// latch has no fencing token: it keeps nobody out.
public final class CountDownLatch: Sendable {
    /// The highest count: whoever waits reads all count-downs several times a second.
    public static let maximumCount = 1000
    /// For how long a count-down stays, unless something else is said.
    public static let defaultRetention: Duration = .seconds(60 * 60)

    /// The name.
    public let resource: Resource
    /// How many count-downs open it.
    public let count: Int
    /// For how long each count-down stays.
    public let retention: Duration
    private let locks: LockService

    /// Describes a latch; nothing is sent.
    ///
    /// - Parameters:
    ///   - resource: The name. Nothing else may be locked under it.
    ///   - count: How many count-downs open it, 1 to ``maximumCount``. All have to say the same.
    ///   - locks: Where it lives.
    ///   - retention: For how long each count-down stays: the store's shortest lease to its longest.
    /// - Throws: ``LockError`` with code ``LockError/Code/invalidArgument`` when a number is out of its range.
    public init(
        _ resource: Resource,
        count: Int,
        on locks: LockService,
        retention: Duration = CountDownLatch.defaultRetention
    ) throws(LockError) {
        guard (1...Self.maximumCount).contains(count) else {
            throw LockError(.invalidArgument, "a latch counts down from 1 to \(Self.maximumCount), not from \(count)")
        }
        let range = locks.capabilities.minimumLease...locks.capabilities.maximumLease
        guard range.contains(retention) else {
            throw LockError(
                .invalidArgument,
                "a count-down stays for \(range.lowerBound.brief) to \(range.upperBound.brief), not \(retention.brief)"
            )
        }
        self.resource = resource
        self.count = count
        self.retention = retention
        self.locks = locks
    }

    /// Runs work, and counts down when it has returned.
    ///
    /// Work that throws, or is cancelled, is not counted.
    ///
    /// - Parameter work: The work.
    /// - Returns: What the work returns.
    /// - Throws: The work's own error, or as ``countDown(label:)``; the work is then done and not counted.
    public func withCountDown<Result>(_ work: () async throws -> Result) async throws -> Result {
        let result = try await work()
        try await self.countDown()
        return result
    }

    /// Counts down by one; an open latch stays as it is.
    ///
    /// Two round trips, three on a store that ties grants to processes. Sent again as one and the same when an answer is
    /// lost, so that it counts once. If it throws, it does not count: what may have come of it is taken back, so it can be
    /// called again. (A process that dies just then may have counted.)
    ///
    /// - Parameter label: A name for people, shown to whoever looks at the latch.
    /// - Throws: ``LockError`` with code ``LockError/Code/timeout`` when something else is locked under the name, another
    ///   code when the store fails, or `CancellationError`.
    public func countDown(label: String? = nil) async throws {
        try self.locks.engine.checkDetaching()
        if try await self.remaining() == 0 { return }
        let lease = try await self.locks.queueApart(
            AcquireOptions(
                self.resource,
                // More than ever count, so that a count-down waits for nobody.
                .permit(of: Semaphore.maximumPermits),
                lease: self.retention,
                waitingAtMost: self.locks.engine.configuration.outageLimit,
                label: label
            )
        )
        do {
            _ = try await lease.detach()
        } catch {
            await lease.release()
            throw error
        }
    }

    /// Waits until the latch is open.
    ///
    /// Looks at once, after 10 ms, and then with growing pauses up to every 250 ms; one round trip each. A store that does
    /// not answer is asked again up to the service's outage limit.
    ///
    /// - Parameter waitingAtMost: How long to wait in all, or `nil` to wait as long as it takes. Zero looks once.
    /// - Throws: ``LockError`` with code ``LockError/Code/timeout``, another when the store fails, or
    ///   `CancellationError`.
    public func wait(waitingAtMost: Duration? = nil) async throws {
        var remaining = self.count
        let patience = try Patience(atMost: waitingAtMost, self.locks.engine)
        let isOpen = try await patience.wait {
            remaining = try await self.remaining()
            return remaining == 0 ? true : nil
        }
        if isOpen == nil {
            throw LockError(.timeout, "\(remaining) of \(self.count) count-downs were missing at \(self.resource)")
        }
    }

    /// Says how many count-downs are missing.
    ///
    /// One round trip. Old news when it arrives.
    ///
    /// - Returns: The number, 0 when the latch is open.
    /// - Throws: ``LockError`` when the store fails.
    public func remaining() async throws -> Int {
        let counted = try await self.locks.holders(of: self.resource).count { $0.mode.isPermit && !$0.isAccepting }
        return max(0, self.count - counted)
    }

    /// Takes all count-downs back, so that the latch can be used again.
    ///
    /// One round trip. A count-down that is made at the same time may be taken back or not; who waits and has not seen the
    /// latch open goes on waiting. Frees the name of any other lock too.
    ///
    /// - Throws: ``LockError`` when the store fails; whether it took effect is then unknown, and it can be called again.
    public func reset() async throws { _ = try await self.locks.forceRelease(self.resource) }
}
