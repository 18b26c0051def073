// SPDX-License-Identifier: Apache-2.0

import GRDB
import HoldfastCore

/// Statements. All are prepared once for each connection.
extension LockTransaction {
    func grants(of resource: String) throws -> [GrantRow] {
        let statement = try self.database.cachedStatement(sql: Self.selectGrants)
        var rows: [GrantRow] = []
        let cursor = try Row.fetchCursor(statement, arguments: [resource])
        while let row = try cursor.next() { rows.append(try GrantRow(row)) }
        return rows
    }

    func waiters(of resource: String) throws -> [WaiterRow] {
        let statement = try self.database.cachedStatement(sql: Self.selectWaiters)
        var rows: [WaiterRow] = []
        let cursor = try Row.fetchCursor(statement, arguments: [resource])
        while let row = try cursor.next() { rows.append(try WaiterRow(row)) }
        return rows
    }

    func firstWaiter(of resource: String) throws -> WaiterRow? {
        let statement = try self.database.cachedStatement(sql: Self.selectFirstWaiter)
        let cursor = try Row.fetchCursor(statement, arguments: [resource])
        return try cursor.next().map { row in try WaiterRow(row) }
    }

    func firstFairWaiter(of resource: String, before rank: Int64, _ place: Int64) throws -> WaiterRow? {
        let statement = try self.database.cachedStatement(sql: Self.selectFairWaiter)
        let cursor = try Row.fetchCursor(statement, arguments: [resource, rank, place])
        return try cursor.next().map { row in try WaiterRow(row) }
    }

    func waiter(of resource: String, behind other: WaiterRow) throws -> WaiterRow? {
        let statement = try self.database.cachedStatement(sql: Self.selectNextWaiter)
        let cursor = try Row.fetchCursor(statement, arguments: [resource, other.rank, other.place])
        return try cursor.next().map { row in try WaiterRow(row) }
    }

    func waiter(_ id: RequestID, of resource: String) throws -> WaiterRow? {
        let statement = try self.database.cachedStatement(sql: Self.selectWaiter)
        let cursor = try Row.fetchCursor(
            statement,
            arguments: [resource, Int64(bitPattern: id.high), Int64(bitPattern: id.low)]
        )
        return try cursor.next().map { row in try WaiterRow(row) }
    }

    /// The token for a grant that is about to be stored; storing it raises the counter.
    func nextToken() throws -> Int64 { try self.integer("SELECT token + 1 FROM meta", []) }

    /// Raises the counter for a grant that is changed in place.
    func takeToken() throws -> Int64 { try self.integer("UPDATE meta SET token = token + 1 RETURNING token", []) }

    /// Makes sure that tokens go on above a number: the log with the last ones may have been lost.
    func raiseTokens(above least: Int64) throws { try self.run("UPDATE meta SET token = ?1 WHERE token < ?1", [least]) }

    /// Writes a changed mode, token and wait for an upgrade.
    func update(_ grant: GrantRow, of resource: String, was token: Int64) throws {
        try self.run(
            """
            UPDATE grants SET mode = ?1, token = ?2, upgrade = ?3, holding = ?4 WHERE resource = ?5 AND token = ?6
            """,
            [
                grant.mode.description, grant.token, grant.upgradingSince?.nanoseconds,
                References.text(grant.upgradeHolding), resource, token,
            ]
        )
    }

    /// The resources that an owner waits for.
    func waits(of owner: OwnerID) throws -> [Resource] {
        let statement = try self.database.cachedStatement(
            sql: """
                SELECT resource FROM waiters WHERE instance = ?1 AND serial = ?2
                UNION SELECT resource FROM grants WHERE upgrade IS NOT NULL AND instance = ?1 AND serial = ?2
                """
        )
        var resources: [Resource] = []
        let instance = Int64(bitPattern: owner.process.instance)
        let cursor = try Row.fetchCursor(statement, arguments: [instance, Int64(bitPattern: owner.serial)])
        while let row = try cursor.next() { if let name = try? Resource(row.text(0)) { resources.append(name) } }
        return resources
    }

    func insert(_ grant: GrantRow, for resource: String) throws {
        try self.run(Self.insertGrant, [resource] + grant.values)
    }

    /// Grants a resource to a request that nobody stands against, in one statement.
    ///
    /// - Returns: The token, or `nil` when anything is known about the resource or the request.
    func grantIdle(_ request: LockRequest) throws -> Int64? {
        let grant = GrantRow(request: request, token: 0, now: self.now, party: self.party(of: request))
        return try self.optionalInteger(Self.insertIdleGrant, [request.resource.name] + grant.values.dropFirst())
    }

    func hasEnded(_ id: RequestID) throws -> Bool {
        try self.optionalInteger("SELECT 1 FROM ended WHERE high = ? AND low = ?", Self.words(of: id)) != nil
    }

    func insert(_ waiter: WaiterRow, for resource: String) throws {
        try self.run(Self.insertWaiter, [resource] + waiter.values)
    }

    func delete(_ grant: GrantRow, of resource: String) throws {
        try self.run("DELETE FROM grants WHERE resource = ? AND token = ?", [resource, grant.token])
    }

    func delete(_ waiter: WaiterRow, of resource: String) throws {
        try self.run(
            "DELETE FROM waiters WHERE resource = ? AND rank = ? AND place = ?",
            [resource, waiter.rank, waiter.place]
        )
    }

    /// Remembers that a request ended, and forgets the oldest now and then.
    func remember(_ id: RequestID) throws {
        try self.run(
            "INSERT OR REPLACE INTO ended (high, low, since) VALUES (?, ?, ?)",
            Self.words(of: id) + [self.now.nanoseconds]
        )
        // Ids are random, so one in 1024 ends comes here, whichever process it is in.
        guard id.low & 0x3FF == 0 else { return }
        try self.run(
            """
            DELETE FROM ended WHERE since <= (SELECT since FROM ended ORDER BY since DESC LIMIT 1 OFFSET ?)
            """,
            [Limits.rememberedRequests]
        )
        try self.sweep()
    }

    /// How many resources one sweep ends at most: about a millisecond.
    private static let sweepSize = 64

    /// Ends what is over in resources that nobody asks for any more, so that the file follows use.
    func sweep() throws {
        let statement = try self.database.cachedStatement(
            sql: """
                SELECT resource FROM grants WHERE expires <= ?1 UNION SELECT resource FROM waiters WHERE until <= ?1
                UNION SELECT resource FROM rests WHERE until <= ?1 LIMIT ?2
                """
        )
        var names: [String] = []
        let cursor = try Row.fetchCursor(statement, arguments: [self.now.nanoseconds, Self.sweepSize])
        while let row = try cursor.next() { names.append(row.text(0)) }
        for name in names { _ = try self.settled(name) }
    }

    // MARK: - Running statements

    static func words(of id: RequestID) -> [(any DatabaseValueConvertible)?] {
        [Int64(bitPattern: id.high), Int64(bitPattern: id.low)]
    }

    func run(_ sql: String, _ values: [(any DatabaseValueConvertible)?]) throws {
        try self.database.cachedStatement(sql: sql).execute(arguments: StatementArguments(values))
    }

    /// The first column of the first row; a statement that must give one.
    func integer(_ sql: String, _ values: [(any DatabaseValueConvertible)?]) throws -> Int64 {
        guard let value = try self.optionalInteger(sql, values) else {
            throw LockError(.storeCorrupted, "the lock file lacks its row of bookkeeping; move the file away")
        }
        return value
    }

    /// The first column of the first row, or `nil`.
    ///
    /// Runs to the end, so that a change is complete.
    func optionalInteger(_ sql: String, _ values: [(any DatabaseValueConvertible)?]) throws -> Int64? {
        let statement = try self.database.cachedStatement(sql: sql)
        let cursor = try Row.fetchCursor(statement, arguments: StatementArguments(values))
        var value: Int64?
        while let row = try cursor.next() { value = value ?? row.integer(0) }
        return value
    }

    private static let selectGrants =
        "SELECT \(GrantRow.allColumns) FROM grants WHERE resource = ? ORDER BY token"
    private static let selectWaiters =
        "SELECT \(WaiterRow.columns) FROM waiters WHERE resource = ? ORDER BY rank, place"
    private static let selectFirstWaiter =
        "SELECT \(WaiterRow.columns) FROM waiters WHERE resource = ? ORDER BY rank, place LIMIT 1"
    private static let selectFairWaiter =
        """
        SELECT \(WaiterRow.columns) FROM waiters WHERE resource = ? AND (rank, place) < (?, ?) AND barging = 0
        ORDER BY rank, place LIMIT 1
        """
    private static let selectNextWaiter =
        """
        SELECT \(WaiterRow.columns) FROM waiters WHERE resource = ? AND (rank, place) > (?, ?)
        ORDER BY rank, place LIMIT 1
        """
    private static let selectWaiter =
        "SELECT \(WaiterRow.columns) FROM waiters WHERE resource = ? AND high = ? AND low = ?"
    private static let insertGrant = LockTransaction.insertion(into: "grants", columns: GrantRow.columns)
    private static let insertWaiter = LockTransaction.insertion(into: "waiters", columns: WaiterRow.columns)

    /// ?1 is the resource, ?2 and ?3 are the id.
    ///
    /// A trigger raises the counter in `meta`.
    private static let insertIdleGrant = {
        let count = GrantRow.columns.split(separator: ",").count
        let marks = (2...count).map { "?\($0)" }.joined(separator: ", ")
        return """
            INSERT INTO grants (resource, \(GrantRow.columns)) SELECT ?1, token + 1, \(marks) FROM meta
            WHERE NOT EXISTS (SELECT 1 FROM ended WHERE high = ?2 AND low = ?3)
                AND NOT EXISTS (SELECT 1 FROM grants WHERE resource = ?1)
                AND NOT EXISTS (SELECT 1 FROM waiters WHERE resource = ?1)
                AND NOT EXISTS (SELECT 1 FROM rests WHERE resource = ?1)
            RETURNING token
            """
    }()

    private static func insertion(into table: String, columns: String) -> String {
        let marks = String(repeating: ", ?", count: columns.split(separator: ",").count)
        return "INSERT INTO \(table) (resource, \(columns)) VALUES (?\(marks))"
    }
}
