// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore
import NIOCore
import NIOPosix
import Synchronization

/// Locks on several independent Redis masters, of which a majority decides: Redlock, with fencing tokens that rise.
///
/// All servers are asked at once, and a majority's word suffices: with three servers one may be down, with five two.
/// Each keeps the same keys as one server alone (see ``RedisLockStore``), so plain Redlock libraries on the same servers
/// exclude ours and ours them.
///
/// What it promises, and on what condition:
/// - One holder at a time while no more than a minority of servers loses its memory or lets its clock jump ahead within
///   the time of one lease. A server that has restarted does not count before it has been up for longer than any lease
///   lasts (``RedisQuorumConfiguration/restartGuard``), so restarts one after the other are safe.
/// - Tokens rise from grant to grant, also when those conditions fail but clocks are not set back: each is the highest
///   that any server of the majority gave, from its last one and its clock, and a majority knows it before the grant
///   counts. A server whose clock is ahead of the others' by more than the guard does not count: its tokens would go on
///   being the highest for longer than it takes to restart, one after the other, all others that know of them. Without
///   a guard (`guard=off`), and with tokens that such a server gave before it was known, nothing keeps restarts that
///   lose data from taking tokens back by as much as its clock was ahead.
/// - No order: whoever asks a majority first when the lock is free gets it. Those who wait are told by the servers, the
///   one who came first there before others, but nobody is promised a turn.
/// - No permits: n on each server are more than n among all majorities.
///
/// Waits are seen, and deadlocks found, through what a majority says. Each server tells when a foreign holder lets go there;
/// where it may not, the first in line asks ten times a second.
///
/// The algorithm is that of Redis' own documentation ("Distributed Locks with Redis"), its delayed restarts included;
/// the tokens' second round is that of pottery's `NextId`, and is left out when all servers gave the same token.
public final class RedisQuorumLockStore: LockStore {
    /// How the servers are reached.
    public let configuration: RedisQuorumConfiguration

    let nodes: [QuorumNode]
    let needed: Int
    let book = Mutex(QuorumBook())
    let conversions = ConversionCount()
    let handlers = SignalHandlers()
    let clocks: Mutex<ClockWatch>
    private let loop: any EventLoop
    private let onAlarm: Mutex<@Sendable (ClockAlarm) -> Void>

    /// Makes a store from a URL; nothing is sent yet.
    ///
    /// - Parameter url: See ``RedisQuorumConfiguration/init(url:)``.
    /// - Throws: ``LockError`` when the URL cannot be read.
    public convenience init(url: String) throws {
        try self.init(configuration: RedisQuorumConfiguration(url: url))
    }

    /// Makes a store; nothing is sent yet.
    ///
    /// - Parameter configuration: How the servers are reached.
    /// - Throws: ``LockError`` when a setting is out of its range.
    public init(configuration: RedisQuorumConfiguration) throws {
        try configuration.check()
        self.configuration = configuration
        self.needed = AcquireTally.majority(of: configuration.servers.count)
        self.clocks = Mutex(ClockWatch(nodes: configuration.servers.count))
        self.onAlarm = Mutex { _ in }
        let loop = MultiThreadedEventLoopGroup.singleton.any()
        self.loop = loop
        var generator = SystemRandomNumberGenerator()
        let channel = "hf:c:\(Hex.text(of: generator.next()))"
        let ear = Ear<RedisQuorumLockStore>()
        self.nodes = try configuration.servers.enumerated().map { number, server in
            var server = server
            server.asksUptime = configuration.restartGuard != nil
            let connector = try Connector(server, loop: loop)
            return QuorumNode(connector, channel: channel) {
                ear.owner?.heard($0, from: number)
            } onChange: {
                ear.owner?.heard(.check($0, after: .zero), from: number)
            }
        }
        ear.set(self)
    }

    deinit { for node in self.nodes { node.close() } }

    /// Exclusive, shared and update mode, conversions, lock delays, and a view of waits; no order among those who wait.
    public var capabilities: StoreCapabilities {
        StoreCapabilities(
            name: "redis quorum",
            scope: .network,
            modes: [.exclusive, .shared, .update],
            converts: true,
            showsWaits: true,
            prioritizes: false,
            handsOver: false,
            maximumLease: self.configuration.restartGuard ?? Limits.maximumLease
        )
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

    /// Listens for messages and watches the servers' clocks, until cancelled.
    ///
    /// Servers that cannot be reached are tried again and again; what a majority refuses is thrown.
    ///
    /// - Throws: ``LockError`` with code ``LockError/Code/storeRefused`` for a wrong password, a missing permission to
    ///   connect, or servers that evict keys.
    public func run() async throws {
        for node in self.nodes { node.subscription.start() }
        let refusals = await self.readClocks().compactMap { $0?.code == .storeRefused ? $0 : nil }
        if refusals.count >= self.needed { throw refusals[0] }
        while !Task.isCancelled {
            try? await Task.sleep(for: Self.clockInterval)
            _ = await self.readClocks()
        }
    }

    /// Whether a server's word counts: it has been up for longer than any lease.
    func counts(_ number: Int, _ ages: [ServerRun?]? = nil) -> Bool {
        guard let time = self.configuration.restartGuard else { return true }
        return ServerRun.hasBeenUp(number, of: ages ?? self.nodes.map(\.age), for: time, at: .now)
    }

    /// What is known of the servers' ages: of those whose word is to be weighed also when they are out of reach by now.
    func ages(weighing isWeighed: (Int) -> Bool) -> [ServerRun?] {
        self.nodes.enumerated().map { number, node in isWeighed(number) ? node.lastAge : node.age }
    }

    /// Why a server's word does not count whatever it says: its clock is ahead of the others' by more than the restart guard.
    ///
    /// Tokens are of the servers' clocks. Those that know one may all be restarted, one after the other, each for at least
    /// the time of the guard; then the clocks of the others must have gone past it.
    func strayed(_ number: Int, _ ages: [ServerRun?]) -> LockError? {
        guard let time = self.configuration.restartGuard,
            let lead = self.clocks.withLock({ $0.lead(of: number) })
                ?? ServerRun.lead(of: number, ages),
            lead > time
        else { return nil }
        return LockError(
            .storeUnavailable,
            """
            the clock of \(self.nodes[number].place) is \(lead.brief) ahead of the others', more than the guard of \
            \(time.brief), so its word does not count; set it right
            """
        )
    }

    // MARK: - Clocks

    /// What is wrong with a server's clock.
    public struct ClockAlarm: Sendable, Hashable {
        /// The server, as `host:port`.
        public let server: String
        /// How far its clock jumped, or how far it is from the others'.
        public let by: Duration
        /// Whether it jumped since it was last read; if not, it was found far from the others.
        public let isJump: Bool
    }

    /// How often clocks are read.
    private static let clockInterval: Duration = .seconds(2)

    /// The largest distance between two servers' clocks as last read, every two seconds while ``run()`` runs.
    public var clockSkew: Duration { self.clocks.withLock { $0.skew } }

    /// Says what to do when a server's clock jumps or is far from the others', once each time.
    ///
    /// A clock that jumps ahead ends leases on its server early: until the lock's next renewal one server less stands for
    /// it. The handler must not block; it replaces the one before.
    ///
    /// - Parameter handler: What to do.
    public func onClockAlarm(_ handler: @escaping @Sendable (ClockAlarm) -> Void) {
        self.onAlarm.withLock { $0 = handler }
    }

    /// Reads all clocks.
    ///
    /// - Returns: For each server what went wrong, or `nil`.
    @discardableResult
    func readClocks() async -> [LockError?] {
        await Canvass.run(self.nodes.count) { number, done in
            let sent = ContinuousClock.now
            self.nodes[number].readTime { outcome in
                let received = ContinuousClock.now
                switch outcome {
                case .failure(let error): done(.failure(error))
                case .success(let time):
                    self.took(time, of: number, sent: sent, received: received)
                    done(.success(()))
                }
            }
        } decide: { (answers: [Result<Void, LockError>?]) -> [LockError?]? in
            if answers.contains(where: { $0 == nil }) { return nil }
            return answers.map { if case .failure(let error)? = $0 { error } else { nil } }
        }
    }

    private func took(
        _ time: Duration,
        of number: Int,
        sent: ContinuousClock.Instant,
        received: ContinuousClock.Instant
    ) {
        guard let alarm = self.clocks.withLock({ $0.read(time, of: number, sent: sent, received: received) }) else {
            return
        }
        let news = ClockAlarm(server: self.nodes[number].place, by: alarm.by, isJump: alarm.isJump)
        self.onAlarm.withLock { $0 }(news)
    }

    // MARK: - Messages

    /// How long to wait for the other servers' word when one says that a lock is free.
    private static let hintPause: ClosedRange<Int64> = 2...8

    private func heard(_ event: Subscription.Event, from node: Int) {
        guard case .message(let payload) = event else {
            if case .interrupted = event { self.handlers.emit(.interrupted) }
            return
        }
        if let signal = ScriptReplies.signal(payload) { self.heard(signal, from: node) }
    }

    private func heard(_ signal: StoreSignal, from node: Int) {
        switch signal {
        case .granted(let id), .handedOver(let id, _, since: _), .check(let id, after: .zero):
            // What we hold on a majority is offered to us where it is missing.
            if self.book.withLock({ $0.holds(id, at: .now) }) { return self.heal(id, on: node) }
            switch self.book.withLock({ $0.hear(id, isLoss: false, from: node, of: self.nodes.count) }) {
            case .now: self.handlers.emit(.check(id, after: .zero))
            case .soon:
                self.loop.scheduleTask(in: .milliseconds(Int64.random(in: Self.hintPause))) { [weak self] in
                    guard let self, self.book.withLock({ $0.takeHint(id) }) else { return }
                    self.handlers.emit(.check(id, after: .zero))
                }
            case .known: break
            }
        case .check: self.handlers.emit(signal)
        case .lost(let id, _):
            guard self.book.withLock({ $0.hear(id, isLoss: true, from: node, of: self.nodes.count) }) == .now else {
                return
            }
            _ = self.book.withLock { $0.remove(id) }
            self.handlers.emit(signal)
        case .revokeRequested, .interrupted, .doubted: self.handlers.emit(signal)
        }
    }
}
