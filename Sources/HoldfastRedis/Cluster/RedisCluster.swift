// SPDX-License-Identifier: Apache-2.0

package import HoldfastCore
import NIOCore
import Synchronization

/// The nodes of a Redis Cluster: who has which slot, and our connections to them.
///
/// Asks several nodes at once for the map, and believes the one that knows of the latest configuration epoch: a node that
/// was cut off would send us to those it was cut off with. Source: the Redis Cluster specification, "Redirection and
/// resharding" and "Configuration propagation".
package final class RedisCluster: Sendable {
    private struct State {
        var map: SlotMap?
        var nodes: [RedisAddress: RedisMaster] = [:]
        /// The configuration that the map is of.
        var epoch: Int64 = 0
        /// How often in a row the nodes that answered knew of an older one only.
        var olderMaps = 0
        var isLooking = false
        /// Whether another look is planned, since the last one found nobody.
        var looksAgain = false
        var lookedAt: ContinuousClock.Instant?
        /// Whether nobody answered last time: then replicas and those of the URL are asked too.
        var looksEverywhere = true
        var waiting: [@Sendable (LockError?) -> Void] = []
        var isWatching = false
        /// Whether messages are wanted though nobody waits.
        var isListening = false
        var isClosed = false
    }

    /// How often the map is read while somebody waits for messages: a change makes nobody fail who could tell us.
    private static let interval: TimeAmount = .seconds(5)
    /// After the first answer, how long to wait for one that knows more.
    private static let grace: TimeAmount = .milliseconds(30)
    /// How soon the map is read again when commands fail.
    private static let shortestPause: Duration = .milliseconds(100)
    /// When to look again while messages are wanted and no node serves anything.
    private static let secondLook: TimeAmount = .milliseconds(500)
    /// After how many older maps in a row to believe that the cluster was made anew.
    private static let olderMapsBelieved = 3
    /// How many nodes of each kind are asked at once.
    private static let asked = 5

    private let configuration: RedisConfiguration
    private let seeds: [RedisAddress]
    private let loop: any EventLoop
    private let channel: String
    private let hearsOfLocks: Bool
    private let cautions: Cautions
    private let onEvent: @Sendable (Subscription.Event) -> Void
    private let state = Mutex(State())

    /// Makes a cluster; nothing is sent yet.
    ///
    /// - Parameters:
    ///   - configuration: How its nodes are reached; its host and port do not count.
    ///   - seeds: Nodes to ask first.
    ///   - loop: Where the connections live.
    ///   - channel: Where messages come; see ``Subscription``.
    ///   - hearsOfLocks: See ``RedisAccess``.
    ///   - cautions: Told of nodes that should be set otherwise.
    ///   - onEvent: Told of messages, and when some may have been missed.
    /// - Throws: ``LockError`` when a node could not be connected, whatever its address.
    init(
        _ configuration: RedisConfiguration,
        seeds: [RedisAddress],
        loop: any EventLoop,
        channel: String,
        hearsOfLocks: Bool,
        cautions: Cautions,
        onEvent: @escaping @Sendable (Subscription.Event) -> Void
    ) throws(LockError) {
        self.configuration = configuration
        self.seeds = seeds
        self.loop = loop
        self.channel = channel
        self.hearsOfLocks = hearsOfLocks
        self.cautions = cautions
        self.onEvent = onEvent
        for seed in seeds { _ = try self.node(at: seed) }
    }

    func close() {
        let (nodes, waiting) = self.state.withLock { state in
            state.isClosed = true
            defer { (state.nodes, state.waiting) = ([:], []) }
            return (state.nodes, state.waiting)
        }
        for node in nodes.values { node.close() }
        for done in waiting { done(LockError(.notRunning, "the Redis store is closed")) }
    }

    // MARK: - Nodes

    /// The node at an address.
    ///
    /// - Throws: ``LockError`` when what encryption needs cannot be read.
    func node(at address: RedisAddress) throws(LockError) -> RedisMaster {
        if let node = self.state.withLock({ $0.nodes[address] }) { return node }
        var configuration = self.configuration
        configuration.cluster = nil
        (configuration.host, configuration.port) = (address.host, address.port)
        configuration.isClusterNode = true
        let connector = try Connector(configuration, loop: self.loop, cautions: self.cautions)
        var shard: (@Sendable () -> String?)?
        if self.hearsOfLocks { shard = { [weak self] in self?.shard(on: address) } }
        // Tracking ends with the connection that asked for it.
        let (hearsOfLocks, onEvent) = (self.hearsOfLocks, self.onEvent)
        let onLoss = { @Sendable in if hearsOfLocks { onEvent(.changed(nil)) } }
        let node = RedisMaster(
            configuration,
            CommandConnection(connector, failsFast: true, onLoss: onLoss),
            Subscription(
                connector,
                channel: self.channel,
                hearsOfKeys: self.hearsOfLocks,
                shard: shard
            ) { [weak self] event in
                guard let self else { return }
                if case .lost = event { self.look(after: .zero) { _ in } }
                self.onEvent(event)
            },
            patient: PatientConnection(connector, failsFast: true)
        )
        let (kept, isClosed) = self.state.withLock { state in
            if let other = state.nodes[address] { return (other, state.isClosed) }
            if !state.isClosed { state.nodes[address] = node }
            return (node, state.isClosed)
        }
        if isClosed || kept !== node { node.close() }
        return kept
    }

    /// A channel that stays with a node.
    private func shard(on address: RedisAddress) -> String? {
        self.state.withLock { $0.map }?.tag(on: address).map { "\(self.channel){\($0)}" }
    }

    /// Who has a slot, or any master, as far as is known.
    func known(_ slot: RedisSlot?) -> RedisMaster? {
        let address = self.state.withLock { state -> RedisAddress? in
            guard let map = state.map else { return nil }
            guard let slot else { return map.masters.randomElement() }
            return map.owner(of: slot)
        }
        return address.flatMap { try? self.node(at: $0) }
    }

    /// Who has a slot, or any master; asks if it is not known.
    func master(of slot: RedisSlot?) async throws(LockError) -> RedisMaster {
        if let master = self.known(slot) { return master }
        if let error = await self.look(after: Self.shortestPause) { throw error }
        if let master = self.known(slot) { return master }
        throw LockError(
            .storeUnavailable,
            "no node of \(self.configuration) serves slot \(slot?.description ?? "0"); see CLUSTER INFO"
        )
    }

    /// All masters, in the order of their addresses.
    package func masters() async throws(LockError) -> [RedisMaster] {
        if self.state.withLock({ $0.map }) == nil, let error = await self.look(after: Self.shortestPause) {
            throw error
        }
        var masters: [RedisMaster] = []
        let addresses = self.state.withLock { $0.map?.masters } ?? []
        for address in addresses.sorted(by: { ($0.host, $0.port) < ($1.host, $1.port) }) {
            masters.append(try self.node(at: address))
        }
        return masters
    }

    /// Whether the store is open: then a connection that is closed was that of a node without slots.
    var isOpen: Bool { self.state.withLock { !$0.isClosed } }

    /// Who sends us messages, or will; `nil` before ``listen()``, and while nobody is known.
    package var listener: RedisMaster? {
        self.state.withLock { Array($0.nodes.values) }.first { $0.subscription.isStarted }
    }

    /// How many slots have a master.
    var covered: Int { self.state.withLock { $0.map }?.covered ?? 0 }

    /// Notes what a node said.
    func moved(_ redirect: ClusterRedirect) {
        self.state.withLock { $0.map?.move(redirect.slot, to: redirect.address) }
    }

    // MARK: - Looking

    /// Reads the map again, unless that was done a moment ago.
    ///
    /// - Parameter pause: How long ago suffices.
    /// - Returns: Why nobody could be asked.
    @concurrent
    func look(after pause: Duration = RedisCluster.shortestPause) async -> LockError? {
        await withCheckedContinuation { continuation in
            self.look(after: pause) { continuation.resume(returning: $0) }
        }
    }

    /// Reads the map again, without waiting for it.
    func lookSoon() { self.look(after: Self.shortestPause) { _ in } }

    private func look(after pause: Duration, _ done: @escaping @Sendable (LockError?) -> Void) {
        enum Step {
            case ask([RedisAddress])
            case join, skip
        }
        let step = self.state.withLock { state -> Step in
            if state.isClosed { return .skip }
            if let last = state.lookedAt, state.map != nil, last.duration(to: .now) < pause { return .skip }
            state.waiting.append(done)
            if state.isLooking { return .join }
            state.isLooking = true
            var asked = state.map?.masters.shuffled().prefix(Self.asked) ?? []
            if state.looksEverywhere || asked.isEmpty {
                asked += state.map?.replicas.shuffled().prefix(Self.asked) ?? []
                asked += self.seeds.shuffled().prefix(Self.asked)
            }
            return .ask(Array(Set(asked)))
        }
        switch step {
        case .skip: done(nil)
        case .join: break
        case .ask(let addresses): self.ask(addresses)
        }
    }

    private func ask(_ addresses: [RedisAddress]) {
        let ballot = MapBallot(count: addresses.count) { self.took($0) }
        let deadline = NIODeadline.now() + .nanoseconds(self.configuration.timeout.nanoseconds)
        for address in addresses {
            guard let node = try? self.node(at: address) else {
                ballot.put(.failure(LockError(.storeUnavailable, "cannot connect to Redis at \(address)")))
                continue
            }
            let epoch = Epoch()
            node.connection.submit(by: deadline, .texts(["CLUSTER", "INFO"])) { outcome in
                guard case .success(let reply) = outcome, let info = reply.text else { return }
                epoch.value.withLock {
                    $0 = Handshake.field("cluster_current_epoch", of: info).flatMap { Int64($0) } ?? 0
                }
            }
            node.connection.submit(by: deadline, .texts(["CLUSTER", "SLOTS"])) { outcome in
                ballot.put(
                    outcome.flatMap { reply in
                        Result { () throws(LockError) in
                            if case .error(let line) = reply { throw Self.refusal(line, from: address) }
                            return MapBallot.Report(
                                map: try SlotMap(reply, from: address),
                                epoch: epoch.value.withLock { $0 }
                            )
                        }
                    }
                )
                // Others may know more, or hang.
                self.loop.scheduleTask(in: Self.grace) { ballot.closeIfAnswered() }
            }
        }
    }

    /// What a node says between two replies.
    private final class Epoch: Sendable {
        let value = Mutex<Int64>(0)

        init() {}
    }

    private static func refusal(_ line: String, from address: RedisAddress) -> LockError {
        if line.contains("cluster support disabled") {
            return LockError(.storeRefused, "Redis at \(address) is not a node of a cluster; write redis://\(address)")
        }
        return RedisErrorLine(line).error
    }

    private func took(_ result: Result<MapBallot.Report, LockError>) {
        var found: SlotMap?
        let error: LockError?
        switch result {
        case .success(let report):
            let isOlder = self.state.withLock { state in
                // Who answered may be cut off from those that know better.
                guard state.map != nil, report.epoch != 0, report.epoch < state.epoch,
                    state.olderMaps < Self.olderMapsBelieved
                else {
                    (state.epoch, state.olderMaps) = (report.epoch, 0)
                    return false
                }
                state.olderMaps += 1
                return true
            }
            found = isOlder || report.map.masters.isEmpty ? nil : report.map
            error =
                report.map.masters.isEmpty
                ? LockError(.storeUnavailable, "no node of \(self.configuration) serves any slot; see CLUSTER INFO")
                : nil
        case .failure(let failure): (found, error) = (nil, failure)
        }
        let (waiting, retired, isChanged) = self.state.withLock { state in
            state.isLooking = false
            state.lookedAt = .now
            state.looksEverywhere = found == nil
            var retired: [RedisMaster] = []
            let isChanged = found.map { $0 != state.map } ?? false
            if let found {
                state.map = found
                let gone = state.nodes.filter { !found.masters.contains($0.key) }
                for (address, node) in gone {
                    state.nodes[address] = nil
                    retired.append(node)
                }
            }
            defer { state.waiting = [] }
            return (state.waiting, retired, isChanged)
        }
        for node in retired {
            let wasListening = node.subscription.settled == .listening
            node.close()
            if wasListening { self.onEvent(.lost) }
        }
        for done in waiting { done(error) }
        if self.state.withLock({ $0.isListening }) { if error == nil { self.listen() } else { self.listenLater() } }
        guard isChanged else { return }
        for node in self.state.withLock({ Array($0.nodes.values) }) { node.subscription.joinShard() }
        // Messages for locks that moved may have gone elsewhere.
        self.onEvent(.rearranged)
    }

    /// Listens to messages, by any master that there is: all nodes hear what one publishes.
    package func listen() {
        let isListening = self.state.withLock { state in
            state.isListening = true
            return state.nodes.values.contains { $0.subscription.isStarted }
        }
        self.watch()
        if isListening { return }
        if let master = self.known(nil) { master.subscription.start() } else { self.look(after: .zero) { _ in } }
    }

    /// Looks for somebody to listen to, a while after nobody was found.
    private func listenLater() {
        let isPlanned = self.state.withLock { state in
            defer { state.looksAgain = true }
            return state.looksAgain || state.isClosed
        }
        if isPlanned { return }
        self.loop.scheduleTask(in: Self.secondLook) { [weak self] in
            guard let self else { return }
            self.state.withLock { $0.looksAgain = false }
            self.listen()
        }
    }

    /// Goes on looking now and then, since those who wait for messages ask nobody.
    func watch() {
        let isNew = self.state.withLock { state in
            defer { state.isWatching = true }
            return !state.isWatching
        }
        if isNew { self.lookLater() }
    }

    private func lookLater() {
        self.loop.scheduleTask(in: Self.interval) { [weak self] in
            guard let self, !self.state.withLock({ $0.isClosed }) else { return }
            self.look(after: .zero) { _ in }
            self.lookLater()
        }
    }
}

/// Collects what nodes say of their cluster until it suffices.
final class MapBallot: Sendable {
    /// What one node says.
    struct Report: Sendable {
        let map: SlotMap
        /// The latest configuration that it knows of.
        let epoch: Int64
    }

    private struct State {
        var missing: Int
        var best: Report?
        var error: LockError?
        var done: (@Sendable (Result<Report, LockError>) -> Void)?
    }

    private let state: Mutex<State>

    init(count: Int, _ done: @escaping @Sendable (Result<Report, LockError>) -> Void) {
        self.state = Mutex(State(missing: count, done: done))
    }

    /// Takes a node's word; with the last one, the ballot is closed.
    func put(_ report: Result<Report, LockError>) {
        self.close { state in
            state.missing -= 1
            switch report {
            case .success(let report):
                // With the same epoch, who knows more of the slots.
                let rank = { (report: Report) in (report.epoch, report.map.covered) }
                if state.best.map({ rank($0) < rank(report) }) ?? true { state.best = report }
            case .failure(let error):
                // What a server refuses is better news than that another is down.
                if state.error == nil || error.code == .storeRefused { state.error = error }
            }
            return state.missing == 0
        }
    }

    /// Ends the ballot if anybody answered.
    func closeIfAnswered() { self.close { $0.best != nil } }

    private func close(if isOver: (inout State) -> Bool) {
        let end = self.state.withLock {
            state -> (Result<Report, LockError>, @Sendable (Result<Report, LockError>) -> Void)? in
            guard isOver(&state), let done = state.done else { return nil }
            state.done = nil
            let error = state.error ?? LockError(.storeUnavailable, "no node of the cluster answered")
            return (state.best.map { .success($0) } ?? .failure(error), done)
        }
        if let (result, done) = end { done(result) }
    }
}
