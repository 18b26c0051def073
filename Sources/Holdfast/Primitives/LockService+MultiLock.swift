// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore

extension LockService {
    /// Waits for several locks, runs work while it holds them all, and gives them back.
    ///
    /// As ``withLock(_:mode:lease:waitingAtMost:priority:fairness:lockDelay:label:_:)`` for each of them: when **any** of
    /// the leases is lost, the work is cancelled before that lease can pass to another, and awaited. Inside the work,
    /// scoped locks of any of the resources re-enter. How the locks are taken, and what that costs, says
    /// ``acquireAll(_:mode:lease:waitingAtMost:priority:lockDelay:label:)``.
    ///
    /// - Parameters:
    ///   - resources: What to lock, in any order; one that is named twice counts once. 1 to ``MultiLease/maximumCount``.
    ///   - mode: How to lock each of them.
    ///   - lease: How long a dead holder blocks others; `nil` for the configured one.
    ///   - waitingAtMost: How long to wait for all of them together, or `nil` to wait as long as it takes.
    ///   - priority: How many seconds earlier than they came the requests stand in the queues, -100 to 100.
    ///   - lockDelay: How long each resource rests if this holder vanishes without releasing, 0 to 60 s.
    ///   - label: A name for people, shown to whoever looks at the locks.
    ///   - work: What to do under the locks.
    /// - Returns: What the work returns.
    /// - Throws: As ``withLock(_:mode:lease:waitingAtMost:priority:fairness:lockDelay:label:_:)``.
    public func withLocks<Result: Sendable>(
        _ resources: [Resource],
        mode: LockMode = .exclusive,
        lease: Duration? = nil,
        waitingAtMost: Duration? = nil,
        priority: Int = 0,
        lockDelay: Duration = .zero,
        label: String? = nil,
        _ work: @escaping @Sendable (MultiLease) async throws -> Result
    ) async throws -> Result {
        let held = try await self.acquireAll(
            resources,
            mode: mode,
            lease: lease,
            waitingAtMost: waitingAtMost,
            priority: priority,
            lockDelay: lockDelay,
            label: label
        )
        return try await self.holding(held.leases) { try await work(held) }
    }

    /// Waits for several locks, and returns when it holds them all.
    ///
    /// All or nothing: whatever is thrown, nothing is held, and a grant that was under way is given back. Prefer
    /// ``withLocks(_:mode:lease:waitingAtMost:priority:lockDelay:label:_:)``.
    ///
    /// First all are asked for at once without waiting: one round trip when all are free, on a store that sends what is
    /// asked for together (Redis, when one server has all the names), else one for each, side by side. If some are taken,
    /// those that come after the first taken one by name are given back, and they and it are waited for one after the
    /// other in the order of their names, a round trip each and the waits; so users of `acquireAll` never wait for each
    /// other in a circle, whatever the order in which they name the resources. With locks of an outer scope they may:
    /// deadlock detection sees all of them as held by one owner.
    ///
    /// What it does not promise: in the first try others may see a lock taken for a moment that is then given back, and a
    /// `tryAcquire` of theirs may fail because of it. If one of the locks is lost while waiting for another, this
    /// ends with ``LockError/Code/lost``.
    ///
    /// - Parameters:
    ///   - resources: What to lock, in any order; one that is named twice counts once. 1 to ``MultiLease/maximumCount``.
    ///   - mode: How to lock each of them.
    ///   - lease: How long a dead holder blocks others; `nil` for the configured one.
    ///   - waitingAtMost: How long to wait for all of them together, or `nil` to wait as long as it takes.
    ///   - priority: How many seconds earlier than they came the requests stand in the queues, -100 to 100.
    ///   - lockDelay: How long each resource rests if this holder vanishes without releasing, 0 to 60 s.
    ///   - label: A name for people, shown to whoever looks at the locks.
    /// - Returns: The held locks.
    /// - Throws: ``LockError`` with code ``LockError/Code/timeout`` and who holds the one that was waited for,
    ///   ``LockError/Code/invalidArgument`` for no or too many resources, another code when the store fails, or
    ///   `CancellationError`. Nothing is held then.
    public func acquireAll(
        _ resources: [Resource],
        mode: LockMode = .exclusive,
        lease: Duration? = nil,
        waitingAtMost: Duration? = nil,
        priority: Int = 0,
        lockDelay: Duration = .zero,
        label: String? = nil
    ) async throws -> MultiLease {
        let options = AcquireOptions(
            resource: try MultiAcquisition.first(of: resources),
            mode: mode,
            lease: lease,
            waitingAtMost: waitingAtMost,
            contention: .queue,
            priority: priority,
            lockDelay: lockDelay,
            label: label
        )
        let leases = try await MultiAcquisition(resources, options, on: self.engine).obtain()
        return MultiLease(leases, in: resources, self.engine)
    }

    /// Takes several locks if all are free right now.
    ///
    /// All or nothing; waits for nobody. One round trip or one for each, side by side; when some are taken, as many again
    /// to give back the others, which were held for that moment.
    ///
    /// - Parameters:
    ///   - resources: What to lock, in any order; one that is named twice counts once. 1 to ``MultiLease/maximumCount``.
    ///   - mode: How to lock each of them.
    ///   - lease: How long a dead holder blocks others; `nil` for the configured one.
    ///   - lockDelay: How long each resource rests if this holder vanishes without releasing, 0 to 60 s.
    ///   - label: A name for people, shown to whoever looks at the locks.
    /// - Returns: The held locks, or `nil` when one of them is taken.
    /// - Throws: ``LockError`` when the store fails, or `CancellationError`. Nothing is held then.
    public func tryAcquireAll(
        _ resources: [Resource],
        mode: LockMode = .exclusive,
        lease: Duration? = nil,
        lockDelay: Duration = .zero,
        label: String? = nil
    ) async throws -> MultiLease? {
        let options = AcquireOptions(
            resource: try MultiAcquisition.first(of: resources),
            mode: mode,
            lease: lease,
            waitingAtMost: nil,
            contention: .fail,
            priority: 0,
            lockDelay: lockDelay,
            label: label
        )
        return try await MultiAcquisition(resources, options, on: self.engine).attempt()
            .map { MultiLease($0, in: resources, self.engine) }
    }

    /// Runs work under several locks if all are free right now.
    ///
    /// - Parameters:
    ///   - resources: What to lock, in any order; one that is named twice counts once. 1 to ``MultiLease/maximumCount``.
    ///   - mode: How to lock each of them.
    ///   - lease: How long a dead holder blocks others; `nil` for the configured one.
    ///   - lockDelay: How long each resource rests if this holder vanishes without releasing, 0 to 60 s.
    ///   - label: A name for people, shown to whoever looks at the locks.
    ///   - work: What to do under the locks.
    /// - Returns: What the work returns, or `nil` when one of the locks is taken.
    /// - Throws: As ``withLocks(_:mode:lease:waitingAtMost:priority:lockDelay:label:_:)``.
    public func tryWithLocks<Result: Sendable>(
        _ resources: [Resource],
        mode: LockMode = .exclusive,
        lease: Duration? = nil,
        lockDelay: Duration = .zero,
        label: String? = nil,
        _ work: @escaping @Sendable (MultiLease) async throws -> Result
    ) async throws -> Result? {
        guard
            let held = try await self.tryAcquireAll(
                resources,
                mode: mode,
                lease: lease,
                lockDelay: lockDelay,
                label: label
            )
        else { return nil }
        return try await self.holding(held.leases) { try await work(held) }
    }
}
