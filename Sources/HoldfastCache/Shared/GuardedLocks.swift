// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore

/// A lock service behind a breaker: while it does not work, loads learn that at once instead of waiting for its timeouts.
final class GuardedLocks: Sendable {
    /// How long a load waits for an answer at most.
    ///
    /// Not for a lock that somebody holds: that is an answer.
    let limit: Duration
    private let locks: LockService
    private let gate: ServiceGate

    /// Puts a breaker before a lock service.
    ///
    /// - Parameters:
    ///   - locks: The lock service.
    ///   - host: What it needs of the cache service.
    ///   - limit: How long a load waits for an answer at most. A call may take longer, since what is not known to have
    ///     failed is taken back.
    init(_ locks: LockService, _ host: ServiceGate.Host, limit: Duration) {
        self.locks = locks
        self.limit = limit
        self.gate = ServiceGate(
            host,
            isOutage: Self.isOutage,
            refusal: {
                LockError(
                    .storeUnavailable,
                    "the lock store was not waited for, since it or the tier did not answer a moment ago"
                )
            }
        )
    }

    /// Whether it is asked.
    var circuit: CircuitState { self.gate.circuit }

    /// Takes a lock if it is free; `nil` when it is not.
    ///
    /// - Parameters:
    ///   - resource: What to lock.
    ///   - lease: For how long.
    ///   - patience: That of the load that asks; `nil` for another caller, who waits as long as it takes. A lock that comes
    ///     when the load does not wait any more is given back.
    /// - Returns: The lock.
    /// - Throws: `LockError`, or `CancellationError`.
    func tryAcquire(_ resource: Resource, lease: Duration, by patience: LoadPatience? = nil) async throws -> Lease? {
        try await self.gate.ask(by: patience, within: self.limit) {
            try await self.locks.tryAcquire(resource, lease: lease, label: Self.label)
        } late: {
            _ = await $0?.release()
        }
    }

    /// Waits for a lock.
    ///
    /// Asks once without waiting first: a store that does not answer is then known after one timeout, while a wait
    /// outlives outages of seconds. A lock that is free takes one round trip all the same.
    ///
    /// - Parameters:
    ///   - resource: What to lock.
    ///   - lease: For how long.
    ///   - patience: As for ``tryAcquire(_:lease:by:)``; who is cancelled does not wait for his place to be given up.
    /// - Returns: The lock.
    /// - Throws: `LockError`, or `CancellationError`.
    func acquire(_ resource: Resource, lease: Duration, by patience: LoadPatience? = nil) async throws -> Lease {
        if let lease = try await self.tryAcquire(resource, lease: lease, by: patience) { return lease }
        return try await self.gate.wait(by: patience) {
            try await self.locks.acquire(resource, lease: lease, label: Self.label)
        } late: {
            _ = await $0.release()
        }
    }

    /// Who has a lock and who waits for it.
    ///
    /// - Throws: `LockError`, or `CancellationError`.
    func status(of resource: Resource, by patience: LoadPatience? = nil) async throws -> ResourceStatus {
        try await self.gate.ask(by: patience, within: self.limit) { try await self.locks.status(of: resource) }
    }

    /// Whether an error says that locks cannot be had now.
    @Sendable
    static func isOutage(_ error: any Error) -> Bool {
        guard let code = (error as? LockError)?.code else { return false }
        return code == .storeUnavailable || code == .notRunning
    }

    /// What operators see.
    private static var label: String { "cache fill" }
}
