// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import Synchronization

/// A lock service behind a breaker: while it does not work, loads learn that at once instead of waiting for its timeouts.
final class GuardedLocks: Sendable {
    private let locks: LockService
    private let clock: CacheClock
    private let breaker = Mutex(CircuitBreaker())

    init(_ locks: LockService, clock: CacheClock) {
        self.locks = locks
        self.clock = clock
    }

    /// Whether it is asked.
    var circuit: CircuitState { self.breaker.withLock { $0.state } }

    /// Takes a lock if it is free; `nil` when it is not.
    ///
    /// - Throws: `LockError`, or `CancellationError`.
    func tryAcquire(_ resource: Resource, lease: Duration) async throws -> Lease? {
        try await self.ask { try await self.locks.tryAcquire(resource, lease: lease, label: Self.label) }
    }

    /// Waits for a lock.
    ///
    /// Asks once without waiting first: a store that does not answer is then known after one timeout, while a wait
    /// outlives outages of seconds. A lock that is free takes one round trip all the same.
    ///
    /// - Throws: `LockError`, or `CancellationError`.
    func acquire(_ resource: Resource, lease: Duration) async throws -> Lease {
        try await self.ask {
            if let lease = try await self.locks.tryAcquire(resource, lease: lease, label: Self.label) { return lease }
            return try await self.locks.acquire(resource, lease: lease, label: Self.label)
        }
    }

    /// Who has a lock and who waits for it.
    ///
    /// - Throws: `LockError`, or `CancellationError`.
    func status(of resource: Resource) async throws -> ResourceStatus {
        try await self.ask { try await self.locks.status(of: resource) }
    }

    /// What operators see.
    private static var label: String { "cache fill" }

    private func ask<Answer: Sendable>(_ call: () async throws -> Answer) async throws -> Answer {
        guard self.breaker.withLock({ $0.admits(at: self.clock.now) }) else {
            throw LockError(.storeUnavailable, "the lock store did not work a moment ago, and was not asked again")
        }
        do {
            let answer = try await call()
            self.breaker.withLock { $0.succeeded() }
            return answer
        } catch let error as LockError where error.code == .storeUnavailable || error.code == .notRunning {
            _ = self.breaker.withLock { $0.failed(at: self.clock.now) }
            throw error
        } catch let error as LockError {
            // It answered, though not what was wanted.
            self.breaker.withLock { $0.succeeded() }
            throw error
        }
    }
}
