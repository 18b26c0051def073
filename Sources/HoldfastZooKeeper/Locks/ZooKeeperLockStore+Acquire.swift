// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore
import Synchronization

extension ZooKeeperLockStore {
    /// See ``LockStore/acquire(_:)``.
    ///
    /// One round trip for a lock that is free (the node is created and the queue listed together), and one more to wait,
    /// for the watch. A request that does not want to wait lists the queue first, one more. A lock that nobody ever took
    /// costs two more, for the nodes on the way.
    ///
    /// A request belongs to the store object that it was first sent by.
    ///
    /// - Parameter request: The request.
    /// - Returns: How it stands.
    /// - Throws: ``LockError``; whether the request took effect is then unknown unless the message says so.
    public func acquire(_ request: LockRequest) async throws -> AcquireReply {
        let start = Instant.now
        try self.capabilities.check(request)
        let wire = try await self.wire()
        let reply = try await self.ask(request, wire)
        if case .granted = reply { try await self.vouch(for: request.lease, from: start, wire) }
        return reply
    }

    private func ask(_ request: LockRequest, _ wire: Wire) async throws -> AcquireReply {
        // Each round but the last finds that something changed meanwhile; nobody needs more than a few.
        for _ in 0..<Self.maximumRounds {
            guard Instant.now < wire.deadline else { break }
            switch self.begin(request, wire) {
            case .reply(let reply): return reply
            case .refuse(let error): throw error
            case .verify(let entry): if let reply = try await self.verify(entry) { return reply }
            case .create(let entry): if let reply = try await self.create(entry, wire) { return reply }
            case .look(let entry):
                if let reply = try self.reply(await self.look(entry, wire), to: entry) { return reply }
            case .resolve(let entry): try await self.resolve(entry, wire)
            }
        }
        throw LockError(.storeUnavailable, "the queue of \(request.resource) changed faster than it could be read")
    }

    private static var maximumRounds: Int { 32 }

    private enum Beginning {
        case reply(AcquireReply)
        case refuse(LockError)
        /// A grant that is asked for again.
        case verify(RequestBook.Entry)
        case create(RequestBook.Entry)
        case look(RequestBook.Entry)
        /// Its node may have been created.
        case resolve(RequestBook.Entry)
    }

    private func begin(_ request: LockRequest, _ wire: Wire) -> Beginning {
        let now = Instant.now
        let (beginning, over) = self.book.withLock { book -> (Beginning, RequestBook.Entry?) in
            if book.isFinished(request.id) { return (.reply(.finished), nil) }
            var over: RequestBook.Entry?
            if let entry = book[request.id] {
                switch entry.phase {
                case .creating where entry.epoch == wire.link.epoch:
                    return (.refuse(LockError(.storeUnavailable, "the request is being sent already")), nil)
                case .unresolved where entry.epoch == wire.link.epoch: return (.resolve(entry), nil)
                case .queued where entry.epoch == wire.link.epoch: return (.look(entry), nil)
                case .granted(let hold) where entry.epoch == wire.link.epoch && hold.expires > now:
                    guard !hold.isAccepted else { return (.verify(entry), nil) }
                    Self.accept(request, &book, entry, at: now)
                    return (.reply(.granted(hold.token)), nil)
                default: over = book.remove(request.id)
                }
            }
            let entry = self.entry(for: request, wire, at: now)
            book.enter(entry)
            return (.create(entry), over)
        }
        if let over { self.clear(over) }
        return beginning
    }

    private func entry(for request: LockRequest, _ wire: Wire, at now: Instant) -> RequestBook.Entry {
        RequestBook.Entry(
            request: request,
            parent: self.path(of: request.resource),
            guid: self.guids.next(self.configuration.layout, for: request.id),
            epoch: wire.link.epoch,
            since: now,
            waitEnd: request.waitLimit.map { now.advanced(by: $0) }
        )
    }

    /// Makes the lease of a grant count anew.
    static func accept(
        _ request: LockRequest,
        _ book: inout RequestBook,
        _ entry: RequestBook.Entry,
        at now: Instant
    ) {
        _ = book.update(request.id, guid: entry.guid) { entry in
            entry.hold?.isAccepted = true
            entry.hold?.expires = now.advanced(by: request.lease)
        }
    }

    /// Asks the servers whether a grant is still there.
    private func verify(_ entry: RequestBook.Entry) async throws -> AcquireReply? {
        let reply = try await self.renew(entry)
        switch reply {
        case .renewed:
            guard let hold = self.book.withLock({ $0[entry.request.id] })?.hold else { return nil }
            return .granted(hold.token)
        // Ended meanwhile; the book says how.
        case .lost, .unknown: return nil
        }
    }

    // MARK: - Creating

    private func create(_ entry: RequestBook.Entry, _ wire: Wire) async throws -> AcquireReply? {
        let request = entry.request
        if let parent = self.remover.denied(below: entry.parent) {
            self.forget(entry)
            throw self.denial(at: parent)
        }
        if request.contention == .fail, let reply = try await self.busy(entry, wire) { return reply }
        let data = NodeData(
            owner: request.owner,
            session: self.configuration.sessionTimeout,
            holding: request.holding
        ).bytes(self.owners)
        let prefix = LockName.prefix(self.configuration.layout, guid: entry.guid, request.mode, .queued)
        let path = LockPath.child(prefix, of: entry.parent)
        // Booked at once: whoever reads the queue next knows that the node is ours.
        let book: @Sendable (CallReply) -> Void = { [self] reply in
            guard reply.code == .ok, let node = self.node(reply, wire) else { return }
            _ = self.book.withLock { $0.update(request.id, guid: entry.guid) { $0.node = node } }
        }
        var (made, list) = await wire.enqueue(path, data, listing: entry.parent, book)
        if made.code == .noNode {
            do {
                try await self.makeParents(of: entry.parent, wire)
            } catch {
                self.forget(entry)
                throw error
            }
            (made, list) = await wire.enqueue(path, data, listing: entry.parent, book)
        }
        let known = self.book.withLock { $0[request.id] }
        guard let known, known.guid == entry.guid, known.node != nil else {
            return try self.unbooked(entry, made, wire)
        }
        guard list.code == .ok else { return try self.reply(.failed(list.code), to: known) }
        return try self.reply(await self.judge(known, list, wire), to: known)
    }

    /// What comes of a create whose node is not in the book; `nil` to go on.
    private func unbooked(_ entry: RequestBook.Entry, _ made: CallReply, _ wire: Wire) throws -> AcquireReply? {
        if made.code == .ok, let node = self.node(made, wire) {
            // Withdrawn, or its session ended, while it was made.
            self.remover.remove(LockPath.child(node.name.text, of: entry.parent), entry.epoch, wire.link)
            return nil
        }
        // A node that went away again between the two: the next round makes it.
        if made.code == .noNode {
            self.forget(entry)
            return nil
        }
        throw self.notMade(entry, made.code, wire)
    }

    /// The node that a create made; only one of our session counts.
    private func node(_ made: CallReply, _ wire: Wire) -> RequestBook.Node? {
        guard let stat = made.stat, stat.session == wire.link.id,
            let slash = made.path.utf8.lastIndex(of: UInt8(ascii: "/")),
            case .contender(let name) = LockName.read(
                String(made.path[made.path.utf8.index(after: slash)...]),
                as: self.configuration.layout
            )
        else { return nil }
        return RequestBook.Node(name: name, created: stat.created)
    }

    /// Books that a node was not made, or that nobody knows.
    private func notMade(_ entry: RequestBook.Entry, _ code: ServerCode, _ wire: Wire) -> LockError {
        if code.hadNoEffect {
            self.forget(entry)
        } else {
            let isWanted = self.book.withLock { book in
                book.update(entry.request.id, guid: entry.guid) { $0.phase = .unresolved } != nil
            }
            // Given up meanwhile, so nobody else will look for it.
            if !isWanted { self.remover.search(entry.parent, guid: entry.guid, entry.epoch, wire.link) }
        }
        if code == .tooManyCalls {
            return LockError(
                .limitReached,
                "too many calls to ZooKeeper at \(self.place) are unanswered; nothing was sent, so try again later"
            )
        }
        return code.error("create a node below \(entry.parent)", at: self.place)
    }

    /// The error where nodes can be made and not deleted, so that each lock would be held until the session ends.
    private func denial(at parent: String) -> LockError {
        LockError(
            .storeRefused,
            "ZooKeeper at \(self.place) does not permit to delete nodes below \(parent), so that locks there stay until the "
                + "session ends; give the store's URL a user that may, as in zookeeper://user:password@host, or permit it"
        )
    }

    private func forget(_ entry: RequestBook.Entry) {
        self.book.withLock { book in
            if book[entry.request.id]?.guid == entry.guid { _ = book.remove(entry.request.id) }
        }
    }

    /// Creates the nodes on the way to a lock.
    func makeParents(of path: String, _ wire: Wire) async throws {
        var ancestors: [String] = []
        // A mark that combines with what is before it makes one character with a slash, but no other byte.
        for index in path.utf8.indices.dropFirst() where path.utf8[index] == UInt8(ascii: "/") {
            ancestors.append(String(path[..<index]))
        }
        for _ in 0..<Self.maximumRounds where Instant.now < wire.deadline {
            if try await self.make(ancestors + [path], wire) { return }
        }
        throw LockError(.storeUnavailable, "the nodes on the way to \(path) go away faster than they can be made")
    }

    /// Makes nodes, each below the one before.
    ///
    /// - Returns: Whether that was possible; if not, one was removed again before it had a child.
    private func make(_ nodes: [String], _ wire: Wire) async throws -> Bool {
        for node in nodes {
            var reply = await wire.create(node, [], self.configuration.layout.parents)
            // Servers before 3.5.3 have no containers.
            if reply.code == .unimplemented { reply = await wire.create(node, [], .persistent) }
            switch reply.code {
            case .ok, .nodeExists: continue
            // Not ours to create, but perhaps there: what comes below will tell.
            case .noPermission where node != nodes.last: continue
            case .noNode where node != nodes.first: return false
            default: throw reply.code.error("create \(node)", at: self.place)
            }
        }
        return true
    }

    /// Says who is in the way of a request that does not want to wait; `nil` when nobody is.
    private func busy(_ entry: RequestBook.Entry, _ wire: Wire) async throws -> AcquireReply? {
        let list = await wire.children(of: entry.parent)
        switch list.code {
        case .noNode: return nil
        case .ok: break
        default:
            self.forget(entry)
            throw list.code.error("list \(entry.parent)", at: self.place)
        }
        let view = self.view(list.children)
        if let stranger = view.stranger {
            self.forget(entry)
            throw self.stranger(stranger, at: entry.parent)
        }
        guard !view.admits(entry.request.mode) else { return nil }
        self.forget(entry)
        return .busy(blockers: await self.holders(in: view, entry.parent, wire))
    }

    // MARK: - Answering

    /// What a look means for who asked; `nil` to go on.
    private func reply(_ look: Look, to entry: RequestBook.Entry) throws -> AcquireReply? {
        let request = entry.request
        switch look {
        case .granted(let token):
            self.book.withLock { Self.accept(request, &$0, entry, at: .now) }
            return .granted(token)
        case .waiting(let position, let blockers):
            if request.contention == .fail {
                // Somebody was quicker.
                if let gone = self.book.withLock({ $0.remove(request.id) }) { self.clear(gone) }
                return .busy(blockers: blockers)
            }
            return .waiting(
                AcquireReply.Waiting(
                    position: position,
                    checkAfter: self.configuration.sessionTimeout
                        + min(Limits.checkSpread * (position + 1), Limits.maximumCheckSpread),
                    blockers: blockers
                )
            )
        case .gone: return nil
        case .failed(let code):
            // The node is there; what is in its way is looked at again when it is asked for, or at the next tick.
            _ = self.book.withLock { book in
                book.update(request.id, guid: entry.guid) { if $0.hold == nil { $0.phase = .queued } }
            }
            throw code.error("look at the queue of \(entry.parent)", at: self.place)
        case .refused(let error):
            if let gone = self.book.withLock({ $0.remove(request.id) }) { self.clear(gone) }
            throw error
        }
    }

    /// Finds out whether a node was made for a request whose answer was lost.
    ///
    /// The search waits for what the leader was asked for before, also by way of another server, so what it does not
    /// find was never made; what is still on its way there belongs to a connection that the leader does not heed any more.
    private func resolve(_ entry: RequestBook.Entry, _ wire: Wire) async throws {
        let list = await wire.currentChildren(of: entry.parent)
        guard list.code == .ok || list.code == .noNode else {
            throw list.code.error("look for a node below \(entry.parent)", at: self.place)
        }
        guard let name = self.view(list.children).contenders.first(where: { $0.guid == entry.guid }) else {
            return self.forget(entry)
        }
        let found = await wire.get("\(entry.parent)/\(name.text)")
        guard found.code == .ok || found.code == .noNode else {
            throw found.code.error("look for a node below \(entry.parent)", at: self.place)
        }
        // A node of a session that is dying is nobody's.
        guard let stat = found.stat, stat.session == wire.link.id else { return self.forget(entry) }
        _ = self.book.withLock { book in
            book.update(entry.request.id, guid: entry.guid) { entry in
                entry.node = RequestBook.Node(name: name, created: stat.created)
                entry.phase = .queued
            }
        }
    }

    // MARK: - Giving up

    /// See ``LockStore/withdraw(_:)``.
    ///
    /// One round trip. The node is seen to until it is gone, whatever becomes of the answer.
    ///
    /// - Parameter request: The request.
    /// - Returns: What became of it.
    /// - Throws: Nothing; the node ends with the session at the latest.
    public func withdraw(_ request: GrantKey) async throws -> WithdrawReply {
        let entry = self.book.withLock { book in
            book.finish(request.id)
            return book.remove(request.id)
        }
        guard let entry else { return .notFound }
        guard let path = entry.path, let wire = self.wire(ofEpoch: entry.epoch) else {
            self.clear(entry)
            return entry.hold == nil ? .withdrawn : .released
        }
        var wasGranted = entry.hold != nil
        if !wasGranted {
            let list = await wire.children(of: entry.parent)
            let view = self.view(list.children)
            wasGranted = view.index(of: entry.node?.name.text ?? "").map { view.verdict(at: $0) == .granted } ?? false
        }
        let deleted = await wire.delete(path)
        switch deleted.code {
        case .ok: self.clear(entry.withoutNode)
        case .noNode:
            self.clear(entry.withoutNode)
            // Somebody took it away, and the news had not come.
            if entry.hold != nil { self.handlers.emit(.lost(request.id, .forced)) }
            return .notFound
        default: self.clear(entry)
        }
        return wasGranted ? .released : .withdrawn
    }
}

extension ZooKeeperConfiguration.Layout {
    /// What the nodes on the way to a lock are: containers, which the servers remove when they have been empty for a while;
    /// but nodes that stay for kazoo, whose clients make them once and would not find a new one.
    var parents: Handle.Kind { self == .kazoo ? .persistent : .container }
}
