// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore

#if ServiceLifecycle
import ServiceLifecycle
#endif

/// Gives locks: the engine above a store.
///
/// ```swift
/// let locks = try LockService(store: store)
/// // Somebody has to run it: a task group, a ServiceGroup, or `withLockService`.
/// group.addTask { try await locks.run() }
///
/// try await locks.withLock("invoices/42") { lease in
///     try await ledger.write(total, fencedBy: lease.fencingToken)
/// }
/// ```
///
/// What it promises, and what not: between the grant and `validUntil` on this machine's clock no other holder of a mode
/// that excludes it is granted, as long as the store keeps its promises. Work under a scoped lock is *cancelled* before
/// that deadline; work that ignores cancellation, or a machine that sleeps, goes on beyond it, which is what fencing
/// tokens are for.
///
/// Use one service for each store and process: requests of one service for one resource exclude each other before
/// anything is sent, and all its leases are renewed together.
public final class LockService: Sendable {
    let engine: Engine

    /// Makes a service.
    ///
    /// Nothing is sent and nothing runs before ``run()``.
    ///
    /// - Parameters:
    ///   - store: Where the locks live.
    ///   - configuration: Leases, margins and limits.
    ///   - observer: Receives what happens; several are joined with ``ObserverGroup``.
    ///   - clock: What leases are counted on; another one in tests only.
    ///   - generator: Where ids come from; it must be one that nobody can predict.
    /// - Throws: ``LockError`` with code ``LockError/Code/invalidArgument`` when a setting is out of its range.
    public init(
        store: any LockStore,
        configuration: LockServiceConfiguration = LockServiceConfiguration(),
        observer: (any LockObserver)? = nil,
        clock: any LeaseClock = ContinuousClock(),
        generator: any RandomNumberGenerator & Sendable = BlockRandomNumberGenerator()
    ) throws(LockError) {
        try configuration.validate()
        self.engine = Engine(
            store: store,
            configuration: configuration,
            observer: observer,
            clock: clock,
            generator: generator
        )
    }

    /// This process, as other users of the store see it.
    public var identity: ProcessIdentity { self.engine.identity }

    /// What the store can do.
    public var capabilities: StoreCapabilities { self.engine.capabilities }

    /// Does the background work until its task is cancelled: renewals, deadlines, wake-ups.
    ///
    /// Call it once, in a task that you own. When it ends, waiting requests get ``LockError/Code/notRunning``, held
    /// leases are reported as lost with ``LossReason/stopped``, and scoped work is cancelled: stop the users of locks
    /// first.
    ///
    /// Returns when its task is cancelled or, with the trait `ServiceLifecycle`, its service group shuts down.
    ///
    /// - Throws: ``LockError`` when the store cannot work at all.
    public func run() async throws {
        #if ServiceLifecycle
        try await withGracefulShutdownHandler {
            try await self.engine.run()
        } onGracefulShutdown: {
            self.engine.stopRequest.wake(.stopped)
        }
        #else
        try await self.engine.run()
        #endif
    }

    // MARK: - Unscoped locks

    /// Waits for a lock and returns a handle to it.
    ///
    /// Prefer ``withLock(_:mode:lease:waitingAtMost:priority:fairness:lockDelay:label:_:)``.
    ///
    /// One round trip when the lock is free. If the task is cancelled while waiting, the place in the queue is given up;
    /// a grant that was under way is released.
    ///
    /// - Parameters:
    ///   - resource: What to lock.
    ///   - mode: How to lock it.
    ///   - lease: How long a dead holder blocks others; `nil` for the configured one.
    ///   - waitingAtMost: How long to wait in all, or `nil` to wait as long as it takes. Zero asks once. A service that
    ///     does not run yet is given a second at least: ``LockServiceConfiguration/startupLimit``.
    ///   - priority: How many seconds earlier than it came the request stands in the queue, -100 to 100.
    ///   - fairness: Whether this request may pass others, and they it.
    ///   - lockDelay: How long the resource rests if this holder vanishes without releasing, 0 to 60 s.
    ///   - label: A name for people, shown to whoever looks at the lock.
    /// - Returns: The held lock.
    /// - Throws: ``LockError`` with code ``LockError/Code/timeout`` (and who holds it in ``LockError/blockers``),
    ///   another code when the store fails, or `CancellationError`. Nothing is held then.
    public func acquire(
        _ resource: Resource,
        mode: LockMode = .exclusive,
        lease: Duration? = nil,
        waitingAtMost: Duration? = nil,
        priority: Int = 0,
        fairness: LockRequest.Fairness = .fair,
        lockDelay: Duration = .zero,
        label: String? = nil
    ) async throws -> Lease {
        let options = AcquireOptions(
            resource: resource,
            mode: mode,
            lease: lease,
            waitingAtMost: waitingAtMost,
            contention: .queue,
            priority: priority,
            lockDelay: lockDelay,
            label: label,
            fairness: fairness
        )
        guard let core = try await self.engine.acquire(options) else {
            // A store that answers a queueing request with "busy" breaks its contract; say so rather than trap.
            throw LockError(.storeCorrupted, "the \(self.capabilities.name) store refused to queue for \(resource)")
        }
        return Lease(core: core, engine: self.engine)
    }

    /// Takes a lock if it is free right now.
    ///
    /// One round trip at most.
    ///
    /// - Parameters:
    ///   - resource: What to lock.
    ///   - mode: How to lock it.
    ///   - lease: How long a dead holder blocks others; `nil` for the configured one.
    ///   - lockDelay: How long the resource rests if this holder vanishes without releasing, 0 to 60 s.
    ///   - label: A name for people, shown to whoever looks at the lock.
    /// - Returns: The held lock, or `nil` when somebody holds it or waits for it.
    /// - Throws: ``LockError`` when the store fails, or `CancellationError`. Nothing is held then.
    public func tryAcquire(
        _ resource: Resource,
        mode: LockMode = .exclusive,
        lease: Duration? = nil,
        lockDelay: Duration = .zero,
        label: String? = nil
    ) async throws -> Lease? {
        let options = AcquireOptions(
            resource: resource,
            mode: mode,
            lease: lease,
            waitingAtMost: nil,
            contention: .fail,
            priority: 0,
            lockDelay: lockDelay,
            label: label
        )
        return try await self.engine.acquire(options).map { Lease(core: $0, engine: self.engine) }
    }

    /// Takes up a lock that was held before, by this process or by another one that handed its grant on.
    ///
    /// Two round trips. If its mode was changed after the grant was written down, the lock has the mode and the fencing
    /// token that the store says.
    ///
    /// - Parameter grant: The grant.
    /// - Returns: The held lock, renewed.
    /// - Throws: ``LockError`` with code ``LockError/Code/lost`` when it is not held any more.
    public func resume(_ grant: Grant) async throws -> Lease {
        Lease(core: try await self.engine.resume(grant), engine: self.engine)
    }

    // MARK: - For operators

    /// Describes one resource.
    ///
    /// One round trip.
    ///
    /// - Parameter resource: The resource.
    /// - Returns: Its holders and waiters, empty when it is free.
    /// - Throws: ``LockError`` when the store fails.
    public func status(of resource: Resource) async throws -> ResourceStatus {
        try await self.engine.store.status(of: resource)
    }

    /// Says who holds a resource.
    ///
    /// One round trip.
    ///
    /// - Parameter resource: The resource.
    /// - Returns: The holders, empty when it is free.
    /// - Throws: ``LockError`` when the store fails.
    public func holders(of resource: Resource) async throws -> [Holder] {
        try await self.status(of: resource).holders
    }

    /// Describes all resources that are not free.
    ///
    /// A round trip for each page, when it is read.
    ///
    /// - Parameter pattern: Which resources.
    /// - Returns: A sequence that reads page by page; what changes meanwhile may be missing or come twice.
    public func survey(_ pattern: ResourcePattern = .all) -> Survey {
        Survey(store: self.engine.store, pattern: pattern)
    }

    /// Asks the holders of a resource to let go: they get ``LeaseEvent/revokeRequested``.
    ///
    /// Nothing is taken from them.
    ///
    /// - Parameter resource: The resource.
    /// - Returns: Who was asked.
    /// - Throws: ``LockError`` when the store fails.
    public func revoke(_ resource: Resource) async throws -> RevokeReply {
        try await self.engine.store.revoke(resource)
    }

    /// Takes a resource from its holders and hands it on.
    ///
    /// They are told, but may still act for a moment: only a fenced resource is safe from that.
    ///
    /// - Parameter resource: The resource.
    /// - Returns: Who held it.
    /// - Throws: ``LockError`` when the store fails; whether it took effect is then unknown.
    public func forceRelease(_ resource: Resource) async throws -> [Holder] {
        try await self.engine.store.forceRelease(resource)
    }
}
