// SPDX-License-Identifier: Apache-2.0

import Foundation
import GRDB
import HoldfastCore

/// The tables, and what happens when a file is opened.
///
/// - `meta`: one row: the boot whose times the other tables hold, the last token, the last place in a queue.
/// - `grants`, `waiters`: one row each; see ``GrantRow`` and ``WaiterRow``.
/// - `rests`: until when a resource rests after its holder vanished.
/// - `ended`: requests that ended, against late copies of their acquires.
enum Schema {
    /// Goes up with every change that older programs cannot read.
    ///
    /// 2: upgrades, barging, and what is held during a wait.
    static let version = 2
    /// "Hold" in ASCII: tells our files from other SQLite databases.
    static let applicationID = 0x486F_6C64
    /// How far tokens jump at a new boot: more than the commits that a power cut can take back.
    ///
    /// With `synchronous=NORMAL` commits since the last checkpoint may be lost; that is ``checkpointPages`` pages, and
    /// a commit writes at least one.
    static let bootGap: Int64 = 1 << 20
    /// Pages in the write-ahead log before it is copied back: 8 MiB, so that its `fsync` is paid by 2000 commits.
    static let checkpointPages = 8000

    /// Opens the file, makes the tables if they are missing, and voids what another boot left.
    ///
    /// Safe when several processes do it at once.
    ///
    /// - Parameters:
    ///   - path: The file, which exists.
    ///   - bootID: This boot.
    ///   - patience: How long to wait for other processes.
    ///   - boot: Tells others that the file is in use.
    /// - Returns: The open database.
    /// - Throws: `LockError`, or an error of the database.
    static func open(
        _ path: String,
        bootID: String,
        patience: BusyPatience,
        boot: BootGuard
    ) throws -> DatabaseQueue {
        var configuration = Configuration()
        configuration.label = "holdfast.sqlite"
        configuration.busyMode = .callback { attempt in patience.shouldRetry(after: attempt) }
        configuration.foreignKeysEnabled = false
        // A rollback that fails must not stop the program, as GRDB would; the connection is closed instead.
        configuration.allowsUnsafeTransactions = true
        configuration.maximumReaderCount = 1
        configuration.prepareDatabase { database in
            try Self.refuseForeign(database, path: path)
            // A command writes three pages, whatever their size; smaller ones cost a fifth less processor time.
            try database.execute(sql: "PRAGMA page_size=1024")
            try Self.enterWAL(database, patience: patience)
            try database.execute(sql: "PRAGMA synchronous=NORMAL")
            try database.execute(sql: "PRAGMA wal_autocheckpoint=\(Self.checkpointPages)")
            try database.execute(sql: "PRAGMA mmap_size=67108864")
            try database.execute(sql: "PRAGMA trusted_schema=OFF")
        }
        let queue = try DatabaseQueue(path: path, configuration: configuration)
        try queue.writeWithoutTransaction { database in
            var attempt = 0
            while try !Self.check(database, bootID: bootID, path: path, boot: boot) {
                guard patience.shouldRetry(after: attempt) else {
                    throw LockError(
                        .storeRefused,
                        "processes that see another boot id (a container or another machine) use the lock file \(path); "
                            + "choose another path"
                    )
                }
                attempt += 1
            }
        }
        return queue
    }

    /// Refuses a database of another program before anything is changed in it.
    private static func refuseForeign(_ database: Database, path: String) throws {
        // In this order: tables and id come in one transaction of whoever makes the file.
        if try Int.fetchOne(database, sql: "SELECT count(*) FROM sqlite_master") == 0 { return }
        guard try Int.fetchOne(database, sql: "PRAGMA application_id") == Self.applicationID else {
            throw LockError(.storeCorrupted, "\(path) is a database of another program; choose another path")
        }
    }

    /// Switches to write-ahead logging.
    ///
    /// SQLite does not wait for locks here when two processes do it at once, so this does.
    private static func enterWAL(_ database: Database, patience: BusyPatience) throws {
        var attempt = 0
        while true {
            do {
                let mode = try String.fetchOne(database, sql: "PRAGMA journal_mode=WAL")
                guard mode == "wal" else {
                    throw LockError(
                        .storeRefused,
                        "the file system does not support SQLite's WAL mode; use a local disk"
                    )
                }
                return
            } catch let error as DatabaseError where error.resultCode == .SQLITE_BUSY {
                guard patience.shouldRetry(after: attempt) else { throw error }
                attempt += 1
            }
        }
    }

    /// - Returns: Whether the tables are there and of this boot, and others know that they are in use; otherwise somebody
    ///   else uses the file who is not of this boot, or is just about to make it usable.
    private static func check(_ database: Database, bootID: String, path: String, boot: BootGuard) throws -> Bool {
        if try Self.isCurrent(database, bootID: bootID, path: path) {
            // Looked at again once others cannot void it any more.
            return try boot.share() && Self.isCurrent(database, bootID: bootID, path: path)
        }
        let isNew = try Int.fetchOne(database, sql: "PRAGMA user_version") == 0
        guard isNew || boot.claim() else { return false }
        try Self.makeCurrent(database, bootID: bootID, path: path)
        return try boot.share() && Self.isCurrent(database, bootID: bootID, path: path)
    }

    private static func makeCurrent(_ database: Database, bootID: String, path: String) throws {
        try database.inTransaction(.immediate) {
            if try Self.isCurrent(database, bootID: bootID, path: path) { return .commit }
            switch try Int.fetchOne(database, sql: "PRAGMA user_version") ?? 0 {
            case 0: try Self.create(database, bootID: bootID, path: path)
            case Self.version: try Self.voidOtherBoot(database, bootID: bootID)
            default: try Self.replaceOlder(database, bootID: bootID, path: path)
            }
            return .commit
        }
    }

    /// Whether the tables are there and of this boot.
    private static func isCurrent(_ database: Database, bootID: String, path: String) throws -> Bool {
        let found = try Int.fetchOne(database, sql: "PRAGMA user_version") ?? 0
        if found == 0 { return false }
        guard try Int.fetchOne(database, sql: "PRAGMA application_id") == Self.applicationID else {
            throw LockError(.storeCorrupted, "\(path) is a database of another program; choose another path")
        }
        guard found <= Self.version else {
            throw LockError(
                .storeCorrupted,
                "the lock file \(path) has schema version \(found), this program knows \(Self.version); upgrade it"
            )
        }
        guard found == Self.version else { return false }
        return try String.fetchOne(database, sql: "SELECT boot FROM meta") == bootID
    }

    private static func create(_ database: Database, bootID: String, path: String) throws {
        guard try Int.fetchOne(database, sql: "SELECT count(*) FROM sqlite_master") == 0 else {
            throw LockError(.storeCorrupted, "\(path) is a database of another program; choose another path")
        }
        try database.execute(sql: Self.tables)
        // A fresh file starts above every token of one that was deleted, unless the wall clock was set back.
        try database.execute(
            sql: "INSERT INTO meta (boot, token, place) VALUES (?, ?, 0)",
            arguments: [bootID, BootClock.wallMicroseconds]
        )
        try database.execute(sql: "PRAGMA application_id=\(Self.applicationID)")
        try database.execute(sql: "PRAGMA user_version=\(Self.version)")
    }

    /// Makes the tables anew where an older program left some that nobody uses any more.
    private static func replaceOlder(_ database: Database, bootID: String, path: String) throws {
        let token = try Int64.fetchOne(database, sql: "SELECT token FROM meta") ?? 0
        if try String.fetchOne(database, sql: "SELECT boot FROM meta") == bootID {
            let now = try BootClock().now.nanoseconds
            let live = try Int.fetchOne(
                database,
                sql: "SELECT count(*) FROM grants WHERE expires > ?",
                arguments: [now]
            )
            guard live == 0 else {
                throw LockError(
                    .storeRefused,
                    "locks of an older holdfast are held in \(path); let its processes end, or choose another path"
                )
            }
        }
        for table in ["meta", "grants", "waiters", "rests", "ended"] {
            try database.execute(sql: "DROP TABLE \(table)")
        }
        try database.execute(sql: Self.tables)
        try database.execute(
            sql: "INSERT INTO meta (boot, token, place) VALUES (?, ?, 0)",
            arguments: [bootID, max(token + Self.bootGap, BootClock.wallMicroseconds)]
        )
        try database.execute(sql: "PRAGMA user_version=\(Self.version)")
    }

    /// Every process of another boot is gone, and times since boot mean something else now.
    private static func voidOtherBoot(_ database: Database, bootID: String) throws {
        for table in ["grants", "waiters", "rests", "ended"] { try database.execute(sql: "DELETE FROM \(table)") }
        try database.execute(
            sql: "UPDATE meta SET boot = ?, token = max(token + ?, ?)",
            arguments: [bootID, Self.bootGap, BootClock.wallMicroseconds]
        )
    }

    private static let tables = """
        CREATE TABLE meta (boot TEXT NOT NULL, token INTEGER NOT NULL, place INTEGER NOT NULL) STRICT;
        CREATE TABLE grants (
            resource TEXT NOT NULL, token INTEGER NOT NULL, high INTEGER NOT NULL, low INTEGER NOT NULL,
            mode TEXT NOT NULL, since INTEGER NOT NULL, expires INTEGER NOT NULL, accepted INTEGER NOT NULL,
            revoked INTEGER NOT NULL, rest INTEGER NOT NULL, priority INTEGER NOT NULL,
            instance INTEGER NOT NULL, serial INTEGER NOT NULL, host TEXT NOT NULL, ownerpid INTEGER NOT NULL,
            ownerstarted INTEGER NOT NULL, program TEXT NOT NULL, label TEXT,
            pid INTEGER NOT NULL, started INTEGER NOT NULL, namespace TEXT NOT NULL, channel TEXT NOT NULL,
            upgrade INTEGER, holding TEXT,
            PRIMARY KEY (resource, token)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX upgrading ON grants (instance, serial) WHERE upgrade IS NOT NULL;
        CREATE TABLE waiters (
            resource TEXT NOT NULL, rank INTEGER NOT NULL, place INTEGER NOT NULL,
            high INTEGER NOT NULL, low INTEGER NOT NULL,
            mode TEXT NOT NULL, since INTEGER NOT NULL, until INTEGER NOT NULL, acceptance INTEGER NOT NULL,
            rest INTEGER NOT NULL, priority INTEGER NOT NULL, barging INTEGER NOT NULL, holding TEXT NOT NULL,
            instance INTEGER NOT NULL, serial INTEGER NOT NULL, host TEXT NOT NULL, ownerpid INTEGER NOT NULL,
            ownerstarted INTEGER NOT NULL, program TEXT NOT NULL, label TEXT,
            pid INTEGER NOT NULL, started INTEGER NOT NULL, namespace TEXT NOT NULL, channel TEXT NOT NULL,
            PRIMARY KEY (resource, rank, place)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX waiting ON waiters (instance, serial);
        CREATE TABLE rests (resource TEXT PRIMARY KEY, until INTEGER NOT NULL) STRICT, WITHOUT ROWID;
        CREATE TABLE ended (low INTEGER PRIMARY KEY, high INTEGER NOT NULL, since INTEGER NOT NULL) STRICT;
        CREATE TRIGGER tokens AFTER INSERT ON grants BEGIN UPDATE meta SET token = NEW.token; END;
        """
}
