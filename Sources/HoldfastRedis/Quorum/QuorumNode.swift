// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import NIOCore
import Synchronization

/// One of several masters.
final class QuorumNode: Sendable {
    let configuration: RedisConfiguration
    let client: RedisClient
    private let connection: CommandConnection
    let commands: LockCommands
    let subscription: Subscription
    private let channel: String
    /// Who waits here for foreign holders of which keys, and who is told when one changes.
    private let foreign = Mutex(ForeignLine())
    private let onChange: @Sendable (RequestID) -> Void
    private let debts: Debts

    /// Requests that could not be withdrawn, and until when that is worth while.
    private final class Debts: Sendable {
        private let open = Mutex<[GrantKey: ContinuousClock.Instant]>([:])

        func add(_ key: GrantKey, until end: ContinuousClock.Instant) {
            self.open.withLock { open in
                // What is dropped ends with its lease.
                if open.count >= Limits.rememberedRequests { open = open.filter { $0.value > .now } }
                if open.count < Limits.rememberedRequests { open[key] = end }
            }
        }

        func take() -> [GrantKey: ContinuousClock.Instant] {
            self.open.withLock { open in
                defer { open = [:] }
                return open.filter { $0.value > .now }
            }
        }
    }

    /// How soon to try again what failed though the server is there.
    private static let payPause: TimeAmount = .milliseconds(100)

    init(
        _ connector: Connector,
        channel: String,
        onEvent: @escaping @Sendable (Subscription.Event) -> Void,
        onChange: @escaping @Sendable (RequestID) -> Void
    ) {
        self.configuration = connector.configuration
        self.onChange = onChange
        let ear = Ear<QuorumNode>()
        self.connection = CommandConnection(
            connector,
            failsFast: true,
            onOpen: { ear.owner?.pay() },
            // Tracking ends with the connection that asked for it.
            onLoss: { ear.owner?.changed(nil) }
        )
        self.client = RedisClient(self.connection, connector.configuration, isOneOfSeveral: true)
        self.commands = LockCommands(prefix: connector.configuration.prefix)
        self.debts = Debts()
        self.subscription = Subscription(connector, channel: channel, hearsOfKeys: true) { event in
            switch event {
            case .changed(let keys): ear.owner?.changed(keys)
            case .interrupted, .rearranged:
                // All ask again, and have the server tell anew.
                ear.owner?.foreign.withLock { $0.clear() }
                onEvent(event)
            case .began, .message, .lost: onEvent(event)
            }
        }
        self.channel = channel
        ear.set(self)
    }

    /// `host:port`.
    var place: String { self.configuration.place }

    /// Sends a command once.
    func run<Reply>(_ command: LockCommand<Reply>, _ done: @escaping @Sendable (Result<Reply, LockError>) -> Void) {
        self.connection.run(command, by: self.client.deadline, done)
    }

    /// Asks for a lock.
    ///
    /// One round trip; two when it is the first to wait here, since messages must be on their way before anybody relies on
    /// them. Where none will come, the request waits without.
    func acquire(
        _ request: LockRequest,
        try number: Int = 1,
        floor: Int64,
        _ done: @escaping @Sendable (Result<AcquireReply, LockError>) -> Void
    ) {
        guard request.contention == .queue, self.subscription.settled == nil else {
            return self.acquire(request, number, queues: request.contention == .queue, floor, done)
        }
        self.subscription.start()
        let deadline = self.client.deadline
        self.acquire(request, number, queues: false, floor) { outcome in
            guard case .success(.busy) = outcome else { return done(outcome) }
            self.subscription.standing(by: deadline) { _ in self.acquire(request, number, queues: true, floor, done) }
        }
    }

    private func acquire(
        _ request: LockRequest,
        _ number: Int,
        queues: Bool,
        _ floor: Int64,
        _ done: @escaping @Sendable (Result<AcquireReply, LockError>) -> Void
    ) {
        let channel = queues ? self.waitingChannel : self.channel
        // Nothing is handed over here.
        let floor = SeenTokens.Floor(new: floor, accepted: 0)
        let command = self.commands.acquire(request, queues: queues, channel: channel, floor: floor, try: number)
        let deadline = self.client.deadline
        self.run(command) { outcome in
            switch outcome {
            case .success((.waiting(let place), _)):
                self.watchForeign(place, request, by: deadline) { done(.success($0)) }
            case .success((let reply, _)):
                self.forgetForeign(request.key)
                done(.success(reply))
            case .failure(let error): done(.failure(error))
            }
        }
    }

    // MARK: - Foreign holders

    /// Has the server tell when a foreign holder's key changes; where it does not do that, the reply says to ask often.
    ///
    /// One round trip more, for the first such request for each key.
    private func watchForeign(
        _ place: AcquireReply.Waiting,
        _ request: LockRequest,
        by deadline: NIODeadline,
        _ done: @escaping @Sendable (AcquireReply) -> Void
    ) {
        guard let holder = ForeignLine.holder(in: place), let listener = self.subscription.tracker else {
            return done(.waiting(place))
        }
        let key = self.key(of: request.key)
        let told = { @Sendable (tracking: KeyTracking) in
            var place = place
            switch tracking {
            // Unless it changed meanwhile, or the connection is gone.
            case .tells where self.foreign.withLock({ $0.isWatched(key) }):
                place.checkAfter = ForeignLine.check(on: holder)
            case .refused:
                self.subscription.giveUpTracking()
                self.foreign.withLock { $0.drop(key) }
            // With the next look it may do it.
            case .failed:
                self.changed([key], besides: request.id, after: ForeignLine.longestPause)
                place.checkAfter = min(place.checkAfter, ForeignLine.longestPause)
            case .gone, .tells:
                self.changed([key], besides: request.id)
                place.checkAfter = .zero
            }
            done(.waiting(place))
        }
        if self.foreign.withLock({ $0.enter(request.id, at: place.position, for: key) }) { return told(.tells) }
        self.connection.track(key, for: listener, by: deadline, told)
    }

    /// Sends those who wait for keys to ask again, the first in line at once; `nil` for all keys.
    private func changed(_ keys: [String]?, besides known: RequestID? = nil, after pause: Duration = .zero) {
        for look in self.foreign.withLock({ $0.take(keys) }) where look.id != known {
            let pause = TimeAmount.nanoseconds((pause + look.pause).nanoseconds)
            self.connection.loop.scheduleTask(in: pause) { [onChange] in onChange(look.id) }
        }
    }

    /// Forgets that a request waits for a foreign holder.
    func forgetForeign(_ request: GrantKey) {
        self.foreign.withLock { $0.forget(request.id, for: self.key(of: request)) }
    }

    private func key(of request: GrantKey) -> String { self.configuration.prefix + request.resource.name }

    /// Gives up what a try of a request holds here; it waits again.
    ///
    /// Done also when the server did not answer: should this arrive there later, it is told by its number from the next try.
    func yield(_ request: LockRequest, try number: Int, _ done: @escaping @Sendable () -> Void) {
        self.run(self.commands.yield(request, try: number, channel: self.waitingChannel)) { _ in done() }
    }

    /// Gives up a request wherever it is; if the server cannot be reached, then when it is back.
    ///
    /// - Parameters:
    ///   - key: The request.
    ///   - time: For how long it may hold something there.
    ///   - done: Told what the server said, or that it did not.
    func withdraw(
        _ key: GrantKey,
        within time: Duration,
        _ done: @escaping @Sendable (Result<WithdrawReply, LockError>) -> Void = { _ in }
    ) {
        self.withdraw(key, until: .now.advanced(by: time), done)
    }

    private func withdraw(
        _ key: GrantKey,
        until end: ContinuousClock.Instant,
        _ done: @escaping @Sendable (Result<WithdrawReply, LockError>) -> Void
    ) {
        self.forgetForeign(key)
        self.run(self.commands.withdraw(key)) { outcome in
            if case .failure(let error) = outcome { self.owe(key, until: end, error) }
            done(outcome)
        }
    }

    /// Gives a grant back; if the server cannot be reached, then when it is back.
    func release(
        _ key: GrantKey,
        within time: Duration,
        _ done: @escaping @Sendable (Result<ReleaseReply, LockError>) -> Void
    ) {
        let end = ContinuousClock.now.advanced(by: time)
        self.run(self.commands.release(key)) { outcome in
            if case .failure(let error) = outcome { self.owe(key, until: end, error) }
            done(outcome)
        }
    }

    private func owe(_ key: GrantKey, until end: ContinuousClock.Instant, _ error: LockError) {
        self.debts.add(key, until: end)
        // The connection may be back before the debt is noted, or was never gone; then nobody else pays it.
        guard error.code == .storeUnavailable || error.code == .limitReached, self.connection.isReady else { return }
        self.connection.loop.scheduleTask(in: Self.payPause) { [weak self] in self?.pay() }
    }

    /// Withdraws what could not be withdrawn while the server was away.
    private func pay() {
        for (key, end) in self.debts.take() { self.withdraw(key, until: end) { _ in } }
    }

    /// Changes the mode of a grant.
    func convert(
        _ conversion: Conversion,
        _ number: Int64,
        _ done: @escaping @Sendable (Result<LockCommands.Converted, LockError>) -> Void
    ) {
        let patience: LockCommands.Patience =
            conversion.contention == .fail ? .none : self.waitingChannel.isEmpty ? .polling : .listening
        self.run(self.commands.convert(conversion, number: number, patience), done)
    }

    /// Where the server sends messages to those who wait; empty while none would come, so that nobody relies on any.
    private var waitingChannel: String { self.subscription.settled == .listening ? self.channel : "" }

    /// What is known of the age of the server; `nil` while it is not connected.
    var age: ServerRun? { self.connection.run }

    /// The same of the server that last answered, which may be out of reach by now; `nil` before the first connection.
    var lastAge: ServerRun? { self.connection.lastRun }

    /// Reads the server's clock, since 1970.
    func readTime(_ done: @escaping @Sendable (Result<Duration, LockError>) -> Void) {
        let command = LockCommand<Duration> { encoder, _ in
            encoder.command(["TIME"])
        } read: { answer throws(LockError) in
            let parts = try ScriptReplies.elements(answer.reply, atLeast: 2)
            let seconds = try ScriptReplies.number(parts[0])
            let micros = try ScriptReplies.number(parts[1])
            // A clock that says more than fits is no clock.
            guard (0...Int64(UInt32.max)).contains(seconds), (0..<1_000_000).contains(micros) else {
                throw ScriptReplies.unreadable
            }
            return .seconds(seconds) + .microseconds(micros)
        }
        self.run(command, done)
    }

    func close() {
        self.connection.close()
        self.subscription.close()
    }
}
