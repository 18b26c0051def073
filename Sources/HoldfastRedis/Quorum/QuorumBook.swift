// SPDX-License-Identifier: Apache-2.0

package import HoldfastCore

/// What the store of a majority knows of its own requests: pure.
///
/// Who holds is decided on the servers; this is on which of them our grants are, and what is still being given up where.
package struct QuorumBook: Sendable {
    package typealias Instant = ContinuousClock.Instant

    /// A grant.
    package struct Entry: Sendable {
        /// What was asked for, with the mode that is held now.
        package var request: LockRequest
        /// Its token.
        package var token: FencingToken
        /// The servers that gave it.
        package var nodes: Set<Int>
        /// Until when it may be believed in.
        package var validUntil: Instant
        /// Servers that are being asked to take it too.
        package var healing: Set<Int> = []
    }

    private var entries: [RequestID: Entry] = [:]
    /// Where a try of a request is still being given up: such a server's word does not count for the next try.
    private var undoing: [RequestID: Set<Int>] = [:]
    /// Requests that ended while a try of them is still being given up somewhere.
    private var ended: Set<RequestID> = []
    /// How often a request that waits was tried.
    private var tries: [RequestID: Int] = [:]
    /// How many tries of a request were split between several.
    private var splits: [RequestID: Int] = [:]
    /// Where a copy of a request that was not answered may still arrive.
    private var doubts: [RequestID: Set<Int>] = [:]
    /// Which servers told of what.
    private var told: [Word: Set<Int>] = [:]

    private struct Word: Hashable {
        let id: RequestID
        let isLoss: Bool
    }

    /// From how many grants on those that are over are looked for.
    private static let manyGrants = 8192
    private var pruneAt = Self.manyGrants

    /// Starts empty.
    package init() {}

    package subscript(id: RequestID) -> Entry? { self.entries[id] }

    /// How many grants are known, and how much else is remembered.
    package var count: (grants: Int, rest: Int) {
        let tries = self.undoing.count + self.ended.count + self.tries.count + self.splits.count + self.doubts.count
        return (self.entries.count, tries + self.told.count)
    }

    // MARK: - Requests

    /// The servers whose word does not count for a try that begins now.
    package func unready(_ id: RequestID) -> Set<Int> { self.undoing[id] ?? [] }

    /// Counts a try of a request.
    ///
    /// - Returns: Which one it is, from 1.
    package mutating func next(_ request: LockRequest) -> Int {
        // One that does not wait is over after the first.
        guard request.contention == .queue else { return 1 }
        self.tries[request.id, default: 0] += 1
        return self.tries[request.id, default: 1]
    }

    /// Which try of a request was the last one.
    package func attempt(of id: RequestID) -> Int { self.tries[id] ?? 1 }

    /// Notes that a try is being given up on some servers.
    package mutating func undo(_ id: RequestID, on nodes: Set<Int>) {
        guard !nodes.isEmpty else { return }
        self.undoing[id, default: []].formUnion(nodes)
    }

    /// Notes that it was given up there.
    package mutating func undone(_ id: RequestID, on node: Int) {
        self.undoing[id]?.remove(node)
        guard self.undoing[id]?.isEmpty == true else { return }
        self.undoing[id] = nil
        self.ended.remove(id)
    }

    /// Notes that a server did not answer a request: a copy of it may still arrive there, when another has been granted
    /// and released.
    package mutating func doubt(_ id: RequestID, on node: Int) {
        let isOpen = self.entries[id] != nil || self.undoing[id]?.contains(node) == true
        guard isOpen, !self.ended.contains(id) else { return }
        self.doubts[id, default: []].insert(node)
    }

    /// The servers where a copy of a request may still arrive.
    package func doubted(_ id: RequestID) -> Set<Int> { self.doubts[id] ?? [] }

    /// Whether a try that is being given up belongs to a request that ended meanwhile: it must not wait there again.
    package func isOver(_ id: RequestID) -> Bool { self.ended.contains(id) }

    /// Counts tries that were split.
    ///
    /// - Returns: How many there were before.
    package mutating func split(_ id: RequestID) -> Int {
        defer { self.splits[id, default: 0] += 1 }
        return self.splits[id, default: 0]
    }

    /// Notes that a request came to an end.
    package mutating func forget(_ id: RequestID) {
        if self.undoing[id] != nil { self.ended.insert(id) }
        self.entries[id] = nil
        self.tries[id] = nil
        self.splits[id] = nil
        self.doubts[id] = nil
        self.told[Word(id: id, isLoss: false)] = nil
    }

    // MARK: - Grants

    /// Enters a grant, or notes that it was given again.
    ///
    /// - Returns: Its token, which stays what it was.
    package mutating func enter(
        _ request: LockRequest,
        _ token: FencingToken,
        on nodes: Set<Int>,
        at now: Instant,
        until end: Instant
    ) -> FencingToken {
        self.splits[request.id] = nil
        self.told[Word(id: request.id, isLoss: false)] = nil
        // What ended was given anew.
        if var entry = self.entries[request.id], entry.validUntil > now {
            entry.nodes.formUnion(nodes)
            entry.validUntil = max(entry.validUntil, end)
            self.entries[request.id] = entry
            return entry.token
        }
        if self.entries.count >= self.pruneAt {
            // Grants that were handed to others are not given back by us.
            self.entries = self.entries.filter { $0.value.validUntil > now }
            self.pruneAt = max(Self.manyGrants, 2 * self.entries.count)
        }
        self.entries[request.id] = Entry(request: request, token: token, nodes: nodes, validUntil: end)
        return token
    }

    /// Changes a grant if it is known.
    package mutating func update(_ id: RequestID, _ change: (inout Entry) -> Void) {
        guard var entry = self.entries[id] else { return }
        change(&entry)
        self.entries[id] = entry
    }

    /// Takes a grant out.
    package mutating func remove(_ id: RequestID) -> Entry? {
        defer { self.forget(id) }
        return self.entries[id]
    }

    /// Whether a grant is held as far as is known.
    package func holds(_ id: RequestID, at now: Instant) -> Bool {
        self.entries[id].map { $0.validUntil > now } ?? false
    }

    /// Begins to ask a server to take a grant that it has not.
    ///
    /// - Returns: What to ask for; `nil` when the grant is over, or the server is being asked already.
    package mutating func heal(_ id: RequestID, on node: Int, at now: Instant) -> Entry? {
        guard var entry = self.entries[id], entry.validUntil > now, entry.healing.insert(node).inserted else {
            return nil
        }
        entry.nodes.remove(node)
        self.entries[id] = entry
        return entry
    }

    /// Notes what came of that.
    ///
    /// - Returns: Whether the grant is still known.
    package mutating func healed(_ id: RequestID, on node: Int, _ isTaken: Bool) -> Bool {
        guard var entry = self.entries[id] else { return false }
        entry.healing.remove(node)
        if isTaken { entry.nodes.insert(node) }
        self.entries[id] = entry
        return true
    }

    // MARK: - Messages

    /// What to do with a message that another try is worth while, or that a grant was taken away.
    package enum Hint: Sendable, Hashable {
        /// So many servers say so that it counts.
        case now
        /// The first server says so; others probably follow.
        case soon
        /// More than one, but not a majority.
        case known
    }

    /// Takes such a message of one server.
    package mutating func hear(_ id: RequestID, isLoss: Bool, from node: Int, of count: Int) -> Hint {
        // What too few servers told of is of no use after a while.
        if self.told.count >= Limits.rememberedRequests { self.told = [:] }
        let word = Word(id: id, isLoss: isLoss)
        var nodes = self.told[word] ?? []
        nodes.insert(node)
        guard nodes.count < AcquireTally.majority(of: count) else {
            self.told[word] = nil
            return .now
        }
        self.told[word] = nodes
        return nodes.count == 1 ? .soon : .known
    }

    /// Forgets who told of another try, when it is made.
    ///
    /// - Returns: Whether anybody had.
    package mutating func takeHint(_ id: RequestID) -> Bool {
        self.told.removeValue(forKey: Word(id: id, isLoss: false)) != nil
    }
}
