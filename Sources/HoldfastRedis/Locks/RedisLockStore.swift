// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore
import NIOCore
import NIOPosix
import Synchronization

/// Locks on one Redis server (6.2 or later), behind Sentinel, or on a cluster, of all modes.
///
/// Resource `x` is held exactly while the string key `x` exists, with the exclusive holder's secret as its value:
/// redis-py, redsync, node-redlock and other plain Redlock libraries exclude ours on the same names, and ours theirs.
/// While readers, a holder in update mode, or holders of permits hold, the value is `hf:shared`, and foreign lockers
/// see a lock that is taken. Waiting is by message: whoever releases hands the lock to the next waiters in the same round
/// trip.
///
/// What it does not promise: a server that loses its memory (a restart without persistence, a failover) loses the
/// locks, and holders learn it at their next renewal; foreign lockers do not know of our queue or of lock delays.
/// One connection carries the commands, one the messages, and with ``RedisConfiguration/replicas`` one what waits for
/// them; each is made when it is first needed. On a cluster, each master that has locks of ours has such connections, and
/// each lock's keys are in one slot.
///
/// A user of the server needs no more than ``RedisPermissions/rules(prefix:isCluster:)``; `holdfast doctor` shows them.
public final class RedisLockStore: LockStore {
    /// How the server is reached.
    public let configuration: RedisConfiguration

    private let access: RedisAccess
    /// What renewals go by, where callers can block the thread of the rest.
    private let renewals: RedisAccess?
    private let loopExecutor: LoopExecutor?
    let commands: LockCommands
    let conversions = ConversionCount()
    /// Where messages come, whatever the server.
    let channel: String
    let handlers: SignalHandlers
    /// Who waits for foreign holders of which keys.
    let foreign = Mutex(ForeignLine())
    /// Who waits and accepts unasked.
    let line = Mutex(OwnLine())
    /// Whether anybody ever waited: most stores' locks are free, and need not look.
    let hasLine = Atomic(false)
    /// Whether locks are handed over without an acceptance to who waits by this store.
    let handsOver: Bool
    private let seen = Mutex(SeenTokens())
    /// Requests that were sent twice or not answered: a copy may still arrive.
    private let repeated = Mutex<Set<RequestID>>([])

    /// Makes a store from a URL; nothing is sent yet.
    ///
    /// - Parameter url: `redis://[user:password@]host[:port][/database][?prefix=…&timeout=…&name=…&eviction=allow]`.
    /// - Throws: ``LockError`` when the URL cannot be read or asks for what this build has not.
    public convenience init(url: String) throws {
        try self.init(configuration: RedisConfiguration(url: url))
    }

    /// Makes a store; nothing is sent yet.
    ///
    /// - Parameter configuration: How the server is reached.
    /// - Throws: ``LockError`` when a setting is out of its range.
    public init(configuration: RedisConfiguration) throws {
        try configuration.check()
        self.configuration = configuration
        let executor = configuration.offersExecutor ? LoopExecutor() : nil
        self.loopExecutor = executor
        let loop = executor?.loop ?? MultiThreadedEventLoopGroup.singleton.any()
        let handlers = SignalHandlers()
        var generator = SystemRandomNumberGenerator()
        let isCluster = configuration.cluster != nil
        // The scripts know channels of a cluster by the last character.
        self.channel = "hf:c:\(Hex.text(of: generator.next()))\(isCluster ? "~" : "")"
        self.handlers = handlers
        self.handsOver = !isCluster && configuration.sentinels == nil && configuration.replicas == 0
        self.commands = LockCommands(prefix: configuration.prefix, isCluster: isCluster)
        let ear = Ear<RedisLockStore>()
        let onEvent = { @Sendable (event: Subscription.Event) in
            switch event {
            case .message(let payload): if let signal = ScriptReplies.signal(payload) { handlers.emit(signal) }
            case .interrupted, .rearranged:
                // All ask again, and have the server tell anew.
                ear.owner?.foreign.withLock { $0.clear() }
                handlers.emit(.interrupted)
            case .changed(let keys): ear.owner?.changed(keys)
            case .began, .lost: break
            }
        }
        self.access = try RedisAccess(configuration, loop: loop, channel: self.channel, onEvent: onEvent)
        let other = MultiThreadedEventLoopGroup.singleton.any()
        var plain = configuration
        plain.offersExecutor = false
        self.renewals = try executor == nil ? nil : RedisAccess(plain, loop: other, channel: "") { _ in }
        ear.set(self)
    }

    deinit {
        self.access.close()
        self.renewals?.close()
    }

    var client: RedisClient { self.access.client }
    var servers: RedisAccess.Servers { self.access.servers }

    /// Runs tasks on the thread of the store's connections; `nil` unless ``RedisConfiguration/offersExecutor`` is set.
    ///
    /// ```swift
    /// await withTaskExecutorPreference(store.executor) { … }
    /// ```
    ///
    /// Commands of such tasks, and their replies, change threads twice less. What blocks or computes for long there holds
    /// up all commands of the store but renewals, which have a connection and a thread of their own.
    public var executor: (any TaskExecutor)? { self.loopExecutor }

    /// All modes, conversions, a queue, lock delays, and a view of waits.
    public var capabilities: StoreCapabilities { Self.capabilities }

    private static let capabilities = StoreCapabilities(
        name: "redis",
        scope: .network,
        modes: Set(LockMode.Kind.allCases),
        converts: true,
        showsWaits: true
    )

    /// See ``LockStore/acquire(_:)``.
    ///
    /// One round trip; two when it is the first to wait, since messages must be on their way before it may rely on
    /// them. The reply names at most 100 of the holders in the way, those whose leases end first.
    ///
    /// - Parameter request: The request.
    /// - Returns: How it stands.
    /// - Throws: ``LockError``; whether the request took effect is then unknown unless the message says so.
    public func acquire(_ request: LockRequest) async throws -> AcquireReply {
        try Self.capabilities.check(request)
        guard request.contention == .queue else {
            if case .cluster = self.servers {
                // Else what others send to a new holder reaches nobody: here it takes much longer than the lock does.
                let master = try await self.master(of: request.resource)
                if master.subscription.settled == nil { _ = try await self.listening(for: request.resource) }
            }
            let channel = self.knownMaster(of: request.resource)?.channel ?? self.channel
            return try await self.acquire(request, queues: false, channel: channel)
        }
        var master = try await self.master(of: request.resource)
        if let standing = master.subscription.settled { return try await self.acquire(request, master, standing) }
        if case .cluster = self.servers {
            let (listener, standing) = try await self.listening(for: request.resource)
            if standing == .listening { return try await self.acquire(request, listener, .listening) }
            master = listener
        } else {
            master.subscription.start()
        }
        // Nobody could tell us of a hand-over yet. Most locks are free: look before waiting for the messages.
        let reply = try await self.acquire(request, queues: false, channel: master.channel)
        guard case .busy = reply else { return reply }
        let (listener, standing) = try await self.listening(for: request.resource)
        return try await self.acquire(request, listener, standing)
    }

    private func acquire(
        _ request: LockRequest,
        _ master: RedisMaster,
        _ standing: Subscription.Standing
    ) async throws -> AcquireReply {
        switch standing {
        case .listening:
            let reply = try await self.acquire(request, queues: true, channel: master.channel)
            return await self.watchingForeign(reply, to: request, on: master)
        // Without a channel, the server hands over all the same, and the waiter asks often.
        case .forbidden: return try await self.acquire(request, queues: true, channel: "")
        case .late, .refused:
            throw LockError(
                .storeUnavailable,
                "no connection for messages to \(self.configuration) yet, so the request was not queued; try again"
            )
        }
    }

    private func acquire(_ request: LockRequest, queues: Bool, channel: String) async throws -> AcquireReply {
        let floor = self.isAlone ? nil : self.seen.withLock { $0.floor(of: request.id) }
        let command = self.commands.acquire(request, queues: queues, channel: channel, floor: floor)
        let answer: RedisClient.Answer
        do throws(LockError) {
            answer = try await self.client.send(
                to: command.place,
                isRepeatable: true,
                awaitsReplicas: self.configuration.replicas > 0,
                command.request
            )
        } catch {
            // It may arrive when all is over.
            if error.code == .storeUnavailable { self.remember(request.id) }
            throw error
        }
        let reply = try command.read(answer).reply
        if answer.isRepeat { self.remember(request.id) }
        if let floor { self.seen.withLock { $0.saw(reply, to: request.id, floor) } }
        self.note(reply, to: request)
        if case .granted = reply {
            self.forgetForeign(request.key)
            try await self.confirm(request, answer)
        }
        return reply
    }

    /// Where a master may take over that lost what the last one gave, tokens go on from the highest that was seen here.
    var floor: Int64? { self.isAlone ? nil : self.seen.withLock { $0.floor } }

    private var isAlone: Bool { self.configuration.sentinels == nil && self.configuration.cluster == nil }

    /// Takes note of a token: those that are given from now on are above it.
    func saw(_ token: FencingToken) { if !self.isAlone { self.seen.withLock { $0.saw(token) } } }

    /// Makes sure that replicas have a grant; gives it back if they have not.
    private func confirm(_ request: LockRequest, _ answer: RedisClient.Answer) async throws {
        guard let shortfall = self.shortfall(answer, "grant") else { return }
        _ = try? await self.withdraw(request.key)
        throw shortfall
    }

    /// What to say when too few replicas have something; `nil` when enough have it.
    func shortfall(_ answer: RedisClient.Answer, _ what: String) -> LockError? {
        let needed = self.configuration.replicas
        guard needed > 0, answer.confirmations < needed else { return nil }
        return LockError(
            .storeUnavailable,
            """
            \(answer.confirmations) of \(needed) replicas had the \(what) within \(self.configuration.replicaTimeout.brief), \
            so it was given back; look at the replicas of \(self.configuration), or lower replicas=
            """
        )
    }

    /// Says what to do about servers that are used and should be set otherwise, as each is connected; each thing once.
    ///
    /// For now of masters behind Sentinel or of a cluster that would grant on without replicas (`min-replicas-to-write`
    /// 0), where ``RedisConfiguration/refusesLoneMaster`` does not refuse them.
    ///
    /// - Parameter handler: What to do; it must not block, and replaces the one before.
    public func onCaution(_ handler: @escaping @Sendable (RedisCaution) -> Void) {
        self.access.cautions.handle(handler)
    }

    /// Remembers a request of which a copy may still be under way on a lost connection.
    private func remember(_ id: RequestID) {
        self.repeated.withLock { repeated in
            // What is never released here must not grow for ever; the copies of old ones have long arrived.
            if repeated.count >= Limits.rememberedRequests { repeated = [] }
            repeated.insert(id)
        }
    }

    /// See ``LockStore/renew(_:)``.
    ///
    /// One round trip; on a cluster to each master at once, with a command for each slot.
    ///
    /// - Parameter renewals: At most ``Limits/maximumRenewalBatch`` grants.
    /// - Returns: An answer for each, in the same order.
    /// - Throws: ``LockError`` when all answers are unknown.
    public func renew(_ renewals: [Renewal]) async throws -> [RenewReply] {
        guard !renewals.isEmpty else { return [] }
        guard renewals.count <= Limits.maximumRenewalBatch else {
            throw LockError(.invalidArgument, "at most \(Limits.maximumRenewalBatch) grants can be renewed at once")
        }
        let client = self.renewals?.client ?? self.client
        let floor = self.floor
        return try await self.perSlot(renewals, \.key.resource, orElse: .unknown, by: client) {
            self.commands.renew($0, floor: floor)
        }
    }

    /// See ``LockStore/release(_:)``.
    ///
    /// One round trip; two when the acquire had to be sent twice, or was not answered at first, so that a late copy of it
    /// takes nothing.
    ///
    /// - Parameter grant: The grant.
    /// - Returns: What became of it.
    /// - Throws: ``LockError``; the lease then ends by itself unless the release took effect.
    public func release(_ grant: GrantKey) async throws -> ReleaseReply {
        let reply = try await self.letGo(grant)
        if self.repeated.withLock({ $0.remove(grant.id) }) != nil { _ = try? await self.withdraw(grant) }
        return reply
    }

    /// See ``LockStore/withdraw(_:)``.
    ///
    /// One round trip. For a minute, a late copy of the request is then answered with ``AcquireReply/finished``.
    ///
    /// - Parameter request: The request.
    /// - Returns: What became of it.
    /// - Throws: ``LockError``; the place in the queue then ends at its wait limit or its acceptance time.
    public func withdraw(_ request: GrantKey) async throws -> WithdrawReply {
        self.forgetForeign(request)
        self.forgetInLine(request)
        let reply = try await self.client.run(self.commands.withdraw(request, floor: self.floor))
        _ = self.repeated.withLock { $0.remove(request.id) }
        if !self.isAlone { self.seen.withLock { $0.forget(request.id) } }
        return reply
    }

    /// See ``LockStore/subscribe(_:)``.
    ///
    /// The handler runs on the event loop of the store's connections.
    ///
    /// - Parameter handler: What to do with a signal.
    /// - Returns: A subscription that ends when it is cancelled.
    public func subscribe(_ handler: @escaping @Sendable (StoreSignal) -> Void) -> SignalSubscription {
        self.handlers.add(handler)
    }

    /// Listens for messages until cancelled.
    ///
    /// A server that cannot be reached is tried again and again; what it refuses is thrown.
    ///
    /// - Throws: ``LockError`` with code ``LockError/Code/storeRefused`` for a wrong password, a missing permission to
    ///   connect, or a server that evicts keys.
    public func run() async throws {
        switch self.servers {
        case .one(let master): master.subscription.start()
        case .cluster(let cluster): cluster.listen()
        }
        do {
            _ = try await self.client.run(["PING"])
        } catch  where error.code == .storeRefused {
            throw error
        } catch {
            // It may come up later; each call says for itself when it does not answer.
        }
        while !Task.isCancelled { try? await Task.sleep(for: .seconds(3600)) }
    }
}
