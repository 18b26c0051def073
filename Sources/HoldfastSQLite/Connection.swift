// SPDX-License-Identifier: Apache-2.0

import CHoldfastSQLite
import Foundation
import GRDB
import HoldfastCore
import Synchronization

/// The open file and what goes with it.
///
/// Used on the store's command queue only, but for its description.
final class Connection: Sendable {
    /// One command: what to do in the transaction, and whom to tell how it ended.
    struct Job: Sendable {
        /// Does the work, and returns what to do once it is committed.
        ///
        /// May be called again after a rollback.
        var work: @Sendable (LockTransaction) throws -> @Sendable () -> Void
        /// Told when it failed.
        var fail: @Sendable (LockError) -> Void
    }

    /// What the command queue carries.
    enum Command: Sendable {
        /// A part of a transaction.
        case job(Job)
        /// A look at the processes that stand before waiting requests; what to do after it.
        case look(@Sendable () -> Void)
        /// A part of a caller's task.
        case task(@Sendable () -> Void)
    }

    private struct Open {
        var database: DatabaseQueue
        var file: FileIdentity?
        var clock: BootClock
        var path: String
        var boot: BootGuard
        /// The write-ahead log and its index, which must stay the same, and when that was last looked at.
        var companions: [FileIdentity?]
        var looked: Timestamp
        /// Whether nothing was done since the file was opened.
        var isFresh = true
    }

    /// How often to look whether the write-ahead log is still the one that others see.
    private static let companionInterval: Duration = .milliseconds(5)
    /// Held while a file is made: SQLite's locks are the process', and making a file means closing it once.
    private static let preparing = Mutex(())

    private struct State {
        var open: Open?
        var socket: SignalSocket?
        var watched = WatchedProcesses()
    }

    /// How long to wait for other processes in one transaction.
    static let busyLimit: Duration = .seconds(5)

    let path: StorePath
    /// The name under which others reach this store object.
    let channel: String
    /// The name of the socket: the same, where signals are received.
    private let socketName: String
    private let hub: SignalHub
    private let process = ProcessMark.current
    private let patience: BusyPatience
    private let state = Mutex(State())

    /// Makes a connection without opening it.
    ///
    /// - Parameters:
    ///   - path: The file.
    ///   - hub: Where signals go.
    ///   - busyLimit: How long to wait for other processes in one transaction.
    ///   - main: The connection on which signals are received, when it is not this one.
    init(path: StorePath, hub: SignalHub, busyLimit: Duration, beside main: Connection? = nil) {
        var generator = SystemRandomNumberGenerator()
        self.path = path
        self.hub = hub
        self.socketName = Hex.text(of: generator.next())
        self.channel = main?.channel ?? self.socketName
        self.patience = BusyPatience(limit: busyLimit)
    }

    // MARK: - Commands

    /// Runs a batch: all jobs in one transaction, then the looks, then parts of callers' tasks.
    ///
    /// - Parameter batch: The commands.
    /// - Returns: Whether there was more than a look, which nobody waits for with the next command in hand.
    func run(_ batch: [Command]) -> Bool {
        let jobs = batch.compactMap { command in
            if case .job(let job) = command { job } else { nil }
        }
        if !jobs.isEmpty { self.run(jobs) }
        for case .look(let completion) in batch {
            self.look()
            completion()
        }
        for case .task(let part) in batch { part() }
        return !jobs.isEmpty
    }

    /// Runs jobs in one transaction, or each in its own when one of them upsets the others.
    private func run(_ jobs: [Job]) {
        do {
            let (completions, signals) = try self.transact(jobs)
            self.send(signals)
            for completion in completions { completion() }
        } catch {
            let failure = StoreFailure.lockError(error, path: self.path.file ?? "")
            if failure.code != .storeUnavailable {
                // Perhaps only one of them meets what is broken.
                guard jobs.count == 1 else {
                    for job in jobs { self.run([job]) }
                    return
                }
                self.close()
            }
            for job in jobs { job.fail(failure) }
        }
    }

    private func transact(_ jobs: [Job]) throws -> ([@Sendable () -> Void], [LockTransaction.Addressed]) {
        let open = try self.opened()
        return try open.database.writeWithoutTransaction { database in
            try database.cachedStatement(sql: "BEGIN IMMEDIATE").execute()
            do {
                let transaction = LockTransaction(
                    database: database,
                    now: open.clock.now,
                    process: self.process,
                    channel: self.channel
                )
                if open.isFresh {
                    try transaction.raiseTokens(above: BootClock.wallMicroseconds)
                    try transaction.sweep()
                    self.state.withLock { $0.open?.isFresh = false }
                }
                let completions = try jobs.map { job -> @Sendable () -> Void in
                    do {
                        return try job.work(transaction)
                    } catch let error as LockError where error.code != .storeCorrupted {
                        // The command was refused; what it found to be over is over all the same.
                        return { job.fail(error) }
                    }
                }
                try database.cachedStatement(sql: "COMMIT").execute()
                return (completions, transaction.signals)
            } catch {
                if database.isInsideTransaction { try? database.rollback() }
                if database.isInsideTransaction { self.close() }
                throw error
            }
        }
    }

    private func send(_ signals: [LockTransaction.Addressed]) {
        guard !signals.isEmpty else { return }
        for (channel, group) in Dictionary(grouping: signals, by: \.channel) {
            if channel == self.channel {
                for addressed in group { self.hub.deliver(addressed.signal) }
            } else {
                self.socket()?.send(group.map(\.signal), to: channel)
            }
        }
    }

    // MARK: - Opening

    /// Opens the file unless it is open, and again when another file took its place.
    private func opened() throws -> Open {
        if let open = self.state.withLock({ $0.open }) {
            guard StorePath.identity(of: open.path) == open.file else {
                self.close()
                return try self.open()
            }
            if let open = self.withCompanions(open) { return open }
            // Its log is not the one of the others: copied into the file it would undo what they did.
            open.database.inDatabase { database in
                if let connection = database.sqliteConnection {
                    hf_sqlite_keep_log_apart(UnsafeMutableRawPointer(connection))
                }
            }
            self.close()
        }
        return try self.open()
    }

    /// The same, unless somebody took the write-ahead log away.
    private func withCompanions(_ open: Open) -> Open? {
        let now = open.clock.now
        guard open.looked.duration(to: now) >= Self.companionInterval else { return open }
        let found = Self.companions(of: open.path)
        for (before, after) in zip(open.companions, found) where before != nil && before != after { return nil }
        var open = open
        (open.companions, open.looked) = (found, now)
        self.state.withLock { state in
            state.open?.companions = open.companions
            state.open?.looked = now
        }
        return open
    }

    private static func companions(of path: String) -> [FileIdentity?] {
        [path + "-wal", path + "-shm"].map { StorePath.identity(of: $0) }
    }

    private func open() throws -> Open {
        let path = try Self.preparing.withLock { _ in try self.path.prepared() }
        let clock = try BootClock()
        let boot = try BootGuard(database: path)
        let database = try Schema.open(path, bootID: clock.bootID, patience: self.patience, boot: boot)
        let open = Open(
            database: database,
            file: StorePath.identity(of: path),
            clock: clock,
            path: path,
            boot: boot,
            companions: Self.companions(of: path),
            looked: clock.now
        )
        self.state.withLock { $0.open = open }
        if self.hub.hasHandlers, self.socketName == self.channel { self.listen() }
        return open
    }

    private func close() {
        // What was open is closed after the lock is let go.
        _ = self.state.withLock { state in
            defer { state = State() }
            return state
        }
    }

    // MARK: - Signals

    /// Makes this store object reachable.
    ///
    /// Failing is not the end: waiting requests look by themselves, only later.
    func listen() { _ = self.socket() }

    /// Whether a store object can be reached by signals.
    func isListening(_ channel: String) -> Bool {
        if channel == self.channel { return self.hub.hasHandlers }
        return self.socket()?.reaches(channel) ?? false
    }

    private func socket() -> SignalSocket? {
        if let socket = self.state.withLock({ $0.socket }) { return socket }
        guard let open = self.state.withLock({ $0.open }) else { return nil }
        let hub = self.hub
        let socket = try? SignalSocket(database: open.path, name: self.socketName) { hub.deliver($0) }
        self.state.withLock { $0.socket = socket }
        return socket
    }

    // MARK: - Watching

    /// Looks at the processes that stand before this store object's waiting requests, and frees what dead ones held.
    private func look() {
        let waiting = self.hub.waiting
        guard !waiting.isEmpty, let open = try? self.opened() else { return }
        var watched = self.state.withLock { $0.watched }
        let granted = try? open.database.writeWithoutTransaction { database in
            try watched.refresh(database, waiting: waiting)
        }
        self.state.withLock { $0.watched = watched }
        for id in granted ?? [] { self.hub.deliver(.granted(id)) }
        let freed = watched.resourcesOfDeadProcesses()
        guard !freed.isEmpty else { return }
        self.run([
            Job(
                work: { transaction in
                    for resource in freed { _ = try transaction.settled(resource) }
                    return {}
                },
                fail: { _ in }
            )
        ])
    }
}
