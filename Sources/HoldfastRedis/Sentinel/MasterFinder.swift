// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import NIOCore
import Synchronization

/// Finds the master by asking Sentinels, and hears from them when another takes over.
///
/// Sources: "Redis Sentinel client spec" of the Redis documentation; that the answer with the highest configuration epoch
/// counts is from its "High availability with Redis Sentinel".
final class MasterFinder: Sendable {
    /// Nobody knows the master.
    struct Unknown: Error, CustomStringConvertible {
        let description: String
    }

    /// How often Sentinels are asked even if they say nothing.
    private static let interval: TimeAmount = .seconds(1)

    private struct State {
        var current: RedisAddress?
        var onFind: (@Sendable (RedisAddress) -> Void)?
        /// What was announced last.
        var announced: RedisAddress?
        var isWatching = false
        var isClosed = false
    }

    private let sentinels: RedisSentinels
    private let timeout: Duration
    private let loop: any EventLoop
    private let connections: [CommandConnection]
    private let subscriptions: [Subscription]
    private let state = Mutex(State())

    init(_ sentinels: RedisSentinels, for configuration: RedisConfiguration, loop: any EventLoop) throws(LockError) {
        self.sentinels = sentinels
        self.timeout = configuration.timeout
        self.loop = loop
        var connections: [CommandConnection] = []
        var subscriptions: [Subscription] = []
        let ear = Ear<MasterFinder>()
        for address in sentinels.addresses {
            var own = RedisConfiguration(host: address.host, port: address.port)
            own.user = sentinels.user
            own.password = sentinels.password
            own.tls = configuration.tls
            own.timeout = configuration.timeout
            own.clientName = configuration.clientName
            // It keeps no keys.
            own.allowsEviction = true
            let connector = try Connector(own, loop: loop)
            connections.append(CommandConnection(connector, failsFast: true))
            subscriptions.append(
                Subscription(connector, channel: "+switch-master") { event in
                    guard let finder = ear.owner else { return }
                    switch event {
                    case .message(let payload): finder.heard(payload)
                    case .interrupted: finder.look()
                    case .began, .rearranged, .changed, .lost: break
                    }
                }
            )
        }
        self.connections = connections
        self.subscriptions = subscriptions
        ear.set(self)
    }

    /// Says what to do whenever Sentinels say where the master is, also when that is no news: of several connections each
    /// asks by itself, and one may know the new master before the others do.
    func watch(_ onFind: @escaping @Sendable (RedisAddress) -> Void) { self.state.withLock { $0.onFind = onFind } }

    /// Where the master was found last.
    var found: RedisAddress? { self.state.withLock { $0.current } }

    private func startWatching() {
        let isNew = self.state.withLock { state in
            defer { state.isWatching = true }
            return !state.isWatching
        }
        guard isNew else { return }
        for subscription in self.subscriptions { subscription.start() }
        self.lookLater()
    }

    func close() {
        self.state.withLock { $0.isClosed = true }
        for connection in self.connections { connection.close() }
        for subscription in self.subscriptions { subscription.close() }
    }

    /// Asks all Sentinels at once where the master is; the first time begins to watch for another.
    func find() -> EventLoopFuture<RedisAddress> {
        self.startWatching()
        let promise = self.loop.makePromise(of: RedisAddress.self)
        self.ask { report, answers in
            guard let report else {
                return promise.fail(
                    Unknown(description: SentinelAnswer.sentence(answers, name: self.sentinels.name))
                )
            }
            promise.succeed(report.address)
            self.note(report.address)
        }
        return promise.futureResult
    }

    private func ask(_ done: @escaping @Sendable (MasterReport?, [SentinelAnswer]) -> Void) {
        let name = self.sentinels.name
        let command = LockCommand<MasterReport?> { encoder, _ in
            encoder.command(["SENTINEL", "MASTER", name])
        } read: { answer throws(LockError) in
            MasterReport(answer.reply)
        }
        let announced = self.state.withLock { $0.announced }
        let ballot = Ballot(count: self.connections.count, announced, done)
        let deadline = NIODeadline.now() + .nanoseconds(self.timeout.nanoseconds)
        for (index, connection) in self.connections.enumerated() {
            connection.run(command, by: deadline) { ballot.put(SentinelAnswer($0), at: index) }
        }
    }

    /// Sees where the master is by now.
    private func look() {
        self.ask { report, _ in
            guard let report, self.found != nil else { return }
            self.note(report.address)
        }
    }

    private func note(_ address: RedisAddress) {
        let onFind = self.state.withLock { state in
            state.current = address
            return state.onFind
        }
        onFind?(address)
    }

    private func lookLater() {
        self.loop.scheduleTask(in: Self.interval) { [weak self] in
            guard let self, !self.state.withLock({ $0.isClosed }) else { return }
            self.look()
            self.lookLater()
        }
    }

    /// A message is `name old-host old-port new-host new-port`.
    private func heard(_ payload: [UInt8]) {
        let words = String(decoding: payload, as: UTF8.self).split(separator: " ")
        guard words.count == 5, words[0] == self.sentinels.name, let port = Int(words[4]) else { return }
        self.state.withLock { $0.announced = RedisAddress(host: String(words[3]), port: port) }
        self.look()
    }

    /// Collects answers until they suffice.
    private final class Ballot: Sendable {
        typealias Done = @Sendable (MasterReport?, [SentinelAnswer]) -> Void

        private struct Outcome {
            let choice: MasterReport?
            let answers: [SentinelAnswer]
            let done: Done
        }

        private struct State {
            var answers: [SentinelAnswer?]
            var done: Done?
        }

        private let state: Mutex<State>
        private let announced: RedisAddress?

        init(count: Int, _ announced: RedisAddress?, _ done: @escaping Done) {
            self.announced = announced
            self.state = Mutex(State(answers: Array(repeating: nil, count: count), done: done))
        }

        func put(_ answer: SentinelAnswer, at index: Int) {
            let outcome = self.state.withLock { state -> Outcome? in
                state.answers[index] = answer
                let reports = state.answers.map { answer -> MasterReport?? in answer.map(\.report) }
                guard let done = state.done, let choice = MasterReport.choice(reports, self.announced) else {
                    return nil
                }
                state.done = nil
                return Outcome(choice: choice, answers: state.answers.compactMap(\.self), done: done)
            }
            if let outcome { outcome.done(outcome.choice, outcome.answers) }
        }
    }
}
