// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore
import Synchronization

/// Several locks that one owner holds together, or held.
///
/// Each is a ``Lease`` of its own, with its own fencing token and its own end; together they are worth as much as the
/// first of them that ends. All are renewed in one call. What ``Lease`` does not promise, this does not either.
public final class MultiLease: Sendable {
    /// The most resources that can be locked together: as many as deadlock detection is told about.
    public static let maximumCount = Limits.maximumHolding

    /// An event of one of the leases.
    public struct Event: Sendable, Hashable {
        /// Which lease.
        public let resource: Resource
        /// What happened to it.
        public let event: LeaseEvent
    }

    /// The leases in the order in which their resources were named, each once.
    public let leases: [Lease]
    private let engine: Engine

    /// Joins leases.
    ///
    /// - Parameters:
    ///   - leases: The leases, in any order.
    ///   - order: The names as the caller gave them.
    ///   - engine: Where they are held.
    init(_ leases: [Lease], in order: [Resource], _ engine: Engine) {
        var remaining = Dictionary(uniqueKeysWithValues: leases.map { ($0.resource, $0) })
        self.leases = order.compactMap { remaining.removeValue(forKey: $0) }
        self.engine = engine
    }

    /// What is locked.
    public var resources: [Resource] { self.leases.map(\.resource) }
    /// Who holds the locks; they all have one owner, unless one was re-entered.
    public var owner: OwnerID { self.leases[0].owner }
    /// Until when all locks may be believed to be held, unless renewed.
    public var validUntil: ContinuousClock.Instant { self.leases.map(\.validUntil).min() ?? self.engine.clock.now }

    /// The lease of one of the resources.
    ///
    /// - Parameter resource: The resource.
    /// - Returns: Its lease, or `nil` when it was not named.
    public func lease(for resource: Resource) -> Lease? { self.leases.first { $0.resource == resource } }

    /// The number for one of the resources to check.
    ///
    /// Tokens grow for each resource by itself; the token of one says nothing to another.
    ///
    /// - Parameter resource: The resource.
    /// - Returns: Its token, or `nil` when it was not named.
    public func fencingToken(for resource: Resource) -> FencingToken? { self.lease(for: resource)?.fencingToken }

    /// Makes sure that all locks may still be believed to be held.
    ///
    /// Costs no round trip.
    ///
    /// - Throws: ``LockError`` with code ``LockError/Code/lost`` when one of them was lost or released, or its deadline is
    ///   over.
    public func checkValid() throws(LockError) {
        for lease in self.leases { try lease.checkValid() }
    }

    /// Gives all locks back at once.
    ///
    /// Runs to its end even when the task is cancelled. One round trip on a store that sends what is asked for together;
    /// else one for each lock, side by side. A second call does nothing.
    ///
    /// - Returns: What the store said to each, in the order of ``leases``.
    @discardableResult
    public func release() async -> [ReleaseReply] { await self.leases.release() }

    /// What happens to any of the leases from now on, beginning with ``LeaseEvent/acquired`` of each.
    ///
    /// Each call gives a stream of its own, which keeps the newest 16 events per lease for a slow reader and ends after
    /// the release of all.
    public var events: AsyncStream<Event> {
        let (stream, continuation) = AsyncStream.makeStream(
            of: Event.self,
            bufferingPolicy: .bufferingNewest(16 * self.leases.count)
        )
        let open = Mutex(self.leases.count)
        let cores = self.leases.map(\.core)
        let keys = cores.map { core in
            let resource = core.key.resource
            return core.listen(
                LeaseListener(
                    yield: { continuation.yield(Event(resource: resource, event: $0)) },
                    finish: {
                        let isLast = open.withLock { count in
                            count -= 1
                            return count == 0
                        }
                        if isLast { continuation.finish() }
                    }
                )
            )
        }
        continuation.onTermination = { [cores = cores.map(Weak.init)] _ in
            for (core, key) in zip(cores, keys) { if let key { core.value?.unlisten(key) } }
        }
        return stream
    }

    /// Runs work as the owner of these leases, so that scoped locks of the same resources inside it re-enter instead of
    /// waiting for themselves.
    ///
    /// - Parameter work: The work. Tasks that it starts inherit the owner.
    /// - Returns: What the work returns.
    /// - Throws: What the work throws.
    public func within<Result>(_ work: () async throws -> Result) async rethrows -> Result {
        var context = OwnerContext.current
        for lease in self.leases { context = OwnerContext(core: lease.core, engine: self.engine, outer: context) }
        return try await OwnerContext.$current.withValue(context, operation: work)
    }
}

/// A lease that a stream must not keep alive.
private struct Weak: Sendable {
    private(set) weak var value: LeaseCore?

    init(_ value: LeaseCore) { self.value = value }
}
