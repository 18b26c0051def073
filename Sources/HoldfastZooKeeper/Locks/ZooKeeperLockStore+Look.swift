// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import Synchronization

/// Looking at the queue: from a list of children to a grant, or to watches on what is in the way.
extension ZooKeeperLockStore {
    /// What a look at a request's place found.
    enum Look: Sendable {
        case granted(FencingToken)
        case waiting(position: Int, blockers: [Holder])
        /// The request has no node any more, or has to start anew.
        case gone
        case failed(ServerCode)
        case refused(LockError)
    }

    /// On whose behalf a look happens.
    enum Asker: Sendable {
        /// The request itself asks; it accepts what it is granted, and wants to know who is in the way.
        case request
        /// A watch fired; the request is told, and has its acceptance time.
        case watch
    }

    /// The most holders that an answer names.
    static var maximumNamed: Int { 100 }

    // MARK: - Beginning

    /// Looks for a request that asks.
    @concurrent
    func look(_ entry: RequestBook.Entry, _ wire: Wire) async -> Look {
        await withCheckedContinuation { continuation in
            self.look(entry.request.id, entry, wire, .request) { continuation.resume(returning: $0) }
        }
    }

    /// Looks at a list that was made after the request's node.
    @concurrent
    func judge(_ entry: RequestBook.Entry, _ list: CallReply, _ wire: Wire) async -> Look {
        let id = entry.request.id
        switch self.judge(id, entry, list, .request) {
        // Nearly always; the other way suspends.
        case .over(let look): return look
        case .open(let question):
            return await withCheckedContinuation { continuation in
                self.answer(question, id, entry, list, wire, .request) { continuation.resume(returning: $0) }
            }
        }
    }

    /// Looks because a node before a request's is gone, or because nothing is watched.
    ///
    /// Called on threads of the client library.
    func wake(_ id: RequestID) {
        let entry = self.book.withLock { book -> RequestBook.Entry? in
            guard let entry = book[id], entry.node != nil, entry.hold == nil else { return nil }
            guard case .queued = entry.phase, !entry.isLooking else {
                // Whoever looks now may have looked too early.
                _ = book.update(id, guid: entry.guid) { $0.hasMissed = true }
                return nil
            }
            // Whoever has no wire looks again at the next tick.
            _ = book.update(id, guid: entry.guid) { entry in
                entry.watches = []
                entry.waitsFor = nil
            }
            return entry
        }
        guard let entry else { return }
        self.drop(watches: entry.watches)
        guard let wire = self.wire(ofEpoch: entry.epoch) else { return }
        _ = self.book.withLock { $0.update(id, guid: entry.guid) { $0.isLooking = true } }
        self.look(id, entry, wire, .watch) { [weak self] outcome in
            guard let self else { return }
            _ = self.book.withLock { $0.update(id, guid: entry.guid) { $0.isLooking = false } }
            switch outcome {
            case .gone: self.handlers.emit(.check(id, after: .zero))
            case .granted, .waiting: _ = self.book.withLock { $0.update(id, guid: entry.guid) { $0.rest = nil } }
            // The next tick looks again.
            case .failed(let code) where code.isPassing: break
            case .failed, .refused:
                _ = self.book.withLock { $0.update(id, guid: entry.guid) { $0.restLonger() } }
                // Whoever asks is told what is wrong.
                self.handlers.emit(.check(id, after: .zero))
            }
        }
    }

    private func look(
        _ id: RequestID,
        _ entry: RequestBook.Entry,
        _ wire: Wire,
        _ asker: Asker,
        _ done: @escaping @Sendable (Look) -> Void
    ) {
        let terms = wire.terms { reply in
            switch reply.code {
            case .ok: self.judge(id, entry, reply, wire, asker, done)
            case .noNode: done(self.taken(id, entry))
            default: done(.failed(reply.code))
            }
        }
        wire.link.handle.children(of: entry.parent, terms)
    }

    // MARK: - Judging

    private enum Step {
        case known(Look)
        case promoted(FencingToken, isNews: Bool, [UInt])
        /// Granted, but its own transaction is below a token that was given before.
        case outrun
        case blocked(position: Int, watch: [Int], node: RequestBook.Node)
        case vanished
    }

    /// What a list says of a request.
    private enum Judgement {
        case over(Look)
        case open(Question)
    }

    /// What has to be asked before it is clear how a request stands.
    private enum Question {
        /// A token above those that were given.
        case token
        /// Who is in the way; `given` is the transaction of the last token that was taken without a node.
        case blockers(QueueView, given: Int64, position: Int, watch: [Int], node: RequestBook.Node)
    }

    private func judge(
        _ id: RequestID,
        _ entry: RequestBook.Entry,
        _ list: CallReply,
        token: FencingToken? = nil,
        _ wire: Wire,
        _ asker: Asker,
        _ done: @escaping @Sendable (Look) -> Void
    ) {
        switch self.judge(id, entry, list, token: token, asker) {
        case .over(let look): done(look)
        case .open(let question): self.answer(question, id, entry, list, wire, asker, done)
        }
    }

    /// Books what a list says of a request.
    private func judge(
        _ id: RequestID,
        _ entry: RequestBook.Entry,
        _ list: CallReply,
        token: FencingToken? = nil,
        _ asker: Asker
    ) -> Judgement {
        let listed = self.view(list.children)
        let given = list.stat?.modified ?? .min
        if let stranger = listed.stranger { return .over(.refused(self.stranger(stranger, at: entry.parent))) }
        let (view, step) = self.book.withLock { book in
            let view = listed.without(book.isGone)
            let step = book.update(id, guid: entry.guid) { Self.step(&$0, view, asker, token, given: given) }
            return (view, step ?? .known(.gone))
        }
        switch step {
        case .known(let look): return .over(look)
        case .vanished: return .over(self.taken(id, entry))
        case .outrun: return .open(.token)
        case .promoted(let token, let isNews, let watches):
            self.drop(watches: watches)
            self.forgetRegistration(of: id)
            if isNews {
                self.handlers.emit(.granted(id))
                self.guardHold(id)
            }
            return .over(.granted(token))
        case .blocked(let position, let watch, let node):
            return .open(.blockers(view, given: given, position: position, watch: watch, node: node))
        }
    }

    private func answer(
        _ question: Question,
        _ id: RequestID,
        _ entry: RequestBook.Entry,
        _ list: CallReply,
        _ wire: Wire,
        _ asker: Asker,
        _ done: @escaping @Sendable (Look) -> Void
    ) {
        switch question {
        case .token:
            self.newToken(entry.parent, wire) { result in
                switch result {
                case .success(let token): self.judge(id, entry, list, token: token, wire, asker, done)
                case .failure(let failure): done(.failed(failure.code))
                }
            }
        case .blockers(let view, let given, let position, let watch, let node):
            self.block(entry, node, view, given, position, watch, wire, asker, done)
        }
    }

    private static func step(
        _ entry: inout RequestBook.Entry,
        _ view: QueueView,
        _ asker: Asker,
        _ token: FencingToken?,
        given: Int64
    ) -> Step {
        if let hold = entry.hold { return .known(.granted(hold.token)) }
        guard let node = entry.node, let index = view.index(of: node.name.text) else { return .vanished }
        switch view.verdict(at: index) {
        case .blocked(let position, let watch): return .blocked(position: position, watch: watch, node: node)
        case .granted:
            guard token != nil || node.created > given else { return .outrun }
            let isNews = if case .queued = entry.phase { true } else { false }
            let token = token ?? FencingToken(rawValue: UInt64(clamping: node.created))
            entry.hold(token, isAccepted: asker == .request)
            defer { entry.watches = [] }
            return .promoted(token, isNews: isNews, entry.watches)
        }
    }

    /// Somebody else deleted the node of a request that was waiting, or was being handed the lock.
    func taken(_ id: RequestID, _ entry: RequestBook.Entry) -> Look {
        let gone = self.book.withLock { book -> RequestBook.Entry? in
            guard let known = book[id], known.guid == entry.guid else { return nil }
            book.finish(id)
            return book.remove(id)
        }
        guard let gone else { return .gone }
        self.clear(gone)
        self.handlers.emit(.lost(id, .forced))
        return .gone
    }

    /// Takes a request out of the queue, to be put at its end.
    private func stepBack(_ id: RequestID, _ entry: RequestBook.Entry) -> Look {
        let gone = self.book.withLock { book -> RequestBook.Entry? in
            guard let known = book[id], known.guid == entry.guid, known.hold == nil else { return nil }
            return book.remove(id)
        }
        if let gone { self.clear(gone) }
        return .gone
    }

    // MARK: - Waiting

    /// Watches what is in the way, reads who holds, and looks again if something changed meanwhile.
    private func block(
        _ entry: RequestBook.Entry,
        _ node: RequestBook.Node,
        _ view: QueueView,
        _ given: Int64,
        _ position: Int,
        _ watch: [Int],
        _ wire: Wire,
        _ asker: Asker,
        _ done: @escaping @Sendable (Look) -> Void
    ) {
        let id = entry.request.id
        let mustGo = view.index(of: node.name.text).flatMap(view.ahead)
        let own = self.ownEntries(in: view, watch + (asker == .request ? view.possibleHolders : []) + (mustGo ?? []))
        let ahead = mustGo.map { places in
            let known = places.compactMap { own[$0] }
            return RequestBook.Ahead(
                own: known.map { RequestBook.Ahead.Place(id: $0.request.id, guid: $0.guid) },
                isComplete: known.count == places.count,
                given: given
            )
        }
        // A node of this store goes when this store deletes it; no server has to tell.
        let before = watch.count == 1 ? own[watch[0]] : nil
        let watched = before == nil ? watch : []
        let named = asker == .request ? view.possibleHolders.prefix(Self.maximumNamed) : []
        let places = watched + named.filter { !watched.contains($0) && own[$0] == nil }
        // Whoever asks again has the watches that it had.
        let names = watched.map { view.contenders[$0].text }
        let kept = self.book.withLock { book in
            book[id].flatMap { $0.watched == names && !$0.watches.isEmpty ? $0.watches : nil }
        }
        let numbers =
            kept
            ?? names.map { name in
                wire.link.handle.addWatch(on: "\(entry.parent)/\(name)") { [weak self] _ in self?.wake(id) }
            }
        let gathering = Gathering(places.count) { [weak self] replies in
            guard let self else { return done(.gone) }
            guard replies.prefix(watched.count).allSatisfy({ $0.code == .ok }) else {
                if kept == nil { self.drop(watches: numbers) }
                let failure = replies.prefix(watched.count).first { $0.code != .ok && $0.code != .noNode }
                if let failure { return done(.failed(failure.code)) }
                return self.look(id, entry, wire, asker, done)
            }
            let read = Array(zip(places, replies)) + own.map { ($0.key, $0.value.reply) }
            if self.mustStepBack(node, in: view, read) {
                if kept == nil { self.drop(watches: numbers) }
                return done(self.stepBack(id, entry))
            }
            guard self.settle(entry, watching: numbers, of: names, isKept: kept != nil, or: before, ahead) else {
                return self.look(id, entry, wire, asker, done)
            }
            if before != nil { self.prove(id) }
            guard asker == .request else { return done(.waiting(position: position, blockers: [])) }
            let blockers = self.holders(in: view, read, besides: node.name.text)
            done(.waiting(position: self.position(of: node, in: view, read) ?? position, blockers: blockers))
        }
        for (index, place) in places.enumerated() {
            wire.link.handle.get(
                "\(entry.parent)/\(view.contenders[place].text)",
                watch: kept == nil && index < numbers.count ? numbers[index] : nil,
                wire.terms { gathering.put($0, at: index) }
            )
        }
    }

    /// The requests of this store at some places of a queue.
    private func ownEntries(in view: QueueView, _ places: [Int]) -> [Int: RequestBook.Entry] {
        self.book.withLock { book in
            var own: [Int: RequestBook.Entry] = [:]
            for place in places {
                // One that is being changed may have another node already; the server tells when its old one goes.
                guard own[place] == nil else { continue }
                own[place] = book.entry(of: view.contenders[place]).flatMap { $0.hold?.successor == nil ? $0 : nil }
            }
            return own
        }
    }

    /// Books what a request waits for.
    ///
    /// - Returns: Whether that still holds; if not, the queue has to be read again.
    private func settle(
        _ entry: RequestBook.Entry,
        watching numbers: [UInt],
        of names: [String],
        isKept: Bool,
        or before: RequestBook.Entry?,
        _ ahead: RequestBook.Ahead?
    ) -> Bool {
        let id = entry.request.id
        let (isSettled, unneeded) = self.book.withLock { book -> (Bool, [UInt]) in
            let result = book.update(id, guid: entry.guid) { entry -> (Bool, [UInt]) in
                guard entry.hold == nil, !entry.hasMissed else {
                    entry.hasMissed = false
                    return (false, isKept ? [] : numbers)
                }
                // One that was there before may have fired meanwhile.
                if isKept { return (entry.watches == numbers, []) }
                entry.phase = .queued
                entry.waitsFor = nil
                entry.ahead = ahead
                entry.watched = names
                defer { entry.watches = numbers }
                return (true, entry.watches)
            }
            guard let result else { return (false, isKept ? [] : numbers) }
            guard let before, result.0 else { return result }
            return (book.wait(id, guid: entry.guid, for: before), result.1)
        }
        self.drop(watches: unneeded)
        return isSettled
    }

    /// Whether a request stands behind a newer wish to be exclusive, whose holder waits for all requests that are older
    /// and fit what it had, and cannot know that this one was not granted.
    private func mustStepBack(
        _ node: RequestBook.Node,
        in view: QueueView,
        _ read: [(place: Int, reply: CallReply)]
    ) -> Bool {
        guard let upgrade = view.index(of: node.name.text).flatMap(view.upgrade),
            let created = read.first(where: { $0.place == upgrade })?.reply.stat?.created
        else { return false }
        return created > node.created
    }

    /// How many wait before a node, going by the ages of those behind an upgrade node.
    private func position(
        of node: RequestBook.Node,
        in view: QueueView,
        _ read: [(place: Int, reply: CallReply)]
    ) -> Int? {
        guard let index = view.index(of: node.name.text) else { return nil }
        return view.position(of: index, holders: view.holders(created: self.ages(in: view, read)))
    }

    /// Forgets the node that says whom a request waits for.
    func forgetRegistration(of id: RequestID) {
        let (path, epoch) = self.book.withLock { $0.takeRegistration(of: id) }
        if let path { self.remover.remove(path, epoch, self.session.link) }
    }
}
