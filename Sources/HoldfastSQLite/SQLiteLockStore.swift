// SPDX-License-Identifier: Apache-2.0

import Foundation
import GRDB
public import HoldfastCore
import Synchronization

/// Locks for all processes of one machine, in one SQLite file; nothing has to be set up.
///
/// What it guarantees:
/// - The meaning of `LockTable`, for every process that opens the same file on the same kernel.
/// - Leases count on the machine's time since boot. A reboot voids all grants; tokens go on rising.
/// - A lock whose process is gone (killed, crashed, exited) passes on at once when somebody asks for it, within about
///   50 ms when somebody waits for it. This is judged only within one pid namespace; elsewhere the lease decides. A
///   process that is stopped or slow keeps its lease. ``detach(_:)`` unties a grant from its process.
/// - Waiters of other processes are woken by a datagram; while nobody waits, nothing runs.
/// - Tokens rise over all resources of a file, also after the file was deleted unless the wall clock was set back.
///
/// What it does not guarantee: anything between machines. A file on a network file system is refused.
///
/// A commit is written, but not flushed to the disk: after a power cut or a kernel crash all grants are void anyway,
/// and tokens jump ahead by more than can have been lost.
///
/// The file is opened by the first command, not by the initializer; a command that finds it unusable throws, and the
/// next one tries again. Commands run on a thread of the store's own.
public final class SQLiteLockStore: LockStore, DetachableStore {
    /// Every mode, for all processes of one machine.
    public let capabilities = StoreCapabilities(
        name: "sqlite",
        scope: .machine,
        modes: Set(LockMode.Kind.allCases),
        converts: true,
        showsWaits: true
    )

    /// How often waiting requests look whether the processes before them live: a dead one is found within 0.1 s.
    private static let lookInterval: Duration = .milliseconds(60)
    /// How long `run()` waits before it tries again to open a file that others keep locked.
    private static let openingPause: Duration = .seconds(1)

    let hub = SignalHub()
    let connection: Connection
    private let commands: CommandQueue<Connection.Command>
    private let callers: CallerExecutor?
    /// Where renewals go, when callers can occupy the thread of the other commands.
    private let renewals: CommandQueue<Connection.Command>

    /// Makes a store on a file, without touching it yet.
    ///
    /// Missing directories are made with mode 0700, the file with mode 0600. Symbolic links, files and directories of
    /// other users, and directories that everybody may write to are refused by the first command.
    ///
    /// - Parameters:
    ///   - path: The file; by default `$XDG_STATE_HOME/holdfast/locks.db`, or else `~/.local/state/holdfast/locks.db`.
    ///   - offersExecutor: Whether tasks can run on the store's thread, see ``executor``. Renewals then have a thread and
    ///     a connection to the file of their own.
    public convenience init(path: String? = nil, offersExecutor: Bool = false) {
        self.init(path: path, busyLimit: Connection.busyLimit, offersExecutor: offersExecutor)
    }

    /// Makes a store that waits no longer than a limit for other processes to let go of the file.
    package init(path: String?, busyLimit: Duration, offersExecutor: Bool = false) {
        let connection = Connection(path: StorePath(path), hub: self.hub, busyLimit: busyLimit)
        self.connection = connection
        self.commands = CommandQueue(spins: ProcessInfo.processInfo.activeProcessorCount > 1) { connection.run($0) }
        self.callers = offersExecutor ? CallerExecutor(self.commands) : nil
        if offersExecutor {
            let other = Connection(path: connection.path, hub: self.hub, busyLimit: busyLimit, beside: connection)
            self.renewals = CommandQueue(spins: false) { other.run($0) }
        } else {
            self.renewals = self.commands
        }
    }

    /// Runs tasks on the store's thread; `nil` unless the store was made to offer it.
    ///
    /// ```swift
    /// let store = SQLiteLockStore(offersExecutor: true)
    /// await withTaskExecutorPreference(store.executor) { … }
    /// ```
    ///
    /// Commands of such tasks, and their replies, change threads twice less. What blocks or computes for long there holds
    /// up all commands of the store but renewals.
    public var executor: (any TaskExecutor)? { self.callers }

    /// The file, or `nil` when neither `XDG_STATE_HOME` nor `HOME` says where it is.
    public var path: String? { self.connection.path.file }

    // MARK: - Requests

    /// Takes a lock or a place in its queue; see `LockStore`.
    ///
    /// - Throws: `LockError`.
    public func acquire(_ request: LockRequest) async throws -> AcquireReply {
        try self.capabilities.check(request)
        let reply = try await self.perform { try $0.acquire(request) }
        switch reply {
        case .waiting: self.hub.track(request.key, isWaiting: true)
        case .granted, .busy, .finished: self.hub.track(request.key, isWaiting: false)
        }
        return reply
    }

    /// Renews grants in one transaction; see `LockStore`.
    ///
    /// - Throws: `LockError`.
    public func renew(_ renewals: [Renewal]) async throws -> [RenewReply] {
        guard renewals.count <= Limits.maximumRenewalBatch else {
            throw LockError(
                .invalidArgument,
                "\(renewals.count) renewals in one call; the limit is \(Limits.maximumRenewalBatch)"
            )
        }
        return try await self.perform(on: self.renewals) { transaction in
            try renewals.map { try transaction.renew($0) }
        }
    }

    /// Gives a lock back and hands it on; see `LockStore`.
    ///
    /// - Throws: `LockError`.
    public func release(_ grant: GrantKey) async throws -> ReleaseReply {
        let reply = try await self.perform { try $0.release(grant) }
        self.hub.track(grant, isWaiting: false)
        return reply
    }

    /// Gives up a request wherever it is; see `LockStore`.
    ///
    /// - Throws: `LockError`.
    public func withdraw(_ request: GrantKey) async throws -> WithdrawReply {
        self.hub.track(request, isWaiting: false)
        return try await self.perform { try $0.withdraw(request) }
    }

    /// Changes the mode of a grant in place; see `LockStore`.
    ///
    /// - Throws: `LockError`.
    public func convert(_ conversion: Conversion) async throws -> ConvertReply {
        let reply = try await self.perform { try $0.convert(conversion) }
        switch reply {
        case .waiting: self.hub.track(conversion.key, isWaiting: true)
        case .converted, .busy, .lost: self.hub.track(conversion.key, isWaiting: false)
        }
        return reply
    }

    /// Unties a grant from the life of this process; see `DetachableStore`.
    ///
    /// - Throws: `LockError`.
    public func detach(_ grant: GrantKey) async throws { try await self.perform { try $0.detach(grant) } }

    // MARK: - Operators

    /// Asks the holders of a resource to let go; see `LockStore`.
    ///
    /// - Throws: `LockError`.
    public func revoke(_ resource: Resource) async throws -> RevokeReply {
        try await self.perform { [connection = self.connection] transaction in
            let (asked, channels) = try transaction.revoke(resource)
            return RevokeReply(asked: asked, reached: channels.count { connection.isListening($0) })
        }
    }

    /// Takes a resource from its holders; see `LockStore`.
    ///
    /// - Throws: `LockError`.
    public func forceRelease(_ resource: Resource) async throws -> [Holder] {
        try await self.perform { try $0.forceRelease(resource) }
    }

    /// Describes one resource; see `LockStore`.
    ///
    /// - Throws: `LockError`.
    public func status(of resource: Resource) async throws -> ResourceStatus {
        try await self.perform { try $0.status(of: resource) }
    }

    /// Describes the resources that are not free, in the order of their names; see `LockStore`.
    ///
    /// - Throws: `LockError`.
    public func survey(_ pattern: ResourcePattern, after cursor: SurveyPage.Cursor?) async throws -> SurveyPage {
        try await self.perform { try $0.survey(pattern, after: cursor) }
    }

    // MARK: - Signals and background

    /// Describes the resources that an owner's requests hang on, as of one moment; see `LockStore`.
    ///
    /// - Throws: `LockError`.
    public func waits(of owner: OwnerID, for resource: Resource) async throws -> [ResourceStatus] {
        try await self.perform { try $0.reach(of: owner) }
    }

    /// Registers a handler for signals, and makes this process reachable for others.
    ///
    /// - Parameter handler: What to do with a signal.
    /// - Returns: A subscription that ends when it is cancelled.
    public func subscribe(_ handler: @escaping @Sendable (StoreSignal) -> Void) -> SignalSubscription {
        let subscription = self.hub.subscribe(handler)
        let listening = Connection.Job(
            work: { [connection = self.connection] _ in { connection.listen() } },
            fail: { _ in }
        )
        self.commands.submit(.job(listening))
        return subscription
    }

    /// Frees the locks of dead processes that this process' requests wait for, until cancelled.
    ///
    /// - Throws: `LockError` when the file cannot be used at all; a file that is only locked is tried again.
    public func run() async throws {
        try await self.openFile()
        for await _ in self.hub.beginnings() {
            while self.hub.hasWaiting, !Task.isCancelled {
                try? await Task.sleep(for: Self.lookInterval)
                await self.look()
            }
        }
    }

    private func openFile() async throws {
        while !Task.isCancelled {
            do {
                return try await self.perform { _ in }
            } catch let error as LockError where error.code == .storeUnavailable {
                try? await Task.sleep(for: Self.openingPause)
            }
        }
    }

    // MARK: - Commands

    /// Reads the file outside of any lock command, for diagnosis.
    func inspect<Reply: Sendable>(_ body: @escaping @Sendable (Database) throws -> Reply) async throws -> Reply {
        try await self.perform { try body($0.database) }
    }

    /// Runs a command in a transaction on the store's thread; the caller's cancellation does not stop it.
    @concurrent
    private func perform<Reply: Sendable>(
        on queue: CommandQueue<Connection.Command>? = nil,
        _ body: @escaping @Sendable (LockTransaction) throws -> Reply
    ) async throws -> Reply {
        try await withCheckedThrowingContinuation { continuation in
            let job = Connection.Job(
                work: { transaction in
                    let reply = try body(transaction)
                    return { continuation.resume(returning: reply) }
                },
                fail: { continuation.resume(throwing: $0) }
            )
            (queue ?? self.commands).submit(.job(job))
        }
    }

    @concurrent
    private func look() async {
        await withCheckedContinuation { continuation in
            self.commands.submit(.look { continuation.resume() })
        }
    }
}
