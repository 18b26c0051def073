// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// What a store knows of its own requests: pure.
///
/// Who holds is decided by the servers' nodes; this is which node is whose, and what has been learnt about it. An entry
/// belongs to one session: when that ends, so do its entries.
struct RequestBook: Sendable {
    typealias Instant = ContinuousClock.Instant

    /// A node of a request.
    struct Node: Sendable, Hashable {
        /// Its name below the lock's node.
        var name: LockName
        /// The transaction that created it.
        var created: Int64
    }

    /// How far a request is.
    enum Phase: Sendable {
        /// The node is being made.
        case creating
        /// Nobody knows whether the node was made.
        case unresolved
        /// The node is in the queue.
        case queued
        /// The node holds.
        case granted(Hold)
    }

    /// A grant.
    struct Hold: Sendable {
        var token: FencingToken
        var mode: LockMode
        let since: Instant
        var expires: Instant
        var isAccepted: Bool
        var revokeRequested = false
        /// A watch on its node, once it has been held for a moment.
        var watch: UInt?
        /// A wait to become exclusive.
        var upgrade: Upgrade?
        /// A node that may have taken the place of the known one: nobody knows.
        var successor: LockName?
    }

    /// A wait to become exclusive.
    struct Upgrade: Sendable {
        let holding: [String]
        /// What a grant had before.
        let mode: LockMode
        /// A watch on another holder's node.
        var watch: UInt?
    }

    /// One request.
    struct Entry: Sendable {
        let request: LockRequest
        /// The lock's node.
        let parent: String
        let guid: String
        let epoch: Int
        let since: Instant
        let waitEnd: Instant?
        var phase = Phase.creating
        var node: Node?
        /// Whether its place is being looked at.
        var isLooking = false
        /// Whether a watch fired while its place was being looked at.
        var hasMissed = false
        /// The request of this store that it waits for, which needs no watch: its node goes when we delete it.
        var waitsFor: RequestID?
        /// Whether its node is known to be gone.
        var isCleared = false
        /// Watches on nodes before it, and the names of those.
        var watches: [UInt] = []
        var watched: [String] = []
        /// The node that says for whom it waits, for finding deadlocks.
        var registration: String?

        /// All watches.
        var allWatches: [UInt] {
            self.watches + [self.hold?.watch, self.hold?.upgrade?.watch].compactMap(\.self)
        }

        /// The whole path of the node.
        var path: String? { self.node.map { "\(self.parent)/\($0.name.text)" } }

        /// Notes that it holds: for its lease once it is accepted, for the acceptance time until then.
        mutating func hold(_ token: FencingToken, isAccepted: Bool) {
            let now = Instant.now
            self.phase = .granted(
                Hold(
                    token: token,
                    mode: self.request.mode,
                    since: now,
                    expires: now.advanced(by: isAccepted ? self.request.lease : self.request.acceptance),
                    isAccepted: isAccepted
                )
            )
        }

        /// When something of it is due, if nothing changes.
        var nextLook: Instant {
            switch self.phase {
            case .creating: .now.advanced(by: .seconds(3600))
            case .unresolved, .queued:
                // One without a watch is looked at again and again.
                self.watches.isEmpty && self.waitsFor == nil
                    ? .now : self.waitEnd ?? .now.advanced(by: .seconds(3600))
            case .granted(let hold): hold.watch == nil ? self.since : hold.expires
            }
        }

        /// What a server would say of its node.
        var reply: CallReply {
            guard let node = self.node else { return CallReply(code: .noNode) }
            let stat = NodeStat(created: node.created, modified: 0, createdAt: 0, session: 0, version: 0, children: 0)
            return CallReply(code: .ok, stat: stat)
        }

        var hold: Hold? {
            get { if case .granted(let hold) = self.phase { hold } else { nil } }
            set { if let newValue { self.phase = .granted(newValue) } }
        }
    }

    private var entries: [RequestID: Entry] = [:]
    /// The requests by what their nodes' names begin with, for people: of two with the same reference one is missing.
    private var references: [UInt32: RequestID] = [:]
    /// Who of this store waits for whom of this store.
    private var dependents: [RequestID: [RequestID]] = [:]
    /// Whether anything changed since the last look at what is due, and when the next look is needed otherwise.
    private var hasChanged = true
    private var nextLook: Instant = .now
    private var finished = RecentRequests(capacity: Limits.rememberedRequests)

    /// All requests.
    var all: [Entry] { Array(self.entries.values) }

    subscript(id: RequestID) -> Entry? { self.entries[id] }

    /// The entry of a node, of which the name begins with its request's reference.
    func entry(withReference reference: Substring, node: String) -> Entry? {
        guard let number = UInt32(reference, radix: 16), let id = self.references[number] else { return nil }
        return self.entries[id].flatMap { $0.node?.name.text == node ? $0 : nil }
    }

    /// Notes that a request waits for the end of another of this store.
    ///
    /// - Returns: Whether both are there.
    mutating func wait(_ id: RequestID, guid: String, for other: RequestID, node: LockName) -> Bool {
        guard let before = self.entries[other], before.node?.name == node, before.hold?.successor == nil else {
            return false
        }
        let isThere = self.update(id, guid: guid) { entry in
            guard entry.hold == nil else { return false }
            entry.phase = .queued
            entry.waitsFor = other
            entry.watches = []
            return true
        }
        guard isThere == true else { return false }
        self.dependents[other, default: []].append(id)
        return true
    }

    /// Takes out who waits for a request whose node is going.
    mutating func takeDependents(of id: RequestID) -> [RequestID] {
        guard let ids = self.dependents.removeValue(forKey: id) else { return [] }
        return ids.filter { self.entries[$0]?.waitsFor == id }
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
        return self.entries.removeValue(forKey: id)
    }

    private static func reference(of id: RequestID) -> UInt32 { UInt32(truncatingIfNeeded: id.high >> 32) }

    /// Takes the requests of a session out.
    mutating func removeAll(ofEpoch epoch: Int) -> [Entry] {
        let gone = self.entries.values.filter { $0.epoch == epoch }
        for entry in gone {
            _ = self.remove(entry.request.id)
            self.dependents[entry.request.id] = nil
        }
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

    /// Notes that such a node could not be made.
    mutating func unregister(_ path: String) {
        for (id, entry) in self.entries where entry.registration == path { self.entries[id]?.registration = nil }
    }

    /// Changes an entry if it is still about the same node.
    ///
    /// - Returns: What the change returns, or `nil`.
    mutating func update<Result>(_ id: RequestID, guid: String, _ change: (inout Entry) -> Result) -> Result? {
        guard var entry = self.entries[id], entry.guid == guid else { return nil }
        let result = change(&entry)
        self.entries[id] = entry
        self.hasChanged = true
        return result
    }

    /// What is due.
    struct Due: Sendable {
        /// Leases, acceptances and waits that are over; taken out.
        var over: [Entry] = []
        /// Grants that have been held long enough to be watched.
        var unwatched: [RequestID] = []
        /// Waiting requests without a watch.
        var unguarded: [RequestID] = []
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
                } else if entry.watches.isEmpty, entry.node != nil, !entry.isLooking, entry.waitsFor == nil {
                    due.unguarded.append(id)
                }
            case .granted(let hold):
                if hold.expires <= now {
                    due.over.append(entry)
                } else if hold.watch == nil, hold.since.duration(to: now) >= Self.watchAfter {
                    due.unwatched.append(id)
                }
            }
        }
        for entry in due.over { _ = self.remove(entry.request.id) }
        return due
    }
}
