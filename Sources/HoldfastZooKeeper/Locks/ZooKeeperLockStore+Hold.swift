// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import Synchronization

/// Watching the nodes of grants: somebody may delete them, or write a wish into them.
extension ZooKeeperLockStore {
    /// Sets a watch on the node of a grant that has none.
    func guardHold(_ id: RequestID) {
        // While another node takes the place of the known one, neither is worth a watch.
        guard let entry = self.book.withLock({ $0[id] }), entry.hold?.watch == nil, entry.hold?.successor == nil,
            let wire = self.wire(ofEpoch: entry.epoch)
        else { return }
        self.inspect(entry, wire) { _ in }
    }

    /// Reads the node of a grant and watches it from now on.
    ///
    /// - Parameters:
    ///   - entry: The grant.
    ///   - wire: Its session.
    ///   - done: Told whether the node is there; `nil` when that is not known.
    func inspect(_ entry: RequestBook.Entry, _ wire: Wire, _ done: @escaping @Sendable (Bool?) -> Void) {
        let id = entry.request.id
        guard let path = entry.path else { return done(nil) }
        let watch = wire.link.handle.addWatch(on: path) { [weak self] isDeleted in
            self?.touched(id, path, isDeleted)
        }
        let isFirst = self.book.withLock { book in
            book.update(id, guid: entry.guid) { entry in
                guard entry.path == path, entry.hold?.watch == nil, entry.hold?.successor == nil else { return false }
                entry.hold?.watch = watch
                return true
            } ?? false
        }
        if !isFirst { self.drop(watches: [watch]) }
        let terms = wire.terms { [weak self] reply in
            guard let self else { return done(nil) }
            switch reply.code {
            case .ok:
                if NodeData.asksToLetGo(reply.data) { self.heedRevocation(id, entry.guid) }
                done(true)
            case .noNode:
                let isGone = self.deleted(id, path)
                self.forget(watch: watch, id, entry.guid)
                done(isGone ? false : nil)
            default:
                self.forget(watch: watch, id, entry.guid)
                done(nil)
            }
        }
        wire.link.handle.get(path, watch: isFirst ? watch : nil, terms)
    }

    /// Notes that a watch was not set.
    func forget(watch: UInt, _ id: RequestID, _ guid: String) {
        self.drop(watches: [watch])
        _ = self.book.withLock { book in
            book.update(id, guid: guid) { if $0.hold?.watch == watch { $0.hold?.watch = nil } }
        }
    }

    /// The node of a grant, or of a request that was about to be granted, was changed or deleted.
    func touched(_ id: RequestID, _ path: String, _ isDeleted: Bool) {
        if isDeleted, self.deleted(id, path) { return }
        let (waiting, passing) = self.book.withLock { book -> (RequestBook.Entry?, RequestBook.Passing?) in
            guard let entry = book[id], entry.path == path else { return (nil, nil) }
            let passing = book.update(id, guid: entry.guid) { entry -> RequestBook.Passing? in
                entry.hold?.watch = nil
                entry.ownWatch = nil
                entry.isSeen = false
                defer { entry.passing = nil }
                return entry.passing
            }
            return (entry.hold == nil ? entry : nil, passing ?? nil)
        }
        guard let waiting else {
            // Without a wire, the next tick sets a new watch.
            return self.guardHold(id)
        }
        if isDeleted {
            _ = self.taken(id, waiting)
        } else if passing != nil {
            self.wake(id)
        }
    }

    /// Somebody writes that the holder should let go.
    private func heedRevocation(_ id: RequestID, _ guid: String) {
        let isNews = self.book.withLock { book in
            book.update(id, guid: guid) { entry in
                guard entry.hold?.revokeRequested == false else { return false }
                entry.hold?.revokeRequested = true
                return true
            } ?? false
        }
        if isNews { self.handlers.emit(.revokeRequested(id)) }
    }

    /// The node of a grant is gone while its session lives: somebody took the lock away.
    ///
    /// - Returns: Whether the grant was still believed in.
    func deleted(_ id: RequestID, _ path: String) -> Bool {
        let gone = self.book.withLock { book -> RequestBook.Entry? in
            guard let entry = book[id], entry.path == path, let hold = entry.hold, hold.successor == nil else {
                return nil
            }
            book.finish(id)
            return book.remove(id)
        }
        guard let gone else { return false }
        self.clear(gone)
        self.handlers.emit(.lost(id, .forced))
        return true
    }

    // MARK: - Describing

    /// Describes the holder that a node stands for.
    func holder(_ name: LockName, _ reply: CallReply, as mode: LockMode) -> Holder {
        let data = NodeData.read(reply.data)
        let own = self.own(name)
        let hold = own?.hold
        let created = reply.stat?.created ?? 0
        return Holder(
            reference: data.owner == nil && own == nil ? nil : String(name.guid.prefix(8)),
            owner: data.owner ?? own?.request.owner,
            mode: hold?.mode ?? mode,
            fencingToken: hold?.token ?? FencingToken(rawValue: data.token ?? UInt64(clamping: created)),
            heldFor: hold.map { $0.since.duration(to: .now) } ?? reply.stat.map { Self.age($0, held: data.held ?? 0) },
            // Of others it is known how long their lock outlives them.
            remaining: hold.map { Instant.now.duration(to: $0.expires) } ?? data.session.map { .milliseconds($0) },
            isAccepting: hold.map { !$0.isAccepted } ?? false,
            note: own == nil ? data.note : nil
        )
    }

    /// Describes the waiter that a node stands for.
    ///
    /// - Parameters:
    ///   - name: The node's name.
    ///   - reply: What the node says.
    ///   - moment: The wall clock at which all ages of a graph are told. Stores of other processes know of our requests
    ///     only when their nodes were made; in a graph all must have the same ages from the same source, or two of a
    ///     circle take each other for the younger one, and neither gives up. `nil` to tell a person as well as can be.
    /// - Returns: The waiter.
    func waiter(_ name: LockName, _ reply: CallReply, at moment: Int64? = nil) -> Waiter {
        let data = NodeData.read(reply.data)
        let own = self.own(name)
        return Waiter(
            reference: String(name.guid.prefix(8)),
            owner: data.owner ?? own?.request.owner,
            mode: name.mode,
            waitingFor: moment.map { moment in reply.stat.map { Self.time(from: $0.createdAt, to: moment) } }
                ?? own.map { $0.since.duration(to: .now) } ?? reply.stat.map { Self.age($0) },
            holding: own?.request.holding ?? data.holding,
            note: own == nil ? data.note : nil
        )
    }

    /// The request of this store that a node belongs to, or belonged to.
    func own(_ name: LockName) -> RequestBook.Entry? {
        self.book.withLock { book in book.entry(of: name) }
    }

    /// How old a node is, by the wall clocks of the server and of this machine: for people.
    private static func age(_ stat: NodeStat, held: Int64 = 0) -> Duration {
        // Others may write what they like.
        let before = min(max(held, -Self.longestAge), Self.longestAge)
        return max(.zero, Self.time(from: stat.createdAt, to: WallClock.milliseconds) + .milliseconds(before))
    }

    /// The longest time that is told of nodes, in milliseconds: ten years, which no sane clock is wrong by.
    private static var longestAge: Int64 { 10 * 366 * 86_400_000 }

    /// The time between two readings of wall clocks, one of which may say anything.
    private static func time(from start: Int64, to end: Int64) -> Duration {
        let (time, isTooLong) = end.subtractingReportingOverflow(start)
        guard !isTooLong else { return .milliseconds(end < start ? -Self.longestAge : Self.longestAge) }
        return .milliseconds(min(max(time, -Self.longestAge), Self.longestAge))
    }
}
