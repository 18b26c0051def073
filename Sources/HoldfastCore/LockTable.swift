// SPDX-License-Identifier: Apache-2.0

// A state machine, and the reference for the meaning of a lock; longer than other files for that reason.

import DequeModule

/// What a lock means, as a pure value: each command takes the time, and gives a reply and signals.
///
/// `MemoryStore` is this value behind a lock. The other stores say the same in SQL or Lua, and are tested against it
/// with random commands.
///
/// The rules:
/// - A newcomer is granted a free resource at once, and a taken one only when its mode fits the holders' and nobody
///   waits before it (so a waiting writer stops newcomers' reads).
/// - The queue is first come, first served, but for priorities. Whenever holders or the queue change, the longest run
///   of waiters from the front that fits is granted together.
/// - A barging request keeps no place: it is granted whenever it asks and its mode fits the holders', whoever waits, and
///   whoever asks may pass it. When it comes to the front it is told to ask.
/// - A holder in update mode may become exclusive. While other holders are in the way it waits as their peer: nobody
///   else is let in, and it is exclusive as soon as they are gone.
/// - A waiter that was granted has its acceptance time to send its request again; then its lease counts anew. If it
///   does not, the grant ends as if it had never been.
/// - A hold ends with its own lease, whatever other holders do. When an accepted hold ends without a release, the
///   resource rests for the hold's lock delay.
/// - Every grant gets a token above all that this table gave before.
/// - A request that ended (released, withdrawn, forced out) is remembered for a while: a late copy of its acquire gets
///   ``AcquireReply/finished``.
public struct LockTable: Sendable {
    private struct Hold {
        let request: LockRequest
        var mode: LockMode
        var token: FencingToken
        let since: Timestamp
        var expires: Timestamp
        var isAccepted: Bool
        var revokeRequested = false
        var upgrade: Upgrade?
    }

    /// A wait to become exclusive.
    private struct Upgrade {
        let since: Timestamp
        let holding: [String]
    }

    private struct Wait {
        let request: LockRequest
        let since: Timestamp
        let rank: Int64
        let until: Timestamp
    }

    private struct Entry {
        var holds: [Hold] = []
        var queue: Deque<Wait> = []
        var restUntil: Timestamp?

        var isIdle: Bool { self.holds.isEmpty && self.queue.isEmpty && self.restUntil == nil }

        /// Whether a request may be granted beside the holders, never mind who waits.
        func fits(_ mode: LockMode) -> Bool {
            self.restUntil == nil && self.holds.allSatisfy { $0.upgrade == nil }
                && mode.isCompatible(with: self.holds.map(\.mode))
        }

        /// Whether a request may be granted in its place in the queue.
        func admits(_ request: LockRequest, at position: Int) -> Bool {
            guard self.fits(request.mode) else { return false }
            return request.fairness == .barging
                || self.queue.prefix(position).allSatisfy { $0.request.fairness == .barging }
        }
    }

    private var entries: [Resource: Entry] = [:]
    private var finished = RecentRequests(capacity: Limits.rememberedRequests)
    private var lastToken: FencingToken

    /// Makes a table in which nothing is held.
    ///
    /// - Parameter lastToken: Tokens start above this.
    public init(lastToken: FencingToken = .zero) { self.lastToken = lastToken }

    /// How many resources are not free.
    public var count: Int { self.entries.count }

    // MARK: - Commands of requesters

    /// Takes a lock or a place in its queue, accepts a hand-over, or says how a known request stands.
    ///
    /// - Parameters:
    ///   - request: The request, already checked against the store's capabilities.
    ///   - now: The time on the store's clock.
    ///   - signals: Receives what others have to be told.
    /// - Returns: How the request stands.
    /// - Throws: ``LockError`` with code ``LockError/Code/limitReached`` when the queue is full.
    public mutating func acquire(
        _ request: LockRequest,
        at now: Timestamp,
        signals: inout [StoreSignal]
    ) throws(LockError) -> AcquireReply {
        if self.finished.contains(request.id) { return .finished }
        var entry = self.settled(request.resource, at: now, signals: &signals)
        defer { self.store(entry, for: request.resource) }

        if let index = entry.holds.firstIndex(where: { $0.request.id == request.id }) {
            entry.holds[index].isAccepted = true
            entry.holds[index].expires = now.advanced(by: request.lease)
            return .granted(entry.holds[index].token)
        }
        if let position = entry.queue.firstIndex(where: { $0.request.id == request.id }) {
            guard entry.admits(entry.queue[position].request, at: position) else {
                return .waiting(Self.place(position, in: entry, at: now))
            }
            entry.queue.remove(at: position)
            let token = self.grant(request, &entry, at: now)
            self.promote(&entry, at: now, signals: &signals)
            return .granted(token)
        }
        let rank = Self.rank(of: request, at: now)
        let position = entry.queue.lastIndex { $0.rank <= rank }.map { $0 + 1 } ?? 0
        if entry.admits(request, at: position) { return .granted(self.grant(request, &entry, at: now)) }
        guard request.contention == .queue else { return .busy(blockers: Self.blockers(in: entry, at: now)) }
        guard entry.queue.count < Limits.maximumWaiters else {
            throw LockError(.limitReached, "\(entry.queue.count) requests wait for \(request.resource) already")
        }
        let until = request.waitLimit.map { now.advanced(by: $0) } ?? .distantFuture
        entry.queue.insert(Wait(request: request, since: now, rank: rank, until: until), at: position)
        return .waiting(Self.place(position, in: entry, at: now))
    }

    /// Makes the lease of a grant count anew.
    ///
    /// - Parameters:
    ///   - renewal: The grant and its lease.
    ///   - now: The time on the store's clock.
    ///   - signals: Receives what others have to be told.
    /// - Returns: Whether the grant holds the lock.
    public mutating func renew(
        _ renewal: Renewal,
        at now: Timestamp,
        signals: inout [StoreSignal]
    ) -> RenewReply {
        var entry = self.settled(renewal.key.resource, at: now, signals: &signals)
        defer { self.store(entry, for: renewal.key.resource) }
        guard let index = entry.holds.firstIndex(where: { $0.request.id == renewal.key.id }) else {
            return .lost(.expired)
        }
        entry.holds[index].isAccepted = true
        entry.holds[index].expires = now.advanced(by: renewal.lease)
        return .renewed(revokeRequested: entry.holds[index].revokeRequested)
    }

    /// Gives a lock back and hands it on.
    ///
    /// - Parameters:
    ///   - grant: The grant.
    ///   - now: The time on the store's clock.
    ///   - signals: Receives what others have to be told.
    /// - Returns: Whether the grant held the lock until now.
    public mutating func release(
        _ grant: GrantKey,
        at now: Timestamp,
        signals: inout [StoreSignal]
    ) -> ReleaseReply {
        var entry = self.settled(grant.resource, at: now, signals: &signals)
        defer { self.store(entry, for: grant.resource) }
        guard let index = entry.holds.firstIndex(where: { $0.request.id == grant.id }) else { return .alreadyLost }
        entry.holds.remove(at: index)
        self.finished.insert(grant.id)
        self.promote(&entry, at: now, signals: &signals)
        return .released
    }

    /// Gives a request up, in the queue or granted.
    ///
    /// - Parameters:
    ///   - request: The request.
    ///   - now: The time on the store's clock.
    ///   - signals: Receives what others have to be told.
    /// - Returns: Where the request was.
    public mutating func withdraw(
        _ request: GrantKey,
        at now: Timestamp,
        signals: inout [StoreSignal]
    ) -> WithdrawReply {
        var entry = self.settled(request.resource, at: now, signals: &signals)
        defer { self.store(entry, for: request.resource) }
        self.finished.insert(request.id)
        if let index = entry.holds.firstIndex(where: { $0.request.id == request.id }) {
            entry.holds.remove(at: index)
            self.promote(&entry, at: now, signals: &signals)
            return .released
        }
        guard let index = entry.queue.firstIndex(where: { $0.request.id == request.id }) else { return .notFound }
        entry.queue.remove(at: index)
        self.promote(&entry, at: now, signals: &signals)
        return .withdrawn
    }

    /// Changes the mode of a grant, if the other holders allow it.
    ///
    /// A grant that becomes exclusive gets a new token, any other keeps its own. Queued requests do not get in between:
    /// what fits the new mode is granted after the change.
    ///
    /// A holder in update mode that is to become exclusive may wait for the other holders; it is signalled when it is
    /// exclusive. Asked again, this says how that stands. Asking for the present mode ends the wait.
    ///
    /// - Parameters:
    ///   - conversion: The grant and its new mode.
    ///   - now: The time on the store's clock.
    ///   - signals: Receives what others have to be told.
    /// - Returns: What became of it.
    public mutating func convert(
        _ conversion: Conversion,
        at now: Timestamp,
        signals: inout [StoreSignal]
    ) -> ConvertReply {
        let (grant, mode) = (conversion.key, conversion.mode)
        var entry = self.settled(grant.resource, at: now, signals: &signals)
        defer { self.store(entry, for: grant.resource) }
        guard let index = entry.holds.firstIndex(where: { $0.request.id == grant.id }) else { return .lost }
        if entry.holds[index].mode != mode {
            let others = entry.holds.filter { $0.request.id != grant.id }
            // Who vanished may not have noticed yet: a writer waits for the end of the rest as a newcomer would.
            let mayEnter = mode != .exclusive || entry.restUntil == nil
            guard mayEnter, mode.isCompatible(with: others.map(\.mode)) else {
                let blockers = others.map { Self.holder($0, at: now) }
                guard conversion.contention == .queue, mode == .exclusive, entry.holds[index].mode == .update else {
                    return .busy(blockers: blockers)
                }
                let since = entry.holds[index].upgrade?.since ?? now
                entry.holds[index].upgrade = Upgrade(since: since, holding: conversion.holding)
                return .waiting(Self.place(0, in: entry, besides: grant.id, at: now))
            }
            entry.holds[index].mode = mode
            if mode == .exclusive { entry.holds[index].token = self.nextToken() }
        }
        entry.holds[index].upgrade = nil
        self.promote(&entry, at: now, signals: &signals)
        return .converted(entry.holds[index].token)
    }

    // MARK: - Commands of operators

    /// Asks the holders of a resource to let go.
    ///
    /// - Parameters:
    ///   - resource: The resource.
    ///   - now: The time on the store's clock.
    ///   - signals: Receives the requests to the holders.
    /// - Returns: Who was asked.
    public mutating func revoke(
        _ resource: Resource,
        at now: Timestamp,
        signals: inout [StoreSignal]
    ) -> [Holder] {
        var entry = self.settled(resource, at: now, signals: &signals)
        defer { self.store(entry, for: resource) }
        for index in entry.holds.indices {
            entry.holds[index].revokeRequested = true
            signals.append(.revokeRequested(entry.holds[index].request.id))
        }
        return entry.holds.map { Self.holder($0, at: now) }
    }

    /// Takes a resource from its holders.
    ///
    /// It rests for their lock delay, since they may not have noticed yet.
    ///
    /// - Parameters:
    ///   - resource: The resource.
    ///   - now: The time on the store's clock.
    ///   - signals: Receives the news for the holders and for the next waiter.
    /// - Returns: Who held it.
    public mutating func forceRelease(
        _ resource: Resource,
        at now: Timestamp,
        signals: inout [StoreSignal]
    ) -> [Holder] {
        var entry = self.settled(resource, at: now, signals: &signals)
        defer { self.store(entry, for: resource) }
        let holds = entry.holds
        entry.holds = []
        for hold in holds {
            self.finished.insert(hold.request.id)
            signals.append(.lost(hold.request.id, .forced))
            if hold.isAccepted { Self.rest(&entry, from: now, for: hold.request.lockDelay) }
        }
        self.promote(&entry, at: now, signals: &signals)
        return holds.map { Self.holder($0, at: now) }
    }

    /// Describes one resource as of now.
    public func status(of resource: Resource, at now: Timestamp) -> ResourceStatus {
        let entry = self.entries[resource] ?? Entry()
        return ResourceStatus(
            resource: resource,
            holders: entry.holds.filter { $0.expires > now }.map { Self.holder($0, at: now) },
            waiters: entry.holds.filter { $0.expires > now }.compactMap { Self.upgrader($0, at: now) }
                + entry.queue.filter { $0.until > now }.map { Self.waiter($0, at: now) },
            restingFor: entry.restUntil.flatMap { $0 > now ? now.duration(to: $0) : nil }
        )
    }

    /// Describes the resources that are not free, in the order of their names.
    public func survey(
        _ pattern: ResourcePattern,
        after cursor: SurveyPage.Cursor?,
        at now: Timestamp
    ) -> SurveyPage {
        var names = self.entries.keys.filter { pattern.matches($0) }
        if let cursor, let last = try? Resource(cursor.rawValue) { names.removeAll { $0 <= last } }
        names.sort()
        let page = names.prefix(Limits.maximumSurveyPage)
        return SurveyPage(
            resources: page.map { self.status(of: $0, at: now) }.filter { !$0.isFree },
            next: names.count > page.count ? page.last.map { SurveyPage.Cursor(rawValue: $0.name) } : nil
        )
    }

    /// Describes the resources that an owner's requests hang on: those it waits for, those that whoever is in the way
    /// there waits for, and so on.
    ///
    /// - Parameters:
    ///   - owner: The owner.
    ///   - now: The time on the store's clock.
    /// - Returns: The resources, at most ``Limits/maximumWaitGraph``.
    public func waits(of owner: OwnerID, at now: Timestamp) -> [ResourceStatus] {
        var waits: [OwnerID: [Resource]] = [:]
        for (resource, entry) in self.entries {
            for wait in entry.queue { waits[wait.request.owner, default: []].append(resource) }
            for hold in entry.holds where hold.upgrade != nil {
                waits[hold.request.owner, default: []].append(resource)
            }
        }
        return WaitForGraph.reach(of: owner, waits: { waits[$0] ?? [] }, status: { self.status(of: $0, at: now) })
    }

    /// Ends what is over by now, in all resources, and hands on.
    ///
    /// Every command does this for its own resource; this is for memory and for waiters whose check is far off.
    ///
    /// - Parameters:
    ///   - now: The time on the store's clock.
    ///   - signals: Receives what others have to be told.
    public mutating func expire(at now: Timestamp, signals: inout [StoreSignal]) {
        for resource in Array(self.entries.keys) {
            let entry = self.settled(resource, at: now, signals: &signals)
            self.store(entry, for: resource)
        }
    }

    // MARK: - Rules

    private mutating func nextToken() -> FencingToken {
        self.lastToken = FencingToken(rawValue: self.lastToken.rawValue + 1)
        return self.lastToken
    }

    /// Takes an entry out of the table with everything that is over by now ended and handed on.
    private mutating func settled(_ resource: Resource, at now: Timestamp, signals: inout [StoreSignal]) -> Entry {
        guard var entry = self.entries.removeValue(forKey: resource) else { return Entry() }
        guard
            entry.holds.contains(where: { $0.expires <= now }) || entry.queue.contains(where: { $0.until <= now })
                || entry.restUntil.map({ $0 <= now }) == true
        else { return entry }
        for hold in entry.holds where hold.expires <= now {
            // A hold that was never accepted did no work, so nothing has to rest after it.
            if hold.isAccepted { Self.rest(&entry, from: hold.expires, for: hold.request.lockDelay) }
        }
        entry.holds.removeAll { $0.expires <= now }
        entry.queue.removeAll { $0.until <= now }
        if let restUntil = entry.restUntil, restUntil <= now { entry.restUntil = nil }
        self.promote(&entry, at: now, signals: &signals)
        return entry
    }

    private mutating func grant(_ request: LockRequest, _ entry: inout Entry, at now: Timestamp) -> FencingToken {
        let token = self.nextToken()
        entry.holds.append(
            Hold(
                request: request,
                mode: request.mode,
                token: token,
                since: now,
                expires: now.advanced(by: request.lease),
                isAccepted: true
            )
        )
        return token
    }

    private mutating func store(_ entry: Entry, for resource: Resource) {
        if !entry.isIdle { self.entries[resource] = entry }
    }

    /// Completes an upgrade, or else grants the longest run of waiters from the front that fits.
    private mutating func promote(_ entry: inout Entry, at now: Timestamp, signals: inout [StoreSignal]) {
        if let index = entry.holds.firstIndex(where: { $0.upgrade != nil }) {
            guard entry.holds.count == 1, entry.restUntil == nil else { return }
            entry.holds[index].mode = .exclusive
            entry.holds[index].token = self.nextToken()
            entry.holds[index].upgrade = nil
            signals.append(.granted(entry.holds[index].request.id))
            return
        }
        // For how long the one behind those who were told has to be patient with them.
        var patience: Duration?
        while let next = entry.queue.first, entry.fits(next.request.mode) {
            patience = max(patience ?? .zero, next.request.acceptance)
            if next.request.fairness == .barging {
                signals.append(.check(next.request.id, after: .zero))
                break
            }
            entry.queue.removeFirst()
            entry.holds.append(
                Hold(
                    request: next.request,
                    mode: next.request.mode,
                    token: self.nextToken(),
                    since: now,
                    expires: now.advanced(by: next.request.acceptance),
                    isAccepted: false
                )
            )
            signals.append(.granted(next.request.id))
        }
        // Should those who were told be dead, the next in line asks when their acceptance is over.
        let isFrontTold = entry.queue.first.map { entry.fits($0.request.mode) } ?? false
        if let patience, let next = entry.queue.dropFirst(isFrontTold ? 1 : 0).first {
            signals.append(.check(next.request.id, after: patience))
        }
    }

    /// Where a request stands in the queue: when it came, less its head start.
    private static func rank(of request: LockRequest, at now: Timestamp) -> Int64 {
        now.nanoseconds - Limits.priorityHeadStart.nanoseconds * Int64(request.priority)
    }

    private static func rest(_ entry: inout Entry, from start: Timestamp, for delay: Duration) {
        guard delay > .zero else { return }
        entry.restUntil = max(entry.restUntil ?? start, start.advanced(by: delay))
    }

    /// A place in the queue, or that of a holder that waits for the others.
    private static func place(
        _ position: Int,
        in entry: Entry,
        besides id: RequestID? = nil,
        at now: Timestamp
    ) -> AcquireReply.Waiting {
        let holds = entry.holds.filter { $0.request.id != id }
        let ends = holds.map(\.expires).min() ?? now
        let change = max(ends, entry.restUntil ?? now, now)
        let spread = min(Limits.checkSpread * (position + 1), Limits.maximumCheckSpread)
        return AcquireReply.Waiting(
            position: position,
            checkAfter: now.duration(to: change) + spread,
            blockers: holds.map { Self.holder($0, at: now) }
        )
    }

    private static func waiter(_ wait: Wait, at now: Timestamp) -> Waiter {
        Waiter(
            reference: wait.request.id.reference,
            owner: wait.request.owner,
            mode: wait.request.mode,
            waitingFor: wait.since.duration(to: now),
            priority: wait.request.priority,
            fairness: wait.request.fairness,
            holding: wait.request.holding
        )
    }

    /// A holder as the waiter that it is while it waits to become exclusive.
    private static func upgrader(_ hold: Hold, at now: Timestamp) -> Waiter? {
        hold.upgrade.map { upgrade in
            Waiter(
                reference: hold.request.id.reference,
                owner: hold.request.owner,
                mode: .exclusive,
                waitingFor: upgrade.since.duration(to: now),
                priority: hold.request.priority,
                holding: [hold.request.id.reference] + upgrade.holding
            )
        }
    }

    private static func blockers(in entry: Entry, at now: Timestamp) -> [Holder] {
        entry.holds.map { Self.holder($0, at: now) }
    }

    private static func holder(_ hold: Hold, at now: Timestamp) -> Holder {
        Holder(
            reference: hold.request.id.reference,
            owner: hold.request.owner,
            mode: hold.mode,
            fencingToken: hold.token,
            heldFor: hold.since.duration(to: now),
            remaining: now.duration(to: hold.expires),
            isAccepting: !hold.isAccepted
        )
    }
}
