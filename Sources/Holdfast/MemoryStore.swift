// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore
import Synchronization

/// A store for the tasks of one process: a ``LockTable`` behind a lock.
///
/// Nothing leaves the process and nothing survives it. Replies come without suspension. Time is the given clock's.
public final class MemoryStore: LockStore {
    private let table = Mutex(LockTable())
    private let handlers = Mutex<Handlers>(Handlers())
    private let clock: any LeaseClock
    private let origin: ContinuousClock.Instant

    private struct Handlers {
        var next = 0
        var active: [Int: @Sendable (StoreSignal) -> Void] = [:]
    }

    /// How often a running store ends leases that nobody asks about: often enough that memory follows use.
    private static let sweepInterval: Duration = .seconds(10)

    /// Makes an empty store.
    ///
    /// - Parameter clock: What leases are judged by.
    public init(clock: any LeaseClock = ContinuousClock()) {
        self.clock = clock
        self.origin = clock.now
    }

    /// Every mode, in this process only.
    public let capabilities = StoreCapabilities(
        name: "memory",
        scope: .process,
        modes: Set(LockMode.Kind.allCases),
        converts: true,
        showsWaits: true
    )

    /// See ``LockStore/acquire(_:)``.
    ///
    /// Costs no round trip.
    ///
    /// - Parameter request: The request.
    /// - Returns: How it stands.
    /// - Throws: ``LockError`` when the request asks for too much or the queue is full; nothing is held then.
    public func acquire(_ request: LockRequest) async throws -> AcquireReply {
        try self.take(request)
    }

    /// Outside of what is asynchronous, where a request would be copied for each step.
    @inline(never)
    private func take(_ request: LockRequest) throws(LockError) -> AcquireReply {
        try self.capabilities.check(request)
        return try self.apply { table, now, signals throws(LockError) in
            try table.acquire(request, at: now, signals: &signals)
        }
    }

    /// See ``LockStore/renew(_:)``.
    ///
    /// Never throws.
    ///
    /// - Parameter renewals: The grants.
    /// - Returns: An answer for each, in the same order.
    public func renew(_ renewals: [Renewal]) async -> [RenewReply] {
        self.apply { table, now, signals in
            var replies: [RenewReply] = []
            replies.reserveCapacity(renewals.count)
            for renewal in renewals { replies.append(table.renew(renewal, at: now, signals: &signals)) }
            return replies
        }
    }

    /// See ``LockStore/release(_:)``.
    ///
    /// Never throws.
    ///
    /// - Parameter grant: The grant.
    /// - Returns: What became of it.
    public func release(_ grant: GrantKey) async -> ReleaseReply {
        self.apply { table, now, signals in table.release(grant, at: now, signals: &signals) }
    }

    /// See ``LockStore/withdraw(_:)``.
    ///
    /// Never throws.
    ///
    /// - Parameter request: The request.
    /// - Returns: What became of it.
    public func withdraw(_ request: GrantKey) async -> WithdrawReply {
        self.apply { table, now, signals in table.withdraw(request, at: now, signals: &signals) }
    }

    /// See ``LockStore/convert(_:)``.
    ///
    /// Never throws.
    ///
    /// - Parameter conversion: The grant and its new mode.
    /// - Returns: What became of it.
    public func convert(_ conversion: Conversion) async -> ConvertReply {
        self.apply { table, now, signals in table.convert(conversion, at: now, signals: &signals) }
    }

    /// See ``LockStore/revoke(_:)``.
    ///
    /// Never throws.
    ///
    /// - Parameter resource: The resource.
    /// - Returns: Who was asked.
    public func revoke(_ resource: Resource) async -> RevokeReply {
        let asked = self.apply { table, now, signals in table.revoke(resource, at: now, signals: &signals) }
        return RevokeReply(asked: asked, reached: asked.count)
    }

    /// See ``LockStore/forceRelease(_:)``.
    ///
    /// Never throws.
    ///
    /// - Parameter resource: The resource.
    /// - Returns: Who held it.
    public func forceRelease(_ resource: Resource) async -> [Holder] {
        self.apply { table, now, signals in table.forceRelease(resource, at: now, signals: &signals) }
    }

    /// See ``LockStore/status(of:)``.
    ///
    /// Never throws.
    ///
    /// - Parameter resource: The resource.
    /// - Returns: Its holders and waiters.
    public func status(of resource: Resource) async -> ResourceStatus {
        self.table.withLock { $0.status(of: resource, at: self.now()) }
    }

    /// See ``LockStore/survey(_:after:)``.
    ///
    /// Never throws. Costs time in proportion to all resources that are not free.
    ///
    /// - Parameters:
    ///   - pattern: Which resources.
    ///   - cursor: Where the page before ended.
    /// - Returns: A page, in the order of names.
    public func survey(_ pattern: ResourcePattern, after cursor: SurveyPage.Cursor?) async -> SurveyPage {
        self.table.withLock { $0.survey(pattern, after: cursor, at: self.now()) }
    }

    /// See ``LockStore/waits(of:for:)``.
    ///
    /// Never throws. Costs time in proportion to all resources that are not free.
    ///
    /// - Parameters:
    ///   - owner: The owner.
    ///   - resource: One that it waits for.
    /// - Returns: The resources.
    public func waits(of owner: OwnerID, for resource: Resource) async -> [ResourceStatus] {
        self.table.withLock { $0.waits(of: owner, at: self.now()) }
    }

    /// See ``LockStore/subscribe(_:)``.
    ///
    /// The handler runs in the task whose command caused the signal.
    ///
    /// - Parameter handler: What to do with a signal.
    /// - Returns: A subscription that ends when it is cancelled.
    public func subscribe(_ handler: @escaping @Sendable (StoreSignal) -> Void) -> SignalSubscription {
        let key = self.handlers.withLock { handlers in
            handlers.next += 1
            handlers.active[handlers.next] = handler
            return handlers.next
        }
        return SignalSubscription { _ = self.handlers.withLock { $0.active.removeValue(forKey: key) } }
    }

    /// Ends what is over every ten seconds, until cancelled.
    ///
    /// - Throws: Nothing but the end of its task.
    public func run() async throws {
        while !Task.isCancelled {
            try? await self.clock.sleep(for: Self.sweepInterval)
            self.apply { table, now, signals in table.expire(at: now, signals: &signals) }
        }
    }

    private func now() -> Timestamp { Timestamp.zero.advanced(by: self.origin.duration(to: self.clock.now)) }

    /// Runs a command under the lock and delivers its signals after it.
    @inline(__always)
    private func apply<Reply, Failure: Error>(
        _ command: (inout LockTable, Timestamp, inout [StoreSignal]) throws(Failure) -> Reply
    ) throws(Failure) -> Reply {
        var signals: [StoreSignal] = []
        let reply = self.table.withLock { table -> Result<Reply, Failure> in
            do throws(Failure) {
                return .success(try command(&table, self.now(), &signals))
            } catch {
                return .failure(error)
            }
        }
        if !signals.isEmpty { self.deliver(signals) }
        return try reply.get()
    }

    private func deliver(_ signals: [StoreSignal]) {
        let handlers = self.handlers.withLock { Array($0.active.values) }
        for signal in signals {
            for handler in handlers { handler(signal) }
        }
    }
}
