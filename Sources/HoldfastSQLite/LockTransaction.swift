// SPDX-License-Identifier: Apache-2.0

import GRDB
import HoldfastCore

/// What ``LockTable`` says, in SQL: the commands of requesters inside one transaction.
///
/// Lives on the store's thread for one transaction; signals are collected and sent after the commit.
final class LockTransaction {
    /// A signal and the store object it is for.
    struct Addressed: Sendable {
        var channel: String
        var signal: StoreSignal
    }

    let database: Database
    let now: Timestamp
    let process: ProcessMark
    let channel: String
    var signals: [Addressed] = []

    init(database: Database, now: Timestamp, process: ProcessMark, channel: String) {
        self.database = database
        self.now = now
        self.process = process
        self.channel = channel
    }

    // MARK: - Commands

    func acquire(_ request: LockRequest) throws -> AcquireReply {
        let resource = request.resource.name
        if let token = try self.grantIdle(request) {
            return .granted(FencingToken(rawValue: UInt64(bitPattern: token)))
        }
        if try self.hasEnded(request.id) { return .finished }
        let entry = try self.settled(resource)
        if let grant = entry.grants.first(where: { $0.id == request.id }) {
            try self.extend(grant, of: resource, by: request.lease)
            return .granted(grant.fencingToken)
        }
        if let waiter = try self.waiter(request.id, of: resource) {
            guard try self.admits(waiter, in: entry) else { return .waiting(try self.place(of: waiter, in: entry)) }
            try self.delete(waiter, of: resource)
            let grant = try self.grant(request)
            try self.promote(Entry(resource: resource, grants: entry.grants + [grant], from: entry))
            return .granted(grant.fencingToken)
        }
        if try self.admits(request, in: entry) { return .granted(try self.grant(request).fencingToken) }
        guard request.contention == .queue else {
            return .busy(blockers: entry.grants.map { $0.holder(at: self.now) })
        }
        return .waiting(try self.place(of: try self.enqueue(request), in: entry))
    }

    func renew(_ renewal: Renewal) throws -> RenewReply {
        let resource = renewal.key.resource.name
        if let revoked = try self.renewUncontended(renewal) { return .renewed(revokeRequested: revoked) }
        let entry = try self.settled(resource)
        guard let grant = entry.grants.first(where: { $0.id == renewal.key.id }) else { return .lost(.expired) }
        try self.extend(grant, of: resource, by: renewal.lease)
        return .renewed(revokeRequested: grant.revokeRequested)
    }

    func release(_ key: GrantKey) throws -> ReleaseReply {
        let resource = key.resource.name
        if try self.releaseUncontended(key) { return .released }
        let entry = try self.settled(resource)
        guard let grant = entry.grants.first(where: { $0.id == key.id }) else { return .alreadyLost }
        try self.delete(grant, of: resource)
        try self.remember(key.id)
        try self.promote(Entry(resource: resource, grants: entry.grants.filter { $0.id != key.id }, from: entry))
        return .released
    }

    func withdraw(_ key: GrantKey) throws -> WithdrawReply {
        let resource = key.resource.name
        let entry = try self.settled(resource)
        try self.remember(key.id)
        if let grant = entry.grants.first(where: { $0.id == key.id }) {
            try self.delete(grant, of: resource)
            try self.promote(Entry(resource: resource, grants: entry.grants.filter { $0.id != key.id }, from: entry))
            return .released
        }
        guard let waiter = try self.waiter(key.id, of: resource) else { return .notFound }
        try self.delete(waiter, of: resource)
        try self.promote(entry)
        return .withdrawn
    }

    /// Unties a grant and a place in the queue from the life of the process.
    func detach(_ key: GrantKey) throws {
        for table in ["grants", "waiters"] {
            try self.run(
                "UPDATE \(table) SET namespace = '' WHERE resource = ? AND high = ? AND low = ?",
                [key.resource.name] + Self.words(of: key.id)
            )
        }
    }

    /// Changes the mode of a grant, or lets it wait to become exclusive.
    func convert(_ conversion: Conversion) throws -> ConvertReply {
        var entry = try self.settled(conversion.key.resource.name)
        guard let index = entry.grants.firstIndex(where: { $0.id == conversion.key.id }) else { return .lost }
        var grant = entry.grants[index]
        let others = entry.grants.filter { $0.id != grant.id }
        let old = grant.token
        grant.upgradingSince = nil
        if grant.mode != conversion.mode {
            // Who vanished may not have noticed yet: a writer waits for the end of the rest as a newcomer would.
            let mayEnter = conversion.mode != .exclusive || entry.restUntil == nil
            guard mayEnter, conversion.mode.isCompatible(with: others.map(\.mode)) else {
                guard conversion.contention == .queue, conversion.mode == .exclusive, grant.mode == .update else {
                    return .busy(blockers: others.map { $0.holder(at: self.now) })
                }
                grant.upgradingSince = entry.grants[index].upgradingSince ?? self.now
                grant.upgradeHolding = conversion.holding
                try self.update(grant, of: entry.resource, was: old)
                return .waiting(try self.place(0, in: Entry(resource: entry.resource, grants: others, from: entry)))
            }
            grant.mode = conversion.mode
            if grant.mode == .exclusive { grant.token = try self.takeToken() }
        }
        try self.update(grant, of: entry.resource, was: old)
        entry.grants[index] = grant
        try self.promote(&entry)
        return .converted(grant.fencingToken)
    }

    // MARK: - Steps

    private func grant(_ request: LockRequest) throws -> GrantRow {
        let token = try self.nextToken()
        let grant = GrantRow(request: request, token: token, now: self.now, party: self.party(of: request))
        try self.insert(grant, for: request.resource.name)
        return grant
    }

    /// Whether a new request may be granted.
    private func admits(_ request: LockRequest, in entry: Entry) throws -> Bool {
        guard entry.fits(request.mode) else { return false }
        if request.fairness == .barging { return true }
        // Whoever has the same rank came before.
        return try !self.hasFairWaiter(of: entry.resource, before: WaiterRow.rank(of: request, at: self.now), .max)
    }

    /// Whether a waiting request may be granted in its place.
    private func admits(_ waiter: WaiterRow, in entry: Entry) throws -> Bool {
        guard entry.fits(waiter.mode) else { return false }
        return try waiter.isBarging || !self.hasFairWaiter(of: entry.resource, before: waiter.rank, waiter.place)
    }

    /// Renews a grant for whose resource nobody waits: nothing has to be handed on, so what is over can stay.
    ///
    /// - Returns: Whether the holder was asked to let go, or `nil` when this is not such a grant.
    private func renewUncontended(_ renewal: Renewal) throws -> Bool? {
        try self.optionalInteger(
            """
            UPDATE grants SET expires = ?1, accepted = 1, pid = ?2, started = ?3,
                namespace = iif(namespace = '', '', ?4), channel = ?5
            WHERE resource = ?6 AND high = ?7 AND low = ?8 AND expires > ?9 AND upgrade IS NULL
                AND NOT EXISTS (SELECT 1 FROM waiters WHERE resource = ?6)
            RETURNING revoked
            """,
            [
                self.now.advanced(by: renewal.lease).nanoseconds, self.process.pid, self.process.started,
                self.process.namespace, self.channel, renewal.key.resource.name,
            ] + Self.words(of: renewal.key.id) + [self.now.nanoseconds]
        ).map { $0 != 0 }
    }

    /// Releases a grant for whose resource nobody waits.
    ///
    /// - Returns: Whether this was such a grant.
    private func releaseUncontended(_ key: GrantKey) throws -> Bool {
        try self.run(
            """
            DELETE FROM grants WHERE resource = ?1 AND high = ?2 AND low = ?3 AND expires > ?4
                AND NOT EXISTS (SELECT 1 FROM waiters WHERE resource = ?1)
                AND NOT EXISTS (SELECT 1 FROM grants WHERE resource = ?1 AND upgrade IS NOT NULL)
            """,
            [key.resource.name] + Self.words(of: key.id) + [self.now.nanoseconds]
        )
        guard self.database.changesCount > 0 else { return false }
        try self.remember(key.id)
        return true
    }

    /// Makes a lease count anew; the grant is tied to the process that says so, unless it is untied.
    private func extend(_ grant: GrantRow, of resource: String, by lease: Duration) throws {
        let namespace = grant.party.process.namespace.isEmpty ? "" : self.process.namespace
        try self.run(
            """
            UPDATE grants SET expires = ?, accepted = 1, pid = ?, started = ?, namespace = ?, channel = ?
            WHERE resource = ? AND token = ?
            """,
            [
                self.now.advanced(by: lease).nanoseconds, self.process.pid, self.process.started, namespace,
                self.channel, resource, grant.token,
            ]
        )
    }

    private func enqueue(_ request: LockRequest) throws -> WaiterRow {
        let resource = request.resource.name
        let count = try self.integer("SELECT count(*) FROM waiters WHERE resource = ?", [resource])
        guard count < Limits.maximumWaiters else {
            throw LockError(.limitReached, "\(count) requests wait for \(request.resource) already")
        }
        let place = try self.integer("UPDATE meta SET place = place + 1 RETURNING place", [])
        let waiter = WaiterRow(request: request, place: place, now: self.now, party: self.party(of: request))
        try self.insert(waiter, for: resource)
        return waiter
    }

    private func place(of waiter: WaiterRow, in entry: Entry) throws -> AcquireReply.Waiting {
        let before = try self.integer(
            "SELECT count(*) FROM waiters WHERE resource = ? AND (rank, place) < (?, ?)",
            [entry.resource, waiter.rank, waiter.place]
        )
        return try self.place(Int(before), in: entry)
    }

    private func place(_ position: Int, in entry: Entry) throws -> AcquireReply.Waiting {
        let ends = entry.grants.map(\.expires).min() ?? self.now
        let change = max(ends, entry.restUntil ?? self.now, self.now)
        let spread = min(Limits.checkSpread * (position + 1), Limits.maximumCheckSpread)
        return AcquireReply.Waiting(
            position: position,
            checkAfter: self.now.duration(to: change) + spread,
            blockers: entry.grants.map { $0.holder(at: self.now) }
        )
    }

    func party(of request: LockRequest) -> Party {
        Party(owner: request.owner, process: self.process, channel: self.channel)
    }
}
