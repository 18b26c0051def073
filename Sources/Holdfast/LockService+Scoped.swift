// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore

extension LockService {
    /// Waits for a lock, runs work under it, and gives it back.
    ///
    /// The work runs in a child task. If the lease cannot be renewed in time or is taken away, the work is **cancelled
    /// before the lease can pass to another**, and then awaited. Work that ignores cancellation goes on without the
    /// lock: check `lease.checkValid()` before each effect, or use the fencing token. The cancellation comes from a
    /// thread of the engine's own, also while programs occupy all threads of Swift's pool; handlers of
    /// `withTaskCancellationHandler` run there, and must be as brief as ever.
    ///
    /// Inside the work, a scoped lock of the same resource is re-entered (the same lease, the same token); tasks that
    /// the work starts inherit that.
    ///
    /// - Parameters:
    ///   - resource: What to lock.
    ///   - mode: How to lock it.
    ///   - lease: How long a dead holder blocks others; `nil` for the configured one. Renewed while the work runs.
    ///   - waitingAtMost: How long to wait in all, or `nil` to wait as long as it takes.
    ///   - priority: How many seconds earlier than it came the request stands in the queue, -100 to 100.
    ///   - fairness: Whether this request may pass others, and they it.
    ///   - lockDelay: How long the resource rests if this holder vanishes without releasing, 0 to 60 s.
    ///   - label: A name for people, shown to whoever looks at the lock.
    ///   - work: What to do under the lock.
    /// - Returns: What the work returns.
    /// - Throws: The work's own error, whatever happened to the lock; ``LockError`` with code
    ///   ``LockError/Code/lost`` when the lock was lost before the work ended, even if it then returned;
    ///   ``LockError/Code/timeout`` when the lock did not come; `CancellationError` when the caller was cancelled.
    ///   Errors of giving the lock back are events, never thrown.
    public func withLock<Result: Sendable>(
        _ resource: Resource,
        mode: LockMode = .exclusive,
        lease: Duration? = nil,
        waitingAtMost: Duration? = nil,
        priority: Int = 0,
        fairness: LockRequest.Fairness = .fair,
        lockDelay: Duration = .zero,
        label: String? = nil,
        _ work: @escaping @Sendable (Lease) async throws -> Result
    ) async throws -> Result {
        let held = try await self.acquire(
            resource,
            mode: mode,
            lease: lease,
            waitingAtMost: waitingAtMost,
            priority: priority,
            fairness: fairness,
            lockDelay: lockDelay,
            label: label
        )
        return try await self.holding([held]) { try await work(held) }
    }

    /// Runs work under a lock if it is free right now.
    ///
    /// - Parameters:
    ///   - resource: What to lock.
    ///   - mode: How to lock it.
    ///   - lease: How long a dead holder blocks others; `nil` for the configured one.
    ///   - lockDelay: How long the resource rests if this holder vanishes without releasing, 0 to 60 s.
    ///   - label: A name for people, shown to whoever looks at the lock.
    ///   - work: What to do under the lock.
    /// - Returns: What the work returns, or `nil` when the lock is taken.
    /// - Throws: As ``withLock(_:mode:lease:waitingAtMost:priority:fairness:lockDelay:label:_:)``.
    public func tryWithLock<Result: Sendable>(
        _ resource: Resource,
        mode: LockMode = .exclusive,
        lease: Duration? = nil,
        lockDelay: Duration = .zero,
        label: String? = nil,
        _ work: @escaping @Sendable (Lease) async throws -> Result
    ) async throws -> Result? {
        guard
            let held = try await self.tryAcquire(
                resource,
                mode: mode,
                lease: lease,
                lockDelay: lockDelay,
                label: label
            )
        else { return nil }
        return try await self.holding([held]) { try await work(held) }
    }

    /// Runs work under held locks, cancels it on the first loss, awaits it, and gives the locks back.
    func holding<Result: Sendable>(
        _ leases: [Lease],
        _ work: @escaping @Sendable () async throws -> Result
    ) async throws -> Result {
        var context = OwnerContext.current
        for lease in leases { context = OwnerContext(core: lease.core, engine: self.engine, outer: context) }
        let outcome: Swift.Result<Result, any Error>
        do {
            outcome = .success(
                try await OwnerContext.$current.withValue(context) { try await self.supervise(leases, work) }
            )
        } catch {
            outcome = .failure(error)
        }
        // A machine that slept, or a process that was stopped, may come back here before anybody looked at the time.
        for lease in leases { self.engine.endIfOver(lease.core) }
        let lost = leases.first { $0.core.loss != nil }
        await leases.release()
        switch outcome {
        case .success(let result):
            if let lost { throw self.engine.lossError(of: lost.core) }
            return result
        case .failure(is CancellationError) where lost != nil && !Task.isCancelled:
            throw lost.map { self.engine.lossError(of: $0.core) } ?? CancellationError()
        case .failure(let error):
            throw error
        }
    }

    /// Runs work in a child task that is cancelled when a lease is lost.
    func supervise<Result: Sendable>(
        _ leases: [Lease],
        _ work: @escaping @Sendable () async throws -> Result
    ) async throws -> Result {
        let guarded = GuardedWork()
        for lease in leases { lease.core.watch(guarded) }
        defer { for lease in leases { lease.core.unwatch(guarded) } }
        // The caller's own cancellation reaches the child by itself.
        async let result = guarded.run(work)
        return try await result
    }
}

/// Runs a lock service beside some work, and ends it with the work.
///
/// ```swift
/// try await withLockService(store: store) { locks in
///     try await locks.withLock("nightly") { _ in try await report() }
/// }
/// ```
///
/// - Parameters:
///   - store: Where the locks live.
///   - configuration: Leases, margins and limits.
///   - observer: Receives what happens.
///   - work: The users of the locks.
/// - Returns: What the work returns.
/// - Throws: What the work throws, or ``LockError`` when the store cannot work at all; the work is then cancelled.
public func withLockService<Result: Sendable>(
    store: any LockStore,
    configuration: LockServiceConfiguration = LockServiceConfiguration(),
    observer: (any LockObserver)? = nil,
    _ work: @escaping @Sendable (LockService) async throws -> Result
) async throws -> Result {
    let service = try LockService(store: store, configuration: configuration, observer: observer)
    return try await withThrowingTaskGroup(of: Result?.self) { group in
        group.addTask {
            try await service.run()
            return nil
        }
        group.addTask { try await work(service) }
        defer { group.cancelAll() }
        while let result = try await group.next() {
            if let result { return result }
        }
        throw CancellationError()
    }
}
