// SPDX-License-Identifier: Apache-2.0

public import Foundation
public import GRDB
public import Holdfast
public import HoldfastCore

/// One fenced value in a table of your own SQLite database.
///
/// The check and the write are one SQL statement, so no other connection gets in between. The rule is
/// `token >= highest`: the present holder may write many times, an older holder never again. (A table that only accepts
/// `token > highest` would refuse the holder's second write.)
///
/// ```swift
/// let table = FencedTable(database, key: "report")
/// try await locks.withLock("report") { lease in
///     try await table.write(bytes, fencedBy: lease.fencingToken)
/// }
/// ```
///
/// The table has the columns `key TEXT PRIMARY KEY, value BLOB, token INTEGER`; tokens above `Int64.max` are refused.
public struct FencedTable: FencedStore {
    private let database: any DatabaseWriter
    private let table: String
    private let key: String

    /// Makes a fenced value; the table is made by the first write.
    ///
    /// - Parameters:
    ///   - database: Your database: a queue or a pool.
    ///   - key: Which row.
    ///   - table: Which table; any name, it is quoted.
    public init(_ database: any DatabaseWriter, key: String, table: String = "fenced") {
        self.database = database
        self.key = key
        self.table = table
    }

    /// Writes the value unless a higher token was accepted before.
    ///
    /// One transaction, on GRDB's own queue.
    ///
    /// - Parameters:
    ///   - value: The new value.
    ///   - token: The token of the writer's grant.
    /// - Throws: `LockError` with code `fenced` when a higher token was accepted before, the value is then unchanged;
    ///   errors of GRDB; `CancellationError` when cancelled, the value is then either unchanged or written.
    public func write(_ value: Data, fencedBy token: FencingToken) async throws {
        let table = self.table
        let key = self.key
        try await self.database.write { database in
            try Self.makeTable(table, in: database)
            try Self.write(value, key: key, fencedBy: token, into: table, in: database)
        }
    }

    /// Reads the value and the token that it was written with.
    ///
    /// - Returns: Both, or `nil` when nothing was written yet.
    /// - Throws: Errors of GRDB; `LockError` with code `storeCorrupted` when the row makes no sense.
    public func read() async throws -> Fenced<Data>? {
        let table = self.table
        let key = self.key
        return try await self.database.read { database in
            guard try database.tableExists(table) else { return nil }
            return try Self.read(key: key, from: table, in: database)
        }
    }

    /// An identifier as SQL: GRDB's own quoting leaves quotation marks inside the name as they are.
    private static func quoted(_ name: String) -> String {
        "\"" + name.replacingOccurrences(of: "\"", with: "\"\"") + "\""
    }

    /// Makes the table unless it exists.
    ///
    /// - Parameters:
    ///   - table: Its name.
    ///   - database: A connection inside a write access of yours.
    /// - Throws: Errors of GRDB.
    public static func makeTable(_ table: String, in database: Database) throws {
        try database.execute(
            sql: """
                CREATE TABLE IF NOT EXISTS \(Self.quoted(table))
                (key TEXT NOT NULL PRIMARY KEY, value BLOB NOT NULL, token INTEGER NOT NULL)
                """
        )
    }

    /// Writes a value inside your own transaction; throw on, and the whole transaction is rolled back.
    ///
    /// - Parameters:
    ///   - value: The new value.
    ///   - key: Which row.
    ///   - token: The token of the writer's grant.
    ///   - table: Which table; it must exist.
    ///   - database: A connection inside a write access of yours.
    /// - Throws: `LockError` with code `fenced` when a higher token was accepted before; errors of GRDB.
    public static func write(
        _ value: Data,
        key: String,
        fencedBy token: FencingToken,
        into table: String = "fenced",
        in database: Database
    ) throws {
        guard let number = Int64(exactly: token.rawValue) else {
            throw LockError(.invalidArgument, "token \(token) does not fit into an SQLite integer")
        }
        let name = Self.quoted(table)
        try database.execute(
            sql: """
                INSERT INTO \(name) (key, value, token) VALUES (?1, ?2, ?3)
                ON CONFLICT (key) DO UPDATE SET value = ?2, token = ?3 WHERE ?3 >= token
                """,
            arguments: [key, value, number]
        )
        guard database.changesCount > 0 else {
            let highest = try Int64.fetchOne(database, sql: "SELECT token FROM \(name) WHERE key = ?", arguments: [key])
            throw LockError(
                .fenced,
                "the write to \(key) carries token \(token), but \(highest.map(String.init) ?? "a higher one") was already accepted"
            )
        }
    }

    /// Reads a value inside your own access.
    ///
    /// - Parameters:
    ///   - key: Which row.
    ///   - table: Which table; it must exist.
    ///   - database: A connection inside an access of yours.
    /// - Returns: The value and its token, or `nil` when nothing was written yet.
    /// - Throws: Errors of GRDB; `LockError` with code `storeCorrupted` when the row makes no sense.
    public static func read(
        key: String,
        from table: String = "fenced",
        in database: Database
    ) throws -> Fenced<Data>? {
        let row = try Row.fetchOne(
            database,
            sql: "SELECT value, token FROM \(Self.quoted(table)) WHERE key = ?",
            arguments: [key]
        )
        guard let row else { return nil }
        guard let value = Data.fromDatabaseValue(row[0]), let number = Int64.fromDatabaseValue(row[1]),
            let token = UInt64(exactly: number)
        else { throw LockError(.storeCorrupted, "the row \(key) of the table \(table) is not a fenced value") }
        return Fenced(value: value, token: FencingToken(rawValue: token))
    }
}
