// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore

extension ZooKeeperLockStore {
    /// The most waiters that a status reads: about a tenth of a second of a server's time.
    private static var maximumDescribed: Int { 1000 }

    /// See ``LockStore/revoke(_:)``.
    ///
    /// Three round trips, and one more for each holder after the first. Writes the wish into the nodes of all holders: ours
    /// hear of it at once, and so do holders that were made revocable with Curator; kazoo knows no such thing.
    ///
    /// - Parameter resource: The resource.
    /// - Returns: Who was asked, and how many could be.
    /// - Throws: ``LockError``.
    public func revoke(_ resource: Resource) async throws -> RevokeReply {
        let wire = try await self.wire()
        let parent = self.path(of: resource)
        guard let queue = try await self.readHolders(parent, wire) else { return RevokeReply(asked: [], reached: 0) }
        var reached = 0
        for place in queue.holders where try await self.ask(queue.view.contenders[place], queue, parent, wire) {
            reached += 1
        }
        return RevokeReply(asked: self.describe(queue, resource).holders, reached: reached)
    }

    /// Writes the wish into one node.
    private func ask(_ name: LockName, _ queue: Queue, _ parent: String, _ wire: Wire) async throws -> Bool {
        let path = "\(parent)/\(name.text)"
        var reply = queue.replies[name.text] ?? CallReply(code: .noNode)
        // Its holder may write at the same time, once.
        for _ in 0..<2 {
            guard reply.code == .ok, let stat = reply.stat else { return false }
            var data = NodeData.read(reply.data)
            data.revoke = true
            guard data.owner != nil || queue.view.layout != .kazoo else { return false }
            let bytes = data.owner == nil ? NodeData.curatorsRevocation : data.bytes(self.owners)
            let written = await wire.set(path, bytes, version: stat.version)
            switch written.code {
            case .ok: return true
            case .badVersion: reply = await wire.get(path)
            case .noNode: return false
            default: throw written.code.error("write to \(path)", at: self.place)
            }
        }
        return false
    }

    /// See ``LockStore/forceRelease(_:)``.
    ///
    /// Three round trips. Deletes the nodes of all holders, however many and whoever's they are; the next waiter goes on by
    /// itself.
    ///
    /// - Parameter resource: The resource.
    /// - Returns: Who held it.
    /// - Throws: ``LockError``; whether it took effect is then unknown.
    public func forceRelease(_ resource: Resource) async throws -> [Holder] {
        let wire = try await self.wire()
        let parent = self.path(of: resource)
        guard let queue = try await self.readHolders(parent, wire) else { return [] }
        let holders = self.describe(queue, resource).holders
        let names = queue.holders.map { queue.view.contenders[$0] }
        // Ours are told by the deletes below, or here when they have no watch yet.
        let own = names.compactMap(self.own)
        let replies = await wire.delete(names.map { "\(parent)/\($0.text)" })
        for reply in replies where reply.code != .ok && reply.code != .noNode {
            throw reply.code.error("delete a holder's node below \(parent)", at: self.place)
        }
        for entry in own { if let path = entry.path { _ = self.deleted(entry.request.id, path) } }
        return holders
    }

    /// See ``LockStore/status(of:)``.
    ///
    /// Two round trips, the first with the leader: the queue, and the data of up to 1,000 nodes. Nodes may go between the
    /// two. A queue of another layout is shown as what it is.
    ///
    /// - Parameter resource: The resource.
    /// - Returns: Its holders and waiters.
    /// - Throws: ``LockError``.
    public func status(of resource: Resource) async throws -> ResourceStatus {
        let wire = try await self.wire()
        let queue = try await self.read(self.path(of: resource), isCurrent: true, wire)
        return queue.map { self.describe($0, resource) }
            ?? ResourceStatus(resource: resource, holders: [], waiters: [])
    }

    // MARK: - Reading a queue

    /// A queue with what its nodes say.
    struct Queue: Sendable {
        let view: QueueView
        var replies: [String: CallReply] = [:]
        /// Who holds, by place.
        var holders: [Int] = []

        func reply(at place: Int) -> CallReply {
            self.replies[self.view.contenders[place].text] ?? CallReply(code: .noNode)
        }
    }

    /// Lists a queue, if need be when the server knows all that the leader knows, and reads its nodes; `nil` when nobody
    /// holds or waits.
    func read(_ parent: String, isCurrent: Bool = false, _ wire: Wire) async throws -> Queue? {
        let list = isCurrent ? await wire.currentChildren(of: parent) : await wire.children(of: parent)
        switch list.code {
        case .ok: break
        case .noNode: return nil
        default: throw list.code.error("list \(parent)", at: self.place)
        }
        return try await self.read(self.viewAsItIs(list.children), parent, wire)
    }

    func read(_ view: QueueView, _ parent: String, _ wire: Wire) async throws -> Queue? {
        try await self.read(view, view.contenders.prefix(Self.maximumDescribed).map(\.text), parent, wire)
    }

    /// Lists a queue and reads the nodes of all who hold, and of nobody else; `nil` when nobody holds or waits.
    private func readHolders(_ parent: String, _ wire: Wire) async throws -> Queue? {
        let list = await wire.children(of: parent)
        switch list.code {
        case .ok: break
        case .noNode: return nil
        default: throw list.code.error("list \(parent)", at: self.place)
        }
        let view = self.viewAsItIs(list.children)
        return try await self.read(view, view.possibleHolders.map { view.contenders[$0].text }, parent, wire)
    }

    private func read(_ view: QueueView, _ names: [String], _ parent: String, _ wire: Wire) async throws -> Queue? {
        guard !view.contenders.isEmpty else { return nil }
        var queue = Queue(view: view)
        for (name, reply) in zip(names, await wire.get(names.map { "\(parent)/\($0)" })) {
            guard reply.code == .ok || reply.code == .noNode else {
                throw reply.code.error("read \(parent)", at: self.place)
            }
            queue.replies[name] = reply
        }
        // What went away meanwhile is neither holder nor waiter any more, but whoever it kept out has not heard yet.
        queue.holders = view.holders(created: queue.replies.compactMapValues { $0.stat?.created })
            .filter { queue.reply(at: $0).code == .ok }
        return queue
    }

    /// The holders of a queue, at most as many as an answer names.
    func holders(in view: QueueView, _ parent: String, _ wire: Wire) async -> [Holder] {
        let places = view.possibleHolders.prefix(Self.maximumNamed)
        let replies = await wire.get(places.map { "\(parent)/\(view.contenders[$0].text)" })
        return self.holders(in: view, Array(zip(places, replies)))
    }

    /// The holders among nodes that were read.
    func holders(in view: QueueView, _ read: [(place: Int, reply: CallReply)], besides name: String = "") -> [Holder] {
        let replies = Dictionary(read.map { ($0.place, $0.reply) }) { first, _ in first }
        let holders = view.holders(created: self.ages(in: view, read)).filter { view.contenders[$0].text != name }
        return holders.compactMap { place in
            guard let reply = replies[place], reply.code == .ok else { return nil }
            return self.holder(view.contenders[place], reply, as: view.mode(of: place, among: holders))
        }
    }

    /// The transactions that created nodes that were read, if there is an upgrade node: without one nobody goes by them.
    func ages(in view: QueueView, _ read: [(place: Int, reply: CallReply)]) -> [String: Int64] {
        guard view.contenders.contains(where: { $0.standing == .upgrade }) else { return [:] }
        var created: [String: Int64] = [:]
        for (place, reply) in read { created[view.contenders[place].text] = reply.stat?.created }
        return created
    }

    /// Describes a queue; the moment is that of ``waiter(_:_:at:)``.
    func describe(_ queue: Queue, _ resource: Resource, at moment: Int64? = nil) -> ResourceStatus {
        let holders = Set(queue.holders)
        var waiters: [Waiter] = []
        for (place, name) in queue.view.contenders.enumerated() where queue.reply(at: place).code == .ok {
            if name.standing == .upgrade, queue.holders.count > 1 {
                waiters.insert(self.upgrader(name, queue.reply(at: place), at: moment), at: 0)
            } else if !holders.contains(place) {
                waiters.append(self.waiter(name, queue.reply(at: place), at: moment))
            }
        }
        let described = queue.holders.map { place -> Holder in
            let mode = queue.view.mode(of: place, among: queue.holders)
            return self.holder(queue.view.contenders[place], queue.reply(at: place), as: mode)
        }
        return ResourceStatus(resource: resource, holders: described, waiters: waiters)
    }

    /// A holder as the waiter that it is while it waits to become exclusive.
    private func upgrader(_ name: LockName, _ reply: CallReply, at moment: Int64?) -> Waiter {
        var waiter = self.waiter(name, reply, at: moment)
        waiter.mode = .exclusive
        if let hold = self.own(name)?.hold, let upgrade = hold.upgrade {
            waiter.holding = [waiter.reference] + upgrade.holding
        } else {
            waiter.holding = [waiter.reference] + waiter.holding.filter { $0 != waiter.reference }
        }
        return waiter
    }
}
