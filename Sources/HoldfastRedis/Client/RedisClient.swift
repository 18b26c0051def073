// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import NIOCore
import Synchronization

/// Sends commands and scripts, and tries again what may be tried again, until the configured time is up.
final class RedisClient: Sendable {
    /// A reply, and whether the command may have taken effect before, with its reply lost.
    struct Answer: Sendable {
        let reply: RedisReply
        let isRepeat: Bool
        /// How many replicas have it, if that was asked for.
        var confirmations = 0
    }

    let configuration: RedisConfiguration
    let loop: any EventLoop
    let connection: CommandConnection
    private let isOneOfSeveral: Bool

    /// Makes a client; nothing is sent yet.
    ///
    /// - Parameters:
    ///   - connector: How the server is reached.
    ///   - isOneOfSeveral: Whether others can stand in for this server: then it is known to be down while it is, and a call
    ///     is tried once.
    ///   - onOpen: Called on the event loop when a connection is ready.
    init(
        _ connector: Connector,
        isOneOfSeveral: Bool = false,
        onOpen: @escaping @Sendable () -> Void = {}
    ) {
        self.configuration = connector.configuration
        self.loop = connector.loop
        self.isOneOfSeveral = isOneOfSeveral
        self.connection = CommandConnection(connector, failsFast: isOneOfSeveral, onOpen: onOpen)
    }

    /// The latest time at which the server that is connected may have started; `nil` while none is.
    var startedBy: ContinuousClock.Instant? { self.connection.serverStartedBy }

    /// When a call that starts now must end.
    var deadline: NIODeadline { .now() + .nanoseconds(self.configuration.timeout.nanoseconds) }

    func close() { self.connection.close() }

    /// Leaves the server that is connected for the one that it should be; commands under way end with an error.
    func startAnew() { self.connection.startAnew() }

    /// Runs a command of texts.
    func run(_ command: [String]) async throws(LockError) -> RedisReply {
        try await self.send { encoder, _ in encoder.command(command) }.reply
    }

    /// Runs a command.
    ///
    /// - Parameters:
    ///   - isRepeatable: Whether the command may be sent again when it is not known what became of it.
    ///   - confirmations: How many replicas to wait for, and how long.
    ///   - encode: Writes the command; may be called again. The flag says whether the server is believed to know a
    ///     script by its hash.
    /// - Returns: Its reply, never an error line.
    /// - Throws: ``LockError``.
    func send(
        isRepeatable: Bool = true,
        confirmations: RedisConfiguration? = nil,
        _ encode: @escaping @Sendable (inout CommandEncoder, Bool) -> Void
    ) async throws(LockError) -> Answer {
        let deadline = self.deadline
        var schedule: RetrySchedule?
        var isKnown = true
        var isRepeat = false
        while true {
            let failure: LockError
            let (outcome, confirmed) = await self.ask(by: deadline, confirmations) { [isKnown] in encode(&$0, isKnown) }
            switch outcome {
            case .success(.error(let line)):
                let meaning = RedisErrorLine(line)
                if meaning.kind == "NOSCRIPT", isKnown {
                    // The text goes along this once, and the server keeps it.
                    isKnown = false
                    continue
                }
                if meaning.retry == .elsewhere {
                    // The name may lead to another server by now; this connection never will.
                    self.connection.startAnew()
                }
                guard meaning.retry == .here, !self.isOneOfSeveral else { throw meaning.error }
                failure = meaning.error
            case .success(let reply): return Answer(reply: reply, isRepeat: isRepeat, confirmations: confirmed)
            case .failure(let error):
                guard error.code == .storeUnavailable, isRepeatable, !self.isOneOfSeveral else { throw error }
                isRepeat = true
                failure = error
            }
            var next = schedule ?? RetrySchedule(base: .milliseconds(5), cap: .milliseconds(200))
            var generator = SystemRandomNumberGenerator()
            let end = NIODeadline.now() + .nanoseconds(next.next(using: &generator).nanoseconds)
            schedule = next
            guard end < deadline else { throw failure }
            await self.pause(until: end)
        }
    }

    private func ask(
        by deadline: NIODeadline,
        _ confirmations: RedisConfiguration?,
        _ encode: @escaping @Sendable (inout CommandEncoder) -> Void
    ) async -> (CommandConnection.Outcome, Int) {
        guard let confirmations else { return (await self.connection.send(by: deadline, encode), 0) }
        let milliseconds = confirmations.replicaTimeout.millisecondsRoundedUp
        let wait = { @Sendable (encoder: inout CommandEncoder) in
            encoder.command(["WAIT", String(confirmations.replicas), String(milliseconds)])
        }
        let outcomes = await self.connection.send(by: deadline, all: [encode, wait])
        guard case .success(let reply) = outcomes[1], let count = reply.number else { return (outcomes[0], 0) }
        return (outcomes[0], Int(clamping: count))
    }

    /// Sends a command once; a script that the server does not know, a second time.
    ///
    /// - Parameters:
    ///   - encode: As for ``send(isRepeatable:_:)``.
    ///   - done: Called once with its reply, never an error line, or why there is none; on any thread.
    func submit(
        _ encode: @escaping @Sendable (inout CommandEncoder, Bool) -> Void,
        _ done: @escaping @Sendable (Result<RedisReply, LockError>) -> Void
    ) {
        self.submit(encode, isKnown: true, by: self.deadline, done)
    }

    private func submit(
        _ encode: @escaping @Sendable (inout CommandEncoder, Bool) -> Void,
        isKnown: Bool,
        by deadline: NIODeadline,
        _ done: @escaping @Sendable (Result<RedisReply, LockError>) -> Void
    ) {
        let encodeOnce = { (encoder: inout CommandEncoder) in encode(&encoder, isKnown) }
        self.connection.submit(by: deadline, encodeOnce) { outcome in
            guard case .success(.error(let line)) = outcome else { return done(outcome) }
            let meaning = RedisErrorLine(line)
            if meaning.kind == "NOSCRIPT", isKnown {
                return self.submit(encode, isKnown: false, by: deadline, done)
            }
            if meaning.retry == .elsewhere { self.connection.startAnew() }
            done(.failure(meaning.error))
        }
    }

    /// Waits, whatever becomes of the caller's task.
    @concurrent
    private func pause(until end: NIODeadline) async {
        await withCheckedContinuation { continuation in
            self.loop.scheduleTask(deadline: end) { continuation.resume() }
        }
    }
}
