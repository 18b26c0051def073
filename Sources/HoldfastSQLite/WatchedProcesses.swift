// SPDX-License-Identifier: Apache-2.0

import GRDB
import HoldfastCore

/// The processes that stand before waiting requests, read again only when the file changed.
struct WatchedProcesses: Sendable {
    /// The most resources that are watched at once; the checks of waiting requests take care of the others.
    private static let maximumResources = 256
    /// How many waiters at the front of a queue are watched: a dead one behind them is found when it comes up.
    private static let maximumWaiters = 16

    private var version: Int64 = -1
    private var changes = -1
    private var resources: Set<Resource> = []
    private var processes: [ProcessMark: Set<String>] = [:]

    /// Reads who stands before the waiting requests, if the file changed since the last time.
    ///
    /// - Parameters:
    ///   - database: The database.
    ///   - waiting: The requests of this store object that wait.
    /// - Returns: Those of them that were granted without hearing of it yet.
    /// - Throws: An error of the database.
    mutating func refresh(_ database: Database, waiting: [Resource: Set<RequestID>]) throws -> [RequestID] {
        let resources = Set(waiting.keys.prefix(Self.maximumResources))
        // `data_version` changes with the commits of others, `total_changes` with our own.
        let version = try Int64.fetchOne(database.cachedStatement(sql: "PRAGMA data_version")) ?? 0
        let changes = database.totalChangesCount
        guard version != self.version || changes != self.changes || resources != self.resources else { return [] }
        self.version = version
        self.changes = changes
        self.resources = resources
        self.processes = [:]
        var granted: [RequestID] = []
        let statement = try database.cachedStatement(sql: Self.query)
        for resource in resources {
            let cursor = try Row.fetchCursor(statement, arguments: [resource.name, resource.name, Self.maximumWaiters])
            while let row = try cursor.next() {
                let process = ProcessMark(pid: row.integer(2), started: row.integer(3), namespace: row.text(4))
                self.processes[process, default: []].insert(resource.name)
                let id = RequestID(high: UInt64(bitPattern: row.integer(0)), low: UInt64(bitPattern: row.integer(1)))
                if row.integer(5) != 0, waiting[resource]?.contains(id) == true { granted.append(id) }
            }
        }
        return granted
    }

    /// The resources in which a dead process has a part.
    func resourcesOfDeadProcesses() -> Set<String> {
        self.processes.reduce(into: []) { if $1.key.isDead { $0.formUnion($1.value) } }
    }

    private static let query = """
        SELECT high, low, pid, started, namespace, accepted = 0 FROM grants WHERE resource = ?
        UNION ALL
        SELECT * FROM (
            SELECT high, low, pid, started, namespace, 0 FROM waiters WHERE resource = ? ORDER BY rank, place LIMIT ?
        )
        """
}
