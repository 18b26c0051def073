// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

extension Engine {
    /// Looks whether a waiting request is the one that has to end a deadlock.
    ///
    /// One call to the store; a second one before anybody is told.
    ///
    /// - Parameters:
    ///   - suspect: The request.
    ///   - watch: Its watch, which is set for the next look.
    /// - Returns: The deadlock that it has to end by giving up, or `nil` to wait on.
    func look(for suspect: Suspect, _ watch: inout DeadlockWatch) async -> Deadlock? {
        watch.begin(suspect, of: self)
        // A store that does not answer shows no deadlock; the next look may.
        guard let graph = try? await self.graph(for: suspect) else { return nil }
        let isOld = watch.sees(graph.deadlock(of: suspect.reference, ignoringAges: true))
        guard let first = Self.deadlock(of: suspect, in: graph, ignoringAges: isOld),
            let again = try? await self.graph(for: suspect),
            first.isConfirmed(by: Self.deadlock(of: suspect, in: again, ignoringAges: isOld))
        else { return nil }
        switch self.configuration.deadlocks {
        case .off: return nil
        case .report:
            if watch.report(first) { self.observe(.deadlock(first)) }
            return nil
        case .detect:
            guard watch.claim(first, in: self) else { return nil }
            self.observe(.deadlock(first))
            return first
        }
    }

    /// The deadlock in which a request has to give up, by what was read.
    private static func deadlock(
        of suspect: Suspect,
        in graph: WaitForGraph,
        ignoringAges: Bool
    ) -> Deadlock? {
        guard let found = graph.deadlock(of: suspect.reference, ignoringAges: ignoringAges) else { return nil }
        return found.victim.waiter.reference == suspect.reference ? found : nil
    }

    /// How many times a search goes over from one store to others: a longer chain is no accident of locking.
    private static let maximumCrossings = 16

    /// Reads what a request hangs on, in this store and wherever services of this process go on from there.
    private func graph(for suspect: Suspect) async throws -> WaitForGraph {
        var stores: [ObjectIdentifier: [ResourceStatus]] = [:]
        var asked: [ObjectIdentifier: Set<OwnerID>] = [:]
        var next = [(engine: self, owner: suspect.owner, resource: suspect.resource)]
        var crossings = 0
        while let (engine, owner, resource) = next.popLast(), crossings <= Self.maximumCrossings {
            crossings += 1
            let key = ObjectIdentifier(engine.store as AnyObject)
            guard asked[key, default: []].insert(owner).inserted else { continue }
            let found = try await engine.store.waits(of: owner, for: resource)
            stores[key, default: []] += found
            let owners = found.flatMap { $0.holders.compactMap(\.owner) + $0.waiters.compactMap(\.owner) }
            for owner in Set(owners) {
                for wait in WaitRegistry.shared.waits(of: owner, outside: engine) {
                    next.append((wait.engine, owner, wait.resource))
                }
            }
        }
        return WaitForGraph(stores: Array(stores.values))
    }

    func deadlockError(_ deadlock: Deadlock, _ resource: Resource) -> LockError {
        LockError(
            .deadlock,
            "waiting on for \(resource) would never end: \(deadlock)",
            blockers: deadlock.cycle[0].grant.map { [$0] } ?? [],
            deadlock: deadlock
        )
    }
}
