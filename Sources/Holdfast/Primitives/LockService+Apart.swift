// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

extension LockService {
    /// Gets a lock for an owner of its own, which nothing around it re-enters: one voice among several of a process.
    ///
    /// Deadlock detection still sees the locks of the scopes around it.
    ///
    /// - Parameter options: What to ask for; the label becomes the new owner's.
    /// - Returns: The lease, or `nil` when it is taken and the options say not to wait.
    /// - Throws: As an acquire.
    func acquireApart(_ options: AcquireOptions) async throws -> Lease? {
        let engine = self.engine
        var options = options
        let outer = engine.configuration.inherited?.holding ?? []
        options.inherited = InheritedOwner(
            owner: OwnerID(process: engine.identity, serial: engine.identifiers.serial(), label: options.label),
            holding: (OwnerContext.current?.holding ?? []) + outer
        )
        let request = options
        let core = try await OwnerContext.$current.withValue(nil) { try await engine.acquire(request) }
        return core.map { Lease(core: $0, engine: engine) }
    }

    /// Waits for a lock for an owner of its own.
    func queueApart(_ options: AcquireOptions) async throws -> Lease {
        guard let lease = try await self.acquireApart(options) else {
            throw LockError(
                .storeCorrupted,
                "the \(self.capabilities.name) store refused to queue for \(options.resource)"
            )
        }
        return lease
    }
}

extension AcquireOptions {
    /// Asks in a way that leaves most at its default.
    init(
        _ resource: Resource,
        _ mode: LockMode,
        _ contention: LockRequest.Contention = .queue,
        lease: Duration? = nil,
        waitingAtMost: Duration? = nil,
        label: String? = nil
    ) {
        self.init(
            resource: resource,
            mode: mode,
            lease: lease,
            waitingAtMost: waitingAtMost,
            contention: contention,
            priority: 0,
            lockDelay: .zero,
            label: label
        )
    }
}
