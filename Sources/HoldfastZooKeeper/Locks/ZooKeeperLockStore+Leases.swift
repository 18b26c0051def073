// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore
import Synchronization

extension ZooKeeperLockStore {
    /// See ``LockStore/renew(_:)``.
    ///
    /// One round trip to the leader for all of them, and a read in parallel for each that no server watches: at the first
    /// renewal of a grant, and when there are too many watches.
    ///
    /// - Parameter renewals: At most ``Limits/maximumRenewalBatch`` grants.
    /// - Returns: An answer for each, in the same order.
    /// - Throws: ``LockError`` when all answers are unknown.
    public func renew(_ renewals: [Renewal]) async throws -> [RenewReply] {
        guard renewals.count <= Limits.maximumRenewalBatch else {
            throw LockError(.invalidArgument, "at most \(Limits.maximumRenewalBatch) grants can be renewed at once")
        }
        let entries = self.book.withLock { book in renewals.map { book[$0.key.id] } }
        guard entries.contains(where: { $0 != nil }) else { return renewals.map { _ in .lost(.expired) } }
        let start = Instant.now
        let wire = try await self.wire()
        async let word = wire.sync(self.rootNode)
        let unseen = await self.check(entries.compactMap(\.self), wire)
        let answer = await word
        // A root that does not exist yet is an answer too.
        guard answer.code == .ok || answer.code == .noNode else {
            throw answer.code.error("renew \(renewals.count) grants", at: self.place)
        }
        try await self.vouch(for: renewals.map(\.lease).max() ?? .zero, from: start, wire)
        let now = Instant.now
        for entry in entries { if let entry { self.date(entry, wire) } }
        return self.book.withLock { book in
            zip(renewals, entries).map { renewal, entry in
                guard let entry, entry.epoch == wire.link.epoch else { return .lost(.expired) }
                return book.update(renewal.key.id, guid: entry.guid) { entry in
                    guard var hold = entry.hold, hold.expires > now else { return .lost(.expired) }
                    guard !unseen.contains(renewal.key.id) else { return .unknown }
                    hold.isAccepted = true
                    hold.expires = now.advanced(by: renewal.lease)
                    entry.hold = hold
                    return .renewed(revokeRequested: hold.revokeRequested)
                } ?? .lost(.expired)
            }
        }
    }

    /// A shorter wait is not worth a word.
    private static var shortestDated: Duration { .milliseconds(500) }

    /// Has the node of a grant that is renewed say how long it had waited, once: others see only how old the node is.
    ///
    /// For people; nobody waits for it, and it is not tried again.
    private func date(_ entry: RequestBook.Entry, _ wire: Wire) {
        guard let hold = entry.hold, !hold.isDated, hold.successor == nil, entry.epoch == wire.link.epoch,
            let path = entry.path
        else { return }
        let isFirst = self.book.withLock { book in
            book.update(entry.request.id, guid: entry.guid) { entry in
                defer { entry.hold?.isDated = true }
                return entry.hold?.isDated == false && entry.path == path
            } ?? false
        }
        let waited = entry.since.duration(to: hold.since)
        guard isFirst, waited >= Self.shortestDated else { return }
        let handle = wire.link.handle
        let terms = wire.terms { [owners = self.owners] reply in
            guard reply.code == .ok, let stat = reply.stat else { return }
            var data = NodeData.read(reply.data)
            // A node that took the place of another says so from the beginning.
            guard data.owner != nil, data.held == nil else { return }
            data.held = -waited.millisecondsRoundedUp
            handle.set(path, data.bytes(owners), version: stat.version, wire.terms { _ in })
        }
        handle.get(path, terms)
    }

    /// Renews one grant, which may wait to be accepted.
    func renew(_ entry: RequestBook.Entry) async throws -> RenewReply {
        try await self.renew([Renewal(key: entry.request.key, lease: entry.request.lease)]).first ?? .unknown
    }

    /// Makes sure of grants whose nodes are not watched, and of requests that may have been granted.
    ///
    /// - Returns: Those of which nobody knows.
    @concurrent
    private func check(_ entries: [RequestBook.Entry], _ wire: Wire) async -> Set<RequestID> {
        var unsure: [RequestBook.Entry] = []
        for known in entries where known.epoch == wire.link.epoch {
            var entry = known
            if entry.hold?.isUnsettled == true {
                // Should it fail, the grant stays unknown, and is looked for again.
                try? await self.settle(entry, wire)
                guard let settled = self.book.withLock({ $0[known.request.id] }), settled.guid == known.guid else {
                    continue
                }
                entry = settled
            }
            switch entry.phase {
            case .creating, .unresolved: break
            case .queued:
                _ = await self.look(entry, wire)
                if let known = self.book.withLock({ $0[entry.request.id] }), known.hold != nil { unsure.append(known) }
            case .granted(let hold):
                if hold.watch.map(CallbackTable.shared.isPolled) ?? true { unsure.append(entry) }
            }
        }
        let asked = unsure
        guard !asked.isEmpty else { return [] }
        let replies = await withCheckedContinuation { (continuation: CheckedContinuation<[CallReply], Never>) in
            let gathering = Gathering(asked.count) { continuation.resume(returning: $0) }
            for (index, entry) in asked.enumerated() {
                self.inspect(entry, wire) { isThere in
                    gathering.put(CallReply(code: isThere == nil ? .late : .ok), at: index)
                }
            }
        }
        return Set(zip(asked, replies).filter { $0.1.code != .ok }.map(\.0.request.id))
    }

    /// See ``LockStore/release(_:)``.
    ///
    /// With ``ZooKeeperConfiguration/Release/background``, the default, no round trip: the delete is on its way, is
    /// seen to until it is confirmed, and whatever this process does afterwards comes after it. A program elsewhere
    /// that hears of the release by other means may find the lock taken for a moment. With
    /// ``ZooKeeperConfiguration/Release/confirmed``, one round trip.
    ///
    /// - Parameter grant: The grant.
    /// - Returns: What became of it.
    /// - Throws: ``LockError`` when there is no connection; the node is deleted when it is back, or ends with the session.
    public func release(_ grant: GrantKey) async throws -> ReleaseReply {
        if let entry = self.book.withLock({ $0.queued(grant.id) }) {
            // It may have been handed over, and the news be under way.
            guard let wire = self.wire(ofEpoch: entry.epoch), case .granted = await self.look(entry, wire) else {
                return .alreadyLost
            }
        }
        let now = Instant.now
        let entry = self.book.withLock { book -> RequestBook.Entry? in
            guard book.holds(grant.id) else { return nil }
            book.finish(grant.id)
            return book.remove(grant.id)
        }
        guard let entry, entry.node != nil, let hold = entry.hold else { return .alreadyLost }
        guard let wire = self.wire(ofEpoch: entry.epoch), hold.successor == nil else {
            self.clear(entry)
            if self.session.link != nil, hold.successor != nil { return .released }
            throw ServerCode.notConnected.error("release \(grant.resource)", at: self.place)
        }
        guard hold.expires > now else {
            self.clear(entry)
            return .alreadyLost
        }
        guard self.configuration.release == .confirmed, let path = entry.path else {
            self.clear(entry)
            return .released
        }
        let reply = await wire.delete(path)
        switch reply.code {
        case .ok:
            self.clear(entry.withoutNode)
            return .released
        case .noNode:
            self.clear(entry.withoutNode)
            // Somebody took it away, and the news had not come.
            self.handlers.emit(.lost(grant.id, .forced))
            return .alreadyLost
        default:
            self.clear(entry)
            throw reply.code.error("release \(grant.resource)", at: self.place)
        }
    }
}

extension RequestBook.Entry {
    /// The same after its node was deleted.
    var withoutNode: RequestBook.Entry {
        var entry = self
        entry.isCleared = true
        return entry
    }
}
