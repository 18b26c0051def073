// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore
import Synchronization

/// Changing the mode of a grant: another node takes the place of its own, with the same number, in one transaction.
///
/// To a mode that lets in more, that is all. To one that lets in less, the node is an *upgrade* node first, which keeps
/// newcomers out; then the queue is read, and the change is completed, waits, or is taken back. See ``QueueView``.
extension ZooKeeperLockStore {
    /// See ``LockStore/convert(_:)``.
    ///
    /// Two round trips to a mode that lets in more, four to one that lets in less; six when it is taken back. With the
    /// layouts `curator-rw` and `kazoo` only an exclusive lock can become shared: their readers do not know of upgrades.
    ///
    /// - Parameter conversion: The grant and its new mode.
    /// - Returns: What became of it.
    /// - Throws: ``LockError``; the mode is then unknown unless the message says otherwise.
    public func convert(_ conversion: Conversion) async throws -> ConvertReply {
        if case .permit(of: let count) = conversion.mode, count < 1 {
            throw LockError(.invalidArgument, "a semaphore needs at least 1 permit, not \(count)")
        }
        let id = conversion.key.id
        guard let known = self.book.withLock({ $0[id] }) else { return .lost }
        let wire = try await self.wire()
        guard known.epoch == wire.link.epoch else { return .lost }
        if case .queued = known.phase { _ = await self.look(known, wire) }
        if known.hold?.successor != nil { try await self.settle(known, wire) }
        guard let entry = self.book.withLock({ $0[id] }), let hold = entry.hold else { return .lost }
        try self.checkCarried(hold.mode, to: conversion.mode)
        if let upgrade = hold.upgrade {
            guard conversion.mode != .exclusive else { return try await self.awaitUpgrade(entry, conversion, wire) }
            let taken = try await self.replace(entry, upgrade.mode, .held, token: hold.token, wire)
            guard let taken else { return .lost }
            guard conversion.mode != upgrade.mode else { return .converted(hold.token) }
            return try await self.change(taken, conversion, wire)
        }
        if hold.mode != .exclusive, entry.node?.name.standing == .upgrade {
            // A wish of which the answer was lost: nobody waits for it, and it keeps newcomers out.
            let taken = try await self.replace(entry, hold.mode, .held, token: hold.token, wire)
            guard let taken else { return .lost }
            guard hold.mode != conversion.mode else { return .converted(hold.token) }
            return try await self.change(taken, conversion, wire)
        }
        guard hold.mode != conversion.mode else {
            // Somebody may have taken it away without a watch to tell.
            if hold.watch == nil, await self.isGone(entry, wire) { return .lost }
            return .converted(hold.token)
        }
        return try await self.change(entry, conversion, wire)
    }

    private func checkCarried(_ old: LockMode, to new: LockMode) throws(LockError) {
        guard self.configuration.layout != .curator, old != new, old != .exclusive || new != .shared else { return }
        throw LockError(
            .unsupported,
            "the \(self.configuration.layout.rawValue) layout of the zookeeper store has only the downgrade from exclusive "
                + "to shared"
        )
    }

    private func change(
        _ entry: RequestBook.Entry,
        _ conversion: Conversion,
        _ wire: Wire
    ) async throws -> ConvertReply {
        guard let hold = entry.hold else { return .lost }
        let old = hold.mode
        if old == .exclusive || (old == .update && conversion.mode == .shared) {
            guard try await self.replace(entry, conversion.mode, .held, token: hold.token, wire) != nil else {
                return .lost
            }
            return .converted(hold.token)
        }
        guard let wishing = try await self.replace(entry, old, .upgrade, token: hold.token, wire) else { return .lost }
        let others = try await self.others(than: wishing, wire)
        guard let others else { return .lost }
        if conversion.mode.isCompatible(with: others.map(\.mode)) {
            if conversion.mode == .exclusive {
                let token = try await self.newToken(wishing.parent, wire)
                return .converted(self.complete(wishing, token, isNews: false))
            }
            guard try await self.replace(wishing, conversion.mode, .held, token: hold.token, wire) != nil else {
                return .lost
            }
            return .converted(hold.token)
        }
        guard conversion.contention == .queue, conversion.mode == .exclusive, old == .update else {
            guard try await self.replace(wishing, old, .held, token: hold.token, wire) != nil else { return .lost }
            return .busy(blockers: await self.describe(others, wishing.parent, wire))
        }
        _ = self.book.withLock { book in
            book.update(entry.request.id, guid: entry.guid) {
                $0.hold?.upgrade = RequestBook.Upgrade(holding: conversion.holding, mode: old)
            }
        }
        return try await self.awaitUpgrade(wishing, conversion, wire)
    }

    // MARK: - Waiting to be exclusive

    /// Says how a wait stands; watches one of those in the way.
    private func awaitUpgrade(
        _ entry: RequestBook.Entry,
        _ conversion: Conversion,
        _ wire: Wire
    ) async throws -> ConvertReply {
        let id = entry.request.id
        while Instant.now < wire.deadline {
            guard let others = try await self.others(than: entry, wire) else { return .lost }
            guard let first = others.first else {
                if let hold = self.book.withLock({ $0[id] })?.hold, hold.mode == .exclusive {
                    return .converted(hold.token)
                }
                let token = try await self.newToken(entry.parent, wire)
                return .converted(self.complete(entry, token, isNews: true))
            }
            guard let watch = await self.watch(first, of: entry, wire) else { continue }
            let old = self.book.withLock { book in
                book.update(id, guid: entry.guid) { entry -> UInt? in
                    guard entry.hold?.upgrade != nil else { return watch }
                    defer { entry.hold?.upgrade?.watch = watch }
                    return entry.hold?.upgrade?.watch
                } ?? watch
            }
            self.drop(watches: [old].compactMap(\.self))
            guard let hold = self.book.withLock({ $0[id] })?.hold else { return .lost }
            // It was completed while we looked.
            guard hold.upgrade != nil else { return .converted(hold.token) }
            return .waiting(
                AcquireReply.Waiting(
                    position: 0,
                    checkAfter: self.configuration.sessionTimeout,
                    blockers: await self.describe(others, entry.parent, wire)
                )
            )
        }
        throw LockError(
            .storeUnavailable,
            "the queue of \(entry.request.resource) changed faster than it could be read"
        )
    }

    /// Watches another holder's node; `nil` when it is gone already.
    private func watch(_ other: LockName, of entry: RequestBook.Entry, _ wire: Wire) async -> UInt? {
        let id = entry.request.id
        let path = "\(entry.parent)/\(other.text)"
        let watch = wire.link.handle.addWatch(on: path) { [weak self] _ in self?.upgradeMoved(id) }
        let reply = await wire.get(path, watch: watch)
        guard reply.code != .ok else { return watch }
        self.drop(watches: [watch])
        return nil
    }

    /// Somebody in the way of an upgrade is gone.
    ///
    /// Called on threads of the client library.
    func upgradeMoved(_ id: RequestID) {
        let known = self.book.withLock { book -> RequestBook.Entry? in
            guard let entry = book[id], entry.hold?.upgrade != nil else { return nil }
            // The watch is over; without a wire, the next tick looks.
            _ = book.update(id, guid: entry.guid) { $0.hold?.upgrade?.watch = nil }
            return entry
        }
        guard let entry = known, entry.hold?.upgrade?.isLooking == false, let node = entry.node,
            let wire = self.wire(ofEpoch: entry.epoch)
        else { return }
        _ = self.book.withLock { book in book.update(id, guid: entry.guid) { $0.hold?.upgrade?.isLooking = true } }
        wire.link.handle.sync(entry.parent, wire.terms { _ in })
        let terms = wire.terms { [weak self] reply in
            guard let self else { return }
            let view = self.view(reply.children)
            guard reply.code == .ok, let index = view.index(of: node.name.text) else {
                return self.looked(for: id, entry.guid, reply.code)
            }
            let candidates = view.olderCandidates(behind: index).map { view.contenders[$0] }
            let gathering = Gathering(candidates.count) { replies in
                let others = Self.others(view, index, node.created, candidates, replies)
                guard let first = others.first else {
                    self.newToken(entry.parent, wire) { result in
                        switch result {
                        case .success(let token): _ = self.complete(entry, token, isNews: true)
                        case .failure(let failure): self.looked(for: id, entry.guid, failure.code)
                        }
                    }
                    return
                }
                let path = "\(entry.parent)/\(first.text)"
                let watch = wire.link.handle.addWatch(on: path) { [weak self] _ in self?.upgradeMoved(id) }
                let isWanted = self.book.withLock { book in
                    book.update(id, guid: entry.guid) { entry in
                        guard entry.hold?.upgrade != nil, entry.hold?.upgrade?.watch == nil else { return false }
                        entry.hold?.upgrade?.watch = watch
                        return true
                    } ?? false
                }
                guard isWanted else {
                    self.drop(watches: [watch])
                    return self.looked(for: id, entry.guid, .ok)
                }
                wire.link.handle.get(
                    path,
                    watch: watch,
                    wire.terms { reply in
                        self.looked(for: id, entry.guid, reply.code, forgetting: reply.code == .ok ? nil : watch)
                        if reply.code == .noNode { self.upgradeMoved(id) }
                    }
                )
            }
            for (place, name) in candidates.enumerated() {
                wire.link.handle.get(
                    "\(entry.parent)/\(name.text)",
                    wire.terms { gathering.put($0, at: place) }
                )
            }
        }
        wire.link.handle.children(of: entry.parent, terms)
    }

    /// Books that it is not being found out any more who else holds; the next tick looks again if nothing is watched.
    private func looked(for id: RequestID, _ guid: String, _ code: ServerCode, forgetting watch: UInt? = nil) {
        self.drop(watches: [watch].compactMap(\.self))
        _ = self.book.withLock { book in
            book.update(id, guid: guid) { entry in
                entry.hold?.upgrade?.isLooking = false
                if let watch, entry.hold?.upgrade?.watch == watch { entry.hold?.upgrade?.watch = nil }
                if code == .ok || code.isPassing { entry.rest = nil } else { entry.restLonger() }
            }
        }
    }

    /// Books that a grant is exclusive.
    ///
    /// - Returns: Its new token.
    private func complete(_ entry: RequestBook.Entry, _ new: FencingToken, isNews: Bool) -> FencingToken {
        let id = entry.request.id
        let (token, watch, isFirst) = self.book.withLock { book -> (FencingToken, UInt?, Bool) in
            book.update(id, guid: entry.guid) { entry -> (FencingToken, UInt?, Bool) in
                guard var hold = entry.hold, entry.node?.name.standing == .upgrade else {
                    return (entry.hold?.token ?? .zero, nil, false)
                }
                // Two looks may have found it at once: the first gives the token.
                guard hold.mode != .exclusive else { return (hold.token, nil, false) }
                hold.mode = .exclusive
                hold.token = new
                let watch = hold.upgrade?.watch
                hold.upgrade = nil
                entry.hold = hold
                return (hold.token, watch, true)
            } ?? (.zero, nil, false)
        }
        self.drop(watches: [watch].compactMap(\.self))
        self.forgetRegistration(of: id)
        if isNews, isFirst { self.handlers.emit(.granted(id)) }
        return token
    }

    /// Who holds besides an upgrade node; `nil` when the node is gone.
    private func others(than entry: RequestBook.Entry, _ wire: Wire) async throws -> [LockName]? {
        guard let node = entry.node else { return nil }
        let list = await wire.children(of: entry.parent)
        guard list.code == .ok else { throw list.code.error("list \(entry.parent)", at: self.place) }
        let view = self.view(list.children)
        guard let index = view.index(of: node.name.text) else {
            return self.deleted(entry.request.id, entry.path ?? "") ? nil : []
        }
        let candidates = view.olderCandidates(behind: index).map { view.contenders[$0] }
        let replies = await wire.get(candidates.map { "\(entry.parent)/\($0.text)" })
        return Self.others(view, index, node.created, candidates, replies)
    }

    private static func others(
        _ view: QueueView,
        _ index: Int,
        _ own: Int64,
        _ candidates: [LockName],
        _ replies: [CallReply]
    ) -> [LockName] {
        var created = [view.contenders[index].text: own]
        for (name, reply) in zip(candidates, replies) {
            // One that is gone holds nothing.
            created[name.text] = reply.code == .noNode ? .max : reply.stat?.created
        }
        return view.others(besides: index, created: created).map { view.contenders[$0] }
    }

    private func describe(_ names: [LockName], _ parent: String, _ wire: Wire) async -> [Holder] {
        let named = names.prefix(Self.maximumNamed)
        let replies = await wire.get(named.map { "\(parent)/\($0.text)" })
        return zip(named, replies).filter { $0.1.code == .ok }.map { self.holder($0.0, $0.1, as: $0.0.mode) }
    }

    // MARK: - Replacing

    /// Puts another node in the place of a grant's.
    ///
    /// - Returns: The entry with its new node, or `nil` when the grant is lost.
    private func replace(
        _ entry: RequestBook.Entry,
        _ mode: LockMode,
        _ standing: LockName.Standing,
        token: FencingToken,
        _ wire: Wire
    ) async throws -> RequestBook.Entry? {
        // What was written into the old node would be lost with it.
        if entry.hold?.watch == nil, await self.isGone(entry, wire) { return nil }
        guard let old = entry.node, let path = entry.path else { return nil }
        let guid = self.guids.next(self.configuration.layout, for: entry.request.id)
        let name = LockName.replacement(
            self.configuration.layout,
            guid: guid,
            mode,
            standing,
            sequence: old.name.sequence
        )
        let isAsked = self.book.withLock { $0[entry.request.id] }?.hold?.revokeRequested ?? false
        let data = NodeData(
            owner: entry.request.owner,
            session: self.configuration.sessionTimeout,
            holding: entry.request.holding,
            token: token.rawValue,
            revoke: isAsked,
            held: entry.hold.map { $0.since.duration(to: .now) }
        )
        let watches = self.book.withLock { book in
            book.update(entry.request.id, guid: entry.guid) { entry -> [UInt]? in
                guard entry.node == old, entry.hold != nil else { return nil }
                entry.hold?.successor = name
                defer {
                    entry.hold?.watch = nil
                    entry.hold?.upgrade?.watch = nil
                }
                return [entry.hold?.watch, entry.hold?.upgrade?.watch].compactMap(\.self)
            } ?? nil
        }
        guard let watches else { return nil }
        self.drop(watches: watches)
        let reply = await wire.replace(path, by: "\(entry.parent)/\(name.text)", data.bytes(self.owners))
        switch reply.code {
        case .ok: break
        case .noNode:
            _ = self.book.withLock { $0.update(entry.request.id, guid: entry.guid) { $0.hold?.successor = nil } }
            _ = self.deleted(entry.request.id, path)
            return nil
        default:
            self.doubt(entry, name, isMade: reply.code.hadNoEffect ? false : nil)
            throw reply.code.error("change a lock below \(entry.parent)", at: self.place)
        }
        let found = await wire.get("\(entry.parent)/\(name.text)")
        guard found.code == .ok || found.code == .noNode else {
            self.doubt(entry, name, isMade: nil)
            throw found.code.error("read a lock below \(entry.parent)", at: self.place)
        }
        return self.adopt(name, mode, entry, found)
    }

    /// Books what is known of a node that was to take the place of another: that it was not made, or nothing.
    private func doubt(_ entry: RequestBook.Entry, _ name: LockName, isMade: Bool?) {
        _ = self.book.withLock { book in
            book.update(entry.request.id, guid: entry.guid) { entry in
                guard entry.hold?.successor == name else { return }
                if isMade == false { entry.hold?.successor = nil }
                entry.hold?.isUnsettled = isMade == nil
            }
        }
    }

    /// Books a node that took the place of another, and was read; `nil` when it is gone again.
    private func adopt(
        _ name: LockName,
        _ mode: LockMode,
        _ entry: RequestBook.Entry,
        _ found: CallReply
    ) -> RequestBook.Entry? {
        let id = entry.request.id
        guard found.code == .ok else {
            let gone = self.book.withLock { book -> RequestBook.Entry? in
                guard book[id]?.hold?.successor == name else { return nil }
                book.finish(id)
                return book.remove(id)
            }
            guard let gone else { return nil }
            self.clear(gone)
            self.handlers.emit(.lost(id, .forced))
            return nil
        }
        let adopted = self.book.withLock { book in
            book.update(id, guid: entry.guid) { entry in
                // Two may have found it.
                guard entry.hold?.successor == name else { return entry }
                entry.hold?.watch = nil
                entry.hold?.isUnsettled = false
                entry.node = RequestBook.Node(name: name, created: found.stat?.created ?? 0)
                entry.hold?.successor = nil
                if name.standing != .upgrade {
                    entry.hold?.mode = mode
                    entry.hold?.upgrade = nil
                }
                return entry
            }
        }
        self.guardHold(id)
        for dependent in self.book.withLock({ $0.takeDependents(of: id) }) { self.wake(dependent) }
        return adopted
    }

    /// Finds out which node a grant has after the answer to a change was lost, for whoever asks.
    @concurrent
    func settle(_ entry: RequestBook.Entry, _ wire: Wire) async throws {
        let code = await withCheckedContinuation { continuation in
            self.settle(entry, wire) { continuation.resume(returning: $0) }
        }
        guard code == .ok else { throw code.error("read a lock below \(entry.parent)", at: self.place) }
    }

    /// Finds out which node a grant has, since nobody may ask before its lease is over.
    func settleDoubt(about id: RequestID) {
        guard let entry = self.book.withLock({ $0[id] }), entry.hold?.isUnsettled == true,
            let wire = self.wire(ofEpoch: entry.epoch)
        else { return }
        // Should it fail, the next tick asks again.
        self.settle(entry, wire) { _ in }
    }

    private func settle(
        _ entry: RequestBook.Entry,
        _ wire: Wire,
        _ done: @escaping @Sendable (ServerCode) -> Void
    ) {
        guard let successor = entry.hold?.successor else { return done(.ok) }
        _ = self.book.withLock { book in
            book.update(entry.request.id, guid: entry.guid) { $0.hold?.isUnsettled = false }
        }
        // What was proposed and is not committed yet would be missed, and come later.
        let word = FirstReply()
        wire.link.handle.sync(entry.parent, wire.terms { word.put($0) })
        let terms = wire.terms { [weak self] found in
            guard let self else { return done(.closing) }
            let code = word.take().code
            switch (code, found.code) {
            case (.ok, .ok):
                _ = self.adopt(successor, successor.mode, entry, found)
                done(.ok)
            case (.ok, .noNode):
                self.doubt(entry, successor, isMade: false)
                done(.ok)
            default:
                self.doubt(entry, successor, isMade: nil)
                done(code == .ok ? found.code : code)
            }
        }
        wire.link.handle.get("\(entry.parent)/\(successor.text)", terms)
    }

    @concurrent
    private func isGone(_ entry: RequestBook.Entry, _ wire: Wire) async -> Bool {
        await withCheckedContinuation { continuation in
            self.inspect(entry, wire) { isThere in continuation.resume(returning: isThere == false) }
        }
    }
}
