// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// Takes several locks for one owner: all at once if they are free, and else in the order of their names.
///
/// Whoever takes locks in one order never waits in a circle (Havender, "Avoiding deadlock in multitasking systems", IBM
/// Systems Journal 1968). The first try waits for nobody, so it needs no order.
struct MultiAcquisition: Sendable {
    private let engine: Engine
    /// Each once, in the order in which they are waited for.
    private let resources: [Resource]
    private let options: AcquireOptions
    private let owner: OwnerID
    private let deadline: Engine.Instant?

    /// Plans it.
    ///
    /// - Parameters:
    ///   - resources: The names; one that comes again is left out.
    ///   - options: How to take each of them; their resource is not looked at.
    ///   - engine: Where.
    /// - Throws: ``LockError`` with code ``LockError/Code/invalidArgument`` when there are too many.
    init(_ resources: [Resource], _ options: AcquireOptions, on engine: Engine) throws(LockError) {
        self.engine = engine
        self.resources = Set(resources).sorted()
        self.options = options
        let inherited = OwnerContext.current?.owner ?? engine.configuration.inherited?.owner
        self.owner =
            inherited
            ?? OwnerID(process: engine.identity, serial: engine.identifiers.serial(), label: options.label)
        self.deadline = options.waitingAtMost.map { engine.clock.now.advanced(by: min($0, Limits.maximumWait)) }
        guard self.resources.count <= MultiLease.maximumCount else {
            throw LockError(
                .invalidArgument,
                "\(self.resources.count) resources cannot be locked together; the limit is \(MultiLease.maximumCount)"
            )
        }
    }

    /// The first of some resources.
    ///
    /// - Throws: ``LockError`` with code ``LockError/Code/invalidArgument`` when there is none.
    static func first(of resources: [Resource]) throws(LockError) -> Resource {
        guard let first = resources.first else {
            throw LockError(.invalidArgument, "there is nothing to lock: name a resource")
        }
        return first
    }

    /// Takes all of them now, or none.
    func attempt() async throws -> [Lease]? {
        let held = try await self.front(outagesAreBusy: false)
        if held.count == self.resources.count { return held }
        await held.release()
        return nil
    }

    /// Takes all of them, and waits for those that are not free.
    func obtain() async throws -> [Lease] {
        // With one resource there is nothing to gain: a request that queues gets a free lock in one round trip too.
        let held = self.resources.count > 1 ? try await self.front(outagesAreBusy: true) : []
        if held.count == self.resources.count { return held }
        let slot = WakeSlot()
        return try await withThrowingTaskGroup(of: [Lease].self) { group in
            group.addTask {
                defer { slot.wake(.finished) }
                return try await self.queue(after: held, slot)
            }
            // While it waits for one, it may lose another: then there is nothing to wait for any more.
            if await slot.wait().contains(.lost) { group.cancelAll() }
            guard let leases = try await group.next() else { throw CancellationError() }
            return leases
        }
    }

    /// Asks for all at once without waiting, and keeps what comes before the first that is taken.
    ///
    /// The rest is given back: to wait with it in hand would be to wait out of order.
    ///
    /// - Parameter outagesAreBusy: Whether a store that does not answer is asked again later, with patience.
    /// - Returns: What is held, in order.
    /// - Throws: The first error; nothing is held then.
    private func front(outagesAreBusy: Bool) async throws -> [Lease] {
        var front: [Lease] = []
        var rest: [Lease] = []
        var isFront = true
        var failure: (any Error)?
        for outcome in await self.askForAll() {
            switch outcome {
            case .success(let lease?):
                if isFront { front.append(lease) } else { rest.append(lease) }
            case .success(nil):
                isFront = false
            case .failure(let error):
                isFront = false
                let isOutage = (error as? LockError)?.code == .storeUnavailable
                if !isOutage || !outagesAreBusy { failure = failure ?? error }
            }
        }
        if failure == nil, Task.isCancelled { failure = CancellationError() }
        guard let failure else {
            await rest.release()
            return front
        }
        await (front + rest).release()
        throw failure
    }

    /// Asks for all at once without waiting: what a store sends together is one round trip.
    private func askForAll() async -> [Result<Lease?, any Error>] {
        await withTaskGroup(of: (Int, Result<Lease?, any Error>).self) { group in
            for (index, resource) in self.resources.enumerated() {
                group.addTask {
                    // Built before the tuple: Swift 6.3.1 loses the first element of a tuple in optimised builds when the
                    // second is an enum that is made around an `await` of an optional.
                    let outcome: Result<Lease?, any Error>
                    do {
                        outcome = .success(try await self.acquire(resource, .fail, holding: []))
                    } catch {
                        outcome = .failure(error)
                    }
                    return (index, outcome)
                }
            }
            var outcomes = [Result<Lease?, any Error>](repeating: .success(nil), count: self.resources.count)
            for await (index, outcome) in group { outcomes[index] = outcome }
            return outcomes
        }
    }

    /// Takes what is missing in order, and gives everything back if that fails.
    private func queue(after front: [Lease], _ slot: WakeSlot) async throws -> [Lease] {
        var held = front
        for lease in held { lease.core.watch(slot) }
        defer { for lease in held { lease.core.unwatch(slot) } }
        do {
            for resource in self.resources[held.count...] {
                guard let lease = try await self.acquire(resource, .queue, holding: held) else {
                    throw LockError(
                        .storeCorrupted,
                        "the \(self.engine.capabilities.name) store refused to queue for \(resource)"
                    )
                }
                lease.core.watch(slot)
                held.append(lease)
            }
            for lease in held { try lease.checkValid() }
            try Task.checkCancellation()
            return held
        } catch {
            let lost = held.first { $0.core.loss != nil }
            await held.release()
            if error is CancellationError, let lost { throw self.engine.lossError(of: lost.core) }
            throw error
        }
    }

    private func acquire(
        _ resource: Resource,
        _ contention: LockRequest.Contention,
        holding held: [Lease]
    ) async throws -> Lease? {
        var options = self.options
        options.resource = resource
        options.contention = contention
        options.waitingAtMost = nil
        if contention == .queue, let deadline = self.deadline {
            options.waitingAtMost = max(.zero, self.engine.clock.now.duration(to: deadline))
        }
        let references = held.reversed().map(\.core.key.id.reference)
        options.inherited = InheritedOwner(
            owner: self.owner,
            holding: references + (self.engine.configuration.inherited?.holding ?? [])
        )
        return try await self.engine.acquire(options).map { Lease(core: $0, engine: self.engine) }
    }
}

extension [Lease] {
    /// Gives all back at once.
    ///
    /// - Returns: What the store said to each, in the same order.
    @discardableResult
    func release() async -> [ReleaseReply] {
        if self.count == 1 { return [await self[0].release()] }
        return await withTaskGroup(of: (Int, ReleaseReply).self) { group in
            for (index, lease) in self.enumerated() { group.addTask { (index, await lease.release()) } }
            var replies = [ReleaseReply](repeating: .unknown, count: self.count)
            for await (index, reply) in group { replies[index] = reply }
            return replies
        }
    }
}
