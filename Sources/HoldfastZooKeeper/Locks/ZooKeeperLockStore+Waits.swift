// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore
import Synchronization

/// Who waits for what: `root/.holdfast/waits/OWNER-HASH`, ephemeral nodes whose data are the names of resources.
///
/// With ``ZooKeeperConfiguration/Access/creator`` each user has a room of its own, `root/.holdfast-HASH`: of the locks of
/// others it can neither hold nor wait for any, so no circle leads there.
extension ZooKeeperLockStore {
    /// Where it is kept who waits.
    var waitsRoom: String {
        let user = self.configuration.access == .creator ? self.configuration.user : nil
        return "\(self.configuration.root)/\(LockPath.room(of: user))/waits"
    }

    /// See ``LockStore/waits(of:for:)``.
    ///
    /// Writes a node the first time, then two reads for each step of the chain. Not read in one step: the caller reads
    /// twice before it believes in a deadlock. Knows of waits for which this was asked, in stores of the same root.
    ///
    /// - Parameters:
    ///   - owner: The owner.
    ///   - resource: One that it waits for.
    /// - Returns: The resources, at most ``Limits/maximumWaitGraph``.
    /// - Throws: ``LockError``.
    public func waits(of owner: OwnerID, for resource: Resource) async throws -> [ResourceStatus] {
        let wire = try await self.wire()
        try await self.register(owner, resource, wire)
        let list = await wire.children(of: self.waitsRoom)
        guard list.code == .ok || list.code == .noNode else {
            throw list.code.error("list \(self.waitsRoom)", at: self.place)
        }
        var nodes: [Substring: [String]] = [:]
        for child in list.children {
            if let dash = child.lastIndex(of: "-") { nodes[child[..<dash], default: []].append(child) }
        }
        let now = WallClock.milliseconds
        var found: [ResourceStatus] = []
        var owners: Set<OwnerID> = [owner]
        var resources: Set<Resource> = []
        var next = [owner]
        while let owner = next.popLast() {
            let replies = await wire.get((nodes[Substring(owner.id)] ?? []).map { "\(self.waitsRoom)/\($0)" })
            for reply in replies where reply.code == .ok {
                guard let text = String(validating: reply.data, as: UTF8.self), let resource = try? Resource(text),
                    !resources.contains(resource)
                else { continue }
                guard found.count < Limits.maximumWaitGraph else { return Self.withoutDebts(found) }
                guard let queue = try await self.read(self.path(of: resource), wire) else { continue }
                let status = self.describe(queue, resource, at: now)
                // The wait may be over, and its node not be gone yet.
                guard status.waiters.contains(where: { $0.owner == owner }) else { continue }
                resources.insert(resource)
                found.append(status)
                let inTheWay = status.holders.compactMap(\.owner) + status.waiters.compactMap(\.owner)
                next += inTheWay.filter { owners.insert($0).inserted }
            }
        }
        return Self.withoutDebts(found)
    }

    /// Makes all waits longer by the same time, so that none is below zero: the servers' clock may be ahead of ours, and
    /// some may have begun after the moment for which they were told.
    private static func withoutDebts(_ statuses: [ResourceStatus]) -> [ResourceStatus] {
        let debt = statuses.flatMap(\.waiters).compactMap(\.waitingFor).min() ?? .zero
        guard debt < .zero else { return statuses }
        return statuses.map { status in
            var status = status
            for index in status.waiters.indices { status.waiters[index].waitingFor? -= debt }
            return status
        }
    }

    /// Says that an owner waits for a resource, if a request of this store does.
    private func register(_ owner: OwnerID, _ resource: Resource, _ wire: Wire) async throws {
        let name = "\(owner.id)-\(Hex.text(of: FNV1a.hash(resource.name.utf8)))"
        let path = "\(self.waitsRoom)/\(name)"
        let isNew = self.book.withLock { book in
            book.register(path, owner, resource, epoch: wire.link.epoch)
        }
        guard isNew else { return }
        do {
            try await self.makeRegistration(path, resource, wire)
        } catch {
            self.book.withLock { $0.unregister(path) }
            throw error
        }
        // The wait may have ended, and what it left been removed, before this was made.
        if !self.book.withLock({ $0.hasRegistration(path, epoch: wire.link.epoch) }) {
            self.remover.remove(path, wire.link.epoch, wire.link)
        }
    }

    private func makeRegistration(_ path: String, _ resource: Resource, _ wire: Wire) async throws {
        var made = await wire.create(path, Array(resource.name.utf8), .ephemeral)
        while made.code == .noNode, Instant.now < wire.deadline {
            try await self.makeParents(of: self.waitsRoom, wire)
            made = await wire.create(path, Array(resource.name.utf8), .ephemeral)
        }
        guard made.code == .ok || made.code == .nodeExists else {
            // It may have been made, and nobody will know of it.
            if !made.code.hadNoEffect { self.remover.remove(path, wire.link.epoch, wire.link) }
            throw made.code.error("create a node below \(self.waitsRoom)", at: self.place)
        }
    }
}
