// SPDX-License-Identifier: Apache-2.0

import GRDB
import HoldfastCore

/// Who a row belongs to: the owner for people, the process whose death ends it, and where its signals go.
struct Party: Sendable {
    var owner: OwnerID
    var process: ProcessMark
    /// The store object that listens for this row.
    var channel: String

    /// The columns from `instance` to `channel`.
    static let columns =
        "instance, serial, host, ownerpid, ownerstarted, program, label, pid, started, namespace, channel"

    /// The values of ``columns``.
    var values: [(any DatabaseValueConvertible)?] {
        let process = self.owner.process
        return [
            Int64(bitPattern: process.instance), Int64(bitPattern: self.owner.serial), process.host,
            Int64(process.pid), Int64(bitPattern: process.started), process.program, self.owner.label,
            self.process.pid, self.process.started, self.process.namespace, self.channel,
        ]
    }

    init(owner: OwnerID, process: ProcessMark, channel: String) {
        self.owner = owner
        self.process = process
        self.channel = channel
    }

    /// Reads ``columns`` from an index on.
    init(_ row: Row, from index: Int) {
        self.owner = OwnerID(
            process: ProcessIdentity(
                instance: UInt64(bitPattern: row.integer(index)),
                host: row.text(index + 2),
                pid: Int32(truncatingIfNeeded: row.integer(index + 3)),
                started: UInt64(bitPattern: row.integer(index + 4)),
                program: row.text(index + 5)
            ),
            serial: UInt64(bitPattern: row.integer(index + 1)),
            label: row[index + 6] as String?
        )
        self.process = ProcessMark(
            pid: row.integer(index + 7),
            started: row.integer(index + 8),
            namespace: row.text(index + 9)
        )
        self.channel = row.text(index + 10)
    }
}

/// A grant as it is stored.
struct GrantRow: Sendable {
    var id: RequestID
    var token: Int64
    var mode: LockMode
    var since: Timestamp
    var expires: Timestamp
    var isAccepted: Bool
    var revokeRequested: Bool
    /// How long the resource rests when this ends without a release, in nanoseconds.
    var rest: Int64
    var priority: Int64
    var party: Party
    /// Since when it waits to become exclusive.
    var upgradingSince: Timestamp?
    /// What is held besides while it waits for that.
    var upgradeHolding: [String] = []

    /// The columns of a new grant, without the resource.
    static let columns = "token, high, low, mode, since, expires, accepted, revoked, rest, priority, " + Party.columns
    /// The columns to read.
    static let allColumns = Self.columns + ", upgrade, holding"

    /// The values of ``columns``.
    var values: [(any DatabaseValueConvertible)?] {
        [
            self.token, Int64(bitPattern: self.id.high), Int64(bitPattern: self.id.low), self.mode.description,
            self.since.nanoseconds, self.expires.nanoseconds, self.isAccepted ? 1 : 0,
            self.revokeRequested ? 1 : 0, self.rest, self.priority,
        ] + self.party.values
    }

    init(
        request: LockRequest,
        token: Int64,
        now: Timestamp,
        party: Party
    ) {
        self.id = request.id
        self.token = token
        self.mode = request.mode
        self.since = now
        self.expires = now.advanced(by: request.lease)
        self.isAccepted = true
        self.revokeRequested = false
        self.rest = request.lockDelay.nanoseconds
        self.priority = Int64(request.priority)
        self.party = party
    }

    /// The grant of a waiter that is handed the lock.
    init(handedTo waiter: WaiterRow, token: Int64, now: Timestamp) {
        self.id = waiter.id
        self.token = token
        self.mode = waiter.mode
        self.since = now
        self.expires = now.advanced(by: .nanoseconds(waiter.acceptance))
        self.isAccepted = false
        self.revokeRequested = false
        self.rest = waiter.rest
        self.priority = waiter.priority
        self.party = waiter.party
    }

    /// Reads ``allColumns`` from an index on.
    init(_ row: Row, from index: Int = 0) throws(LockError) {
        self.token = row.integer(index)
        self.id = RequestID(
            high: UInt64(bitPattern: row.integer(index + 1)),
            low: UInt64(bitPattern: row.integer(index + 2))
        )
        self.mode = try row.mode(index + 3)
        self.since = Timestamp(nanoseconds: row.integer(index + 4))
        self.expires = Timestamp(nanoseconds: row.integer(index + 5))
        self.isAccepted = row.integer(index + 6) != 0
        self.revokeRequested = row.integer(index + 7) != 0
        self.rest = row.integer(index + 8)
        self.priority = row.integer(index + 9)
        self.party = Party(row, from: index + 10)
        self.upgradingSince = (row[index + 21] as Int64?).map { Timestamp(nanoseconds: $0) }
        self.upgradeHolding = References.list(row.text(index + 22))
    }

    /// The token as users see it.
    var fencingToken: FencingToken { FencingToken(rawValue: UInt64(bitPattern: self.token)) }

    /// The description for others.
    func holder(at now: Timestamp) -> Holder {
        Holder(
            reference: self.id.reference,
            owner: self.party.owner,
            mode: self.mode,
            fencingToken: self.fencingToken,
            heldFor: self.since.duration(to: now),
            remaining: now.duration(to: self.expires),
            isAccepting: !self.isAccepted
        )
    }

    /// The grant as the waiter that it is while it waits to become exclusive.
    func upgrader(at now: Timestamp) -> Waiter? {
        self.upgradingSince.map { since in
            Waiter(
                reference: self.id.reference,
                owner: self.party.owner,
                mode: .exclusive,
                waitingFor: since.duration(to: now),
                priority: Int(self.priority),
                holding: [self.id.reference] + self.upgradeHolding
            )
        }
    }
}

/// References of grants in one column.
enum References {
    static func text(_ references: [String]) -> String { references.joined(separator: ",") }
    static func list(_ text: String) -> [String] { text.split(separator: ",").map(String.init) }
}

/// A place in a queue as it is stored.
struct WaiterRow: Sendable {
    /// Orders the queue: arrival less the head start of the priority, in nanoseconds.
    var rank: Int64
    /// Orders equal ranks: a count of arrivals.
    var place: Int64
    var id: RequestID
    var mode: LockMode
    var since: Timestamp
    var until: Timestamp
    /// How long a hand-over waits to be accepted, in nanoseconds.
    var acceptance: Int64
    /// How long the resource rests when the grant ends without a release, in nanoseconds.
    var rest: Int64
    var priority: Int64
    var isBarging: Bool
    /// The references of the grants that are kept meanwhile.
    var holding: [String]
    var party: Party

    /// The columns, without the resource.
    static let columns =
        "rank, place, high, low, mode, since, until, acceptance, rest, priority, barging, holding, " + Party.columns

    /// The values of ``columns``.
    var values: [(any DatabaseValueConvertible)?] {
        [
            self.rank, self.place, Int64(bitPattern: self.id.high), Int64(bitPattern: self.id.low),
            self.mode.description, self.since.nanoseconds, self.until.nanoseconds, self.acceptance, self.rest,
            self.priority, self.isBarging ? 1 : 0, References.text(self.holding),
        ] + self.party.values
    }

    /// Where a request stands in the queue: when it came, less its head start.
    static func rank(of request: LockRequest, at now: Timestamp) -> Int64 {
        now.nanoseconds - Limits.priorityHeadStart.nanoseconds * Int64(request.priority)
    }

    init(request: LockRequest, place: Int64, now: Timestamp, party: Party) {
        self.rank = Self.rank(of: request, at: now)
        self.place = place
        self.id = request.id
        self.mode = request.mode
        self.since = now
        self.until = request.waitLimit.map { now.advanced(by: $0) } ?? .distantFuture
        self.acceptance = request.acceptance.nanoseconds
        self.rest = request.lockDelay.nanoseconds
        self.priority = Int64(request.priority)
        self.isBarging = request.fairness == .barging
        self.holding = request.holding
        self.party = party
    }

    /// Reads ``columns`` from an index on.
    init(_ row: Row, from index: Int = 0) throws(LockError) {
        self.rank = row.integer(index)
        self.place = row.integer(index + 1)
        self.id = RequestID(
            high: UInt64(bitPattern: row.integer(index + 2)),
            low: UInt64(bitPattern: row.integer(index + 3))
        )
        self.mode = try row.mode(index + 4)
        self.since = Timestamp(nanoseconds: row.integer(index + 5))
        self.until = Timestamp(nanoseconds: row.integer(index + 6))
        self.acceptance = row.integer(index + 7)
        self.rest = row.integer(index + 8)
        self.priority = row.integer(index + 9)
        self.isBarging = row.integer(index + 10) != 0
        self.holding = References.list(row.text(index + 11))
        self.party = Party(row, from: index + 12)
    }

    /// The description for others.
    func waiter(at now: Timestamp) -> Waiter {
        Waiter(
            reference: self.id.reference,
            owner: self.party.owner,
            mode: self.mode,
            waitingFor: self.since.duration(to: now),
            priority: Int(self.priority),
            fairness: self.isBarging ? .barging : .fair,
            holding: self.holding
        )
    }
}

extension Row {
    /// An integer column; 0 when it is null, which the schema forbids: a changed file must not stop the program.
    func integer(_ index: Int) -> Int64 { (self[index] as Int64?) ?? 0 }

    /// A text column; empty when it is null.
    func text(_ index: Int) -> String { (self[index] as String?) ?? "" }

    /// A mode column.
    func mode(_ index: Int) throws(LockError) -> LockMode {
        guard let mode = LockMode(self.text(index)) else {
            throw LockError(.storeCorrupted, "the lock file names a mode that this program does not know; upgrade it")
        }
        return mode
    }
}
