// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// What a store knows of its own requests: pure.
///
/// Who holds is decided by the servers' nodes; this is which node is whose, and what has been learnt about it. An entry
/// belongs to one session: when that ends, so do its entries.
struct RequestBook: Sendable {
    typealias Instant = ContinuousClock.Instant

    /// A request that is over, and whose node is being deleted.
    private struct Leaving: Sendable {
        let entry: Entry
        /// Who of this store waits until the node is gone.
        var dependents: Set<RequestID>
    }

    private var entries: [RequestID: Entry] = [:]
    /// The requests that are over, by the names of their nodes, which no other has.
    private var leaving: [NodeKey: Leaving] = [:]
    /// The names of the last nodes that this store has deleted: a list that was made before may still have them.
    private var gone = Recent<NodeKey>(capacity: Self.rememberedNodes)
    /// The requests by what their nodes' names begin with, for people: of two with the same reference one is missing.
    private var references: [UInt32: RequestID] = [:]
    /// Who of this store waits for whom of this store.
    private var dependents: [RequestID: Set<RequestID>] = [:]
    /// The last session that ended.
    private var lastEnded = -1
    /// Whether anything changed since the last look at what is due, and when the next look is needed otherwise.
    private var hasChanged = true
    private var nextLook: Instant = .now
    /// The highest token that was taken without a node, for any lock: transactions are numbered alike for all.
    private(set) var lastTaken: Int64 = .min
    private var finished = RecentRequests(capacity: Limits.rememberedRequests)

    /// All requests.
    var all: [Entry] { Array(self.entries.values) }

    subscript(id: RequestID) -> Entry? { self.entries[id] }

    /// A request if it is in a queue, as far as is known.
    func queued(_ id: RequestID) -> Entry? {
        guard let place = self.entries.index(forKey: id), case .queued = self.entries.values[place].phase else {
            return nil
        }
        return self.entries.values[place]
    }

    /// Whether a request holds, as far as is known.
    func holds(_ id: RequestID) -> Bool {
        guard let place = self.entries.index(forKey: id), case .granted = self.entries.values[place].phase else {
            return false
        }
        return true
    }

    /// The entry of a node, of which the name begins with its request's reference; also one that is leaving.
    func entry(of name: LockName) -> Entry? {
        if let number = UInt32(name.guid.prefix(8), radix: 16), let id = self.references[number],
            let entry = self.entries[id], entry.node?.name.text == name.text
        {
            return entry
        }
        return self.leaving.isEmpty ? nil : self.leaving[NodeKey(name.text)]?.entry
    }

    /// How many deleted nodes are remembered: more than are deleted while a list is on its way.
    private static let rememberedNodes = 1024

    /// Notes that a request waits for the end of another of this store.
    ///
    /// - Returns: Whether both are there.
    mutating func wait(_ id: RequestID, guid: String, for other: Entry) -> Bool {
        guard let name = other.node?.name else { return false }
        let key = NodeKey(name.text)
        if self.leaving[key] != nil {
            guard self.update(id, guid: guid, { $0.wait(for: other.request.id) }) == true else { return false }
            self.leaving[key]?.dependents.insert(id)
            return true
        }
        guard let before = self.entries[other.request.id], before.node?.name == name,
            before.hold?.successor == nil
        else { return false }
        guard self.update(id, guid: guid, { $0.wait(for: other.request.id) }) == true else { return false }
        self.dependents[other.request.id, default: []].insert(id)
        return true
    }

    /// What the end of another request of this store means for one that waited for it.
    enum Progress: Sendable {
        /// Nobody is before it any more; it holds.
        case granted
        /// It waits for another request of this store, or for the answer about its own node.
        case waiting
        /// The queue has to be read.
        case unclear
    }

    /// Lets a request move up, if what is known of those before it and of its own node says enough.
    mutating func advance(_ id: RequestID, behind passing: Passing) -> Progress {
        guard let entry = self.entries[id], case .queued = entry.phase, !entry.isLooking,
            entry.waitsFor == passing.id, let node = entry.node
        else { return .unclear }
        let token = FencingToken(rawValue: UInt64(clamping: node.created))
        if let last = passing.aloneWith {
            guard token > last, !entry.request.mode.isPermit else { return .unclear }
        } else {
            switch self.follow(entry) {
            case .granted: break
            case .waiting: return .waiting
            case .unclear: return .unclear
            }
            let given = max(entry.ahead?.given ?? .max, self.lastTaken)
            guard node.created > given else { return .unclear }
        }
        // Somebody may have deleted its node while it waited.
        guard entry.ownWatch != nil else { return .unclear }
        return self.update(id, guid: entry.guid) { entry in
            guard entry.isSeen else {
                entry.passing = passing
                return Progress.waiting
            }
            entry.waitsFor = nil
            entry.hold(token, isAccepted: false)
            return .granted
        } ?? .unclear
    }

    /// Has a request wait for the last that is left of those before it.
    ///
    /// - Returns: ``Progress/granted`` when nobody is.
    private mutating func follow(_ entry: Entry) -> Progress {
        guard var ahead = entry.ahead else { return .unclear }
        var left: [Entry] = []
        for place in ahead.own {
            guard let before = self.entries[place.id], before.guid == place.guid else { continue }
            // Whoever changes its mode has another node, and may be in nobody's way, or take a newer token.
            if let hold = before.hold, hold.mode != before.request.mode || hold.upgrade != nil { return .unclear }
            left.append(before)
        }
        guard let last = left.last else { return ahead.isComplete ? .granted : .unclear }
        guard self.wait(entry.request.id, guid: entry.guid, for: last) else { return .unclear }
        ahead.own = left.map { Ahead.Place(id: $0.request.id, guid: $0.guid) }
        self.entries[entry.request.id]?.ahead = ahead
        return .waiting
    }

    /// Notes a watch on the node of a waiting request, which is about to be asked for.
    ///
    /// - Returns: Whether there was none.
    mutating func see(_ id: RequestID, guid: String, with watch: UInt) -> Bool {
        self.update(id, guid: guid) { entry in
            guard entry.hold == nil, entry.ownWatch == nil, case .queued = entry.phase else { return false }
            entry.ownWatch = watch
            entry.isSeen = false
            return true
        } ?? false
    }

    /// Notes that such a watch is set, or that it is not.
    ///
    /// - Returns: Who made room meanwhile.
    mutating func seen(_ id: RequestID, guid: String, with watch: UInt, isSet: Bool) -> Passing? {
        self.update(id, guid: guid) { entry -> Passing? in
            guard entry.ownWatch == watch else { return nil }
            entry.isSeen = isSet
            if !isSet { entry.ownWatch = nil }
            defer { entry.passing = nil }
            return entry.passing
        } ?? nil
    }

    /// Notes a token that was taken without a node; whoever it is for may be in a queue that was read before.
    mutating func noteTaken(_ token: Int64) { self.lastTaken = max(self.lastTaken, token) }

    /// Takes out who waits for a request whose node has changed or is gone.
    mutating func takeDependents(of id: RequestID) -> [RequestID] {
        guard let ids = self.dependents.removeValue(forKey: id) else { return [] }
        return ids.filter { self.entries[$0]?.waitsFor == id }
    }

    /// Notes that a request that was taken out is over, and that its node is about to be deleted.
    ///
    /// - Returns: Who waits for it.
    mutating func leave(_ entry: Entry) -> Set<RequestID> {
        let id = entry.request.id
        let dependents = self.dependents.isEmpty ? [] : self.dependents.removeValue(forKey: id) ?? []
        guard let name = entry.node?.name.text, entry.epoch > self.lastEnded else { return [] }
        self.leaving[NodeKey(name), default: Leaving(entry: entry, dependents: [])].dependents.formUnion(dependents)
        return dependents
    }

    /// Whether a node is known to be gone.
    func isGone(_ name: String) -> Bool { self.gone.contains(NodeKey(name)) }

    /// Takes out who waits for the node of such a request.
    ///
    /// - Parameters:
    ///   - entry: The request.
    ///   - isGone: Whether the node is gone.
    /// - Returns: Those who waited.
    mutating func left(_ entry: Entry, isGone: Bool) -> [RequestID] {
        guard let key = entry.node.map({ NodeKey($0.name.text) }) else { return [] }
        if isGone { self.gone.insert(key) }
        guard let left = self.leaving.removeValue(forKey: key) else { return [] }
        return left.dependents.filter { self.entries[$0]?.waitsFor == entry.request.id }
    }

    /// Whether a request has ended.
    func isFinished(_ id: RequestID) -> Bool { self.finished.contains(id) }

    /// Notes that a request has ended, so that a late copy of it gets nothing.
    mutating func finish(_ id: RequestID) { self.finished.insert(id) }

    /// Enters a request.
    mutating func enter(_ entry: Entry) {
        self.hasChanged = true
        self.references[Self.reference(of: entry.request.id)] = entry.request.id
        self.entries[entry.request.id] = entry
    }

    /// Takes a request out.
    mutating func remove(_ id: RequestID) -> Entry? {
        self.references[Self.reference(of: id)] = nil
        guard let entry = self.entries.removeValue(forKey: id) else { return nil }
        if let other = entry.waitsFor { self.dependents[other]?.remove(id) }
        return entry
    }

    private static func reference(of id: RequestID) -> UInt32 { UInt32(truncatingIfNeeded: id.high >> 32) }

    /// Takes the requests of a session out.
    mutating func removeAll(ofEpoch epoch: Int) -> [Entry] {
        let gone = self.entries.values.filter { $0.epoch == epoch }
        for entry in gone {
            _ = self.remove(entry.request.id)
            self.dependents[entry.request.id] = nil
        }
        self.lastEnded = max(self.lastEnded, epoch)
        self.leaving = self.leaving.filter { $0.value.entry.epoch > self.lastEnded }
        return gone
    }

    /// Notes the node that says what an owner waits for.
    ///
    /// - Returns: Whether a request waits that has none yet.
    mutating func register(_ path: String, _ owner: OwnerID, _ resource: Resource, epoch: Int) -> Bool {
        let waiting = self.entries.values.filter { entry in
            guard entry.request.owner == owner, entry.request.resource == resource, entry.epoch == epoch else {
                return false
            }
            if let hold = entry.hold { return hold.upgrade != nil }
            return true
        }
        guard let first = waiting.first, !waiting.contains(where: { $0.registration == path }) else { return false }
        self.entries[first.request.id]?.registration = path
        return true
    }

    /// Whether a request has this node to say what its owner waits for.
    func hasRegistration(_ path: String, epoch: Int) -> Bool {
        self.entries.values.contains { $0.registration == path && $0.epoch == epoch }
    }

    /// Takes such a node from a request; with its session.
    mutating func takeRegistration(of id: RequestID) -> (path: String?, epoch: Int) {
        guard let place = self.entries.index(forKey: id), let path = self.entries.values[place].registration else {
            return (nil, 0)
        }
        self.entries.values[place].registration = nil
        self.hasChanged = true
        return (path, self.entries.values[place].epoch)
    }

    /// Notes that such a node could not be made.
    mutating func unregister(_ path: String) {
        for (id, entry) in self.entries where entry.registration == path { self.entries[id]?.registration = nil }
    }

    /// Changes an entry if it is still about the same node.
    ///
    /// - Returns: What the change returns, or `nil`.
    mutating func update<Result>(_ id: RequestID, guid: String, _ change: (inout Entry) -> Result) -> Result? {
        guard let place = self.entries.index(forKey: id) else { return nil }
        // In its place: a copy and its references cost more than most changes.
        guard let result = Self.change(&self.entries.values[place], guid, change) else { return nil }
        self.hasChanged = true
        return result
    }

    private static func change<Result>(
        _ entry: inout Entry,
        _ guid: String,
        _ change: (inout Entry) -> Result
    ) -> Result? {
        entry.guid == guid ? change(&entry) : nil
    }

    /// What is due.
    struct Due: Sendable {
        /// Leases, acceptances and waits that are over; taken out.
        var over: [Entry] = []
        /// Grants that have been held long enough to be watched.
        var unwatched: [RequestID] = []
        /// Waiting requests without a watch.
        var unguarded: [RequestID] = []
        /// Grants of which nobody knows which node they have.
        var unsettled: [RequestID] = []
        /// Grants that wait to become exclusive, without a watch.
        var upgrading: [RequestID] = []
    }

    /// How long a grant is held before its node is watched: most locks are held for less, and cost no watch.
    static let watchAfter: Duration = .milliseconds(50)

    /// Takes out what is over, and says what has to be looked after.
    ///
    /// Looks at all requests, but only when one has changed or the time of one has come.
    mutating func due(at now: Instant) -> Due {
        var due = Due()
        guard self.hasChanged || self.nextLook <= now else { return due }
        self.hasChanged = false
        self.nextLook = now.advanced(by: .seconds(3600))
        for (id, entry) in self.entries {
            self.nextLook = min(self.nextLook, entry.nextLook)
            switch entry.phase {
            case .creating: break
            case .unresolved, .queued:
                if let end = entry.waitEnd, end <= now {
                    due.over.append(entry)
                } else if entry.watches.isEmpty, entry.node != nil, !entry.isLooking, entry.waitsFor == nil,
                    entry.isRested(at: now)
                {
                    due.unguarded.append(id)
                }
            case .granted(let hold):
                guard hold.expires > now else {
                    due.over.append(entry)
                    continue
                }
                if hold.isUnsettled {
                    due.unsettled.append(id)
                } else if hold.watch == nil, hold.since.duration(to: now) >= Self.watchAfter {
                    due.unwatched.append(id)
                }
                if let upgrade = hold.upgrade, upgrade.watch == nil, !upgrade.isLooking, hold.successor == nil,
                    entry.isRested(at: now)
                {
                    due.upgrading.append(id)
                }
            }
        }
        for entry in due.over { _ = self.remove(entry.request.id) }
        return due
    }
}
