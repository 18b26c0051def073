// SPDX-License-Identifier: Apache-2.0

import GRDB
import HoldfastCore

/// Ending what is over, and handing on.
extension LockTransaction {
    /// The holders of a resource, and its rest.
    ///
    /// The queue stays in its table: it may be long.
    struct Entry {
        var resource: String
        var grants: [GrantRow] = []
        var restUntil: Timestamp?

        init(resource: String) { self.resource = resource }

        /// Whether a request may be granted beside the holders, never mind who waits.
        func fits(_ mode: LockMode) -> Bool {
            self.restUntil == nil && self.grants.allSatisfy { $0.upgradingSince == nil }
                && mode.isCompatible(with: self.grants.map(\.mode))
        }

        /// The same with other grants.
        init(resource: String, grants: [GrantRow], from other: Entry) {
            self.resource = resource
            self.grants = grants
            self.restUntil = other.restUntil
        }
    }

    /// Reads a resource after everything that is over by now is ended and handed on: leases and wait limits that
    /// passed, and what belongs to dead processes.
    func settled(_ resource: String) throws -> Entry {
        var entry = Entry(resource: resource)
        entry.grants = try self.grants(of: resource)
        entry.restUntil = try self.optionalInteger("SELECT until FROM rests WHERE resource = ?", [resource])
            .map { Timestamp(nanoseconds: $0) }
        var isChanged = false
        var deaths: [ProcessMark: Bool] = [:]
        var left: [GrantRow] = []
        for grant in entry.grants {
            let isExpired = grant.expires <= self.now
            guard isExpired || self.isDead(grant.party.process, known: &deaths) else {
                left.append(grant)
                continue
            }
            isChanged = true
            try self.delete(grant, of: resource)
            // A hold that was never accepted did no work, so nothing has to rest after it.
            if grant.isAccepted { try self.rest(&entry, from: isExpired ? grant.expires : self.now, for: grant.rest) }
        }
        entry.grants = left
        try self.run("DELETE FROM waiters WHERE resource = ? AND until <= ?", [resource, self.now.nanoseconds])
        if self.database.changesCount > 0 { isChanged = true }
        while let first = try self.firstWaiter(of: resource), self.isDead(first.party.process, known: &deaths) {
            try self.delete(first, of: resource)
            isChanged = true
        }
        if let restUntil = entry.restUntil, restUntil <= self.now {
            try self.run("DELETE FROM rests WHERE resource = ?", [resource])
            entry.restUntil = nil
            isChanged = true
        }
        if isChanged { try self.promote(&entry) }
        return entry
    }

    /// Grants the longest run of living waiters from the front that fits.
    func promote(_ entry: Entry) throws {
        var entry = entry
        try self.promote(&entry)
    }

    /// Completes an upgrade, or else grants the longest run of living waiters from the front that fits.
    func promote(_ entry: inout Entry) throws {
        if let index = entry.grants.firstIndex(where: { $0.upgradingSince != nil }) {
            guard entry.grants.count == 1, entry.restUntil == nil else { return }
            var grant = entry.grants[index]
            let old = grant.token
            (grant.mode, grant.token, grant.upgradingSince) = (.exclusive, try self.takeToken(), nil)
            try self.update(grant, of: entry.resource, was: old)
            entry.grants[index] = grant
            self.signal(.granted(grant.id), to: grant.party)
            return
        }
        // For how long the one behind those who were told has to be patient with them.
        var patience: Int64?
        while let next = try self.firstLivingWaiter(of: entry.resource) {
            guard entry.fits(next.mode) else {
                // Should those who were granted be dead, the next in line asks when their acceptance is over.
                if let patience { self.signal(.check(next.id, after: .nanoseconds(patience)), to: next.party) }
                return
            }
            patience = max(patience ?? 0, next.acceptance)
            if next.isBarging {
                self.signal(.check(next.id, after: .zero), to: next.party)
                if let second = try self.waiter(of: entry.resource, behind: next) {
                    self.signal(.check(second.id, after: .nanoseconds(patience ?? 0)), to: second.party)
                }
                return
            }
            try self.delete(next, of: entry.resource)
            let grant = GrantRow(handedTo: next, token: try self.nextToken(), now: self.now)
            try self.insert(grant, for: entry.resource)
            entry.grants.append(grant)
            self.signal(.granted(next.id), to: next.party)
        }
    }

    /// Whether a living fair request stands in the queue before a place.
    func hasFairWaiter(of resource: String, before rank: Int64, _ place: Int64) throws -> Bool {
        var deaths: [ProcessMark: Bool] = [:]
        while let first = try self.firstFairWaiter(of: resource, before: rank, place) {
            guard self.isDead(first.party.process, known: &deaths) else { return true }
            try self.delete(first, of: resource)
        }
        return false
    }

    /// Lets a resource rest after a holder vanished.
    func rest(_ entry: inout Entry, from start: Timestamp, for delay: Int64) throws {
        guard delay > 0 else { return }
        let until = max(entry.restUntil ?? start, start.advanced(by: .nanoseconds(delay)))
        entry.restUntil = until
        try self.run(
            "INSERT INTO rests (resource, until) VALUES (?1, ?2) ON CONFLICT (resource) DO UPDATE SET until = ?2",
            [entry.resource, until.nanoseconds]
        )
    }

    /// Collects a signal for the store object that a row names.
    func signal(_ signal: StoreSignal, to party: Party) {
        self.signals.append(Addressed(channel: party.channel, signal: signal))
    }

    private func firstLivingWaiter(of resource: String) throws -> WaiterRow? {
        var deaths: [ProcessMark: Bool] = [:]
        while let next = try self.firstWaiter(of: resource) {
            guard self.isDead(next.party.process, known: &deaths) else { return next }
            try self.delete(next, of: resource)
        }
        return nil
    }

    /// Looks each process up once.
    private func isDead(_ process: ProcessMark, known: inout [ProcessMark: Bool]) -> Bool {
        if process == self.process { return false }
        if let isDead = known[process] { return isDead }
        let isDead = process.isDead
        known[process] = isDead
        return isDead
    }
}
