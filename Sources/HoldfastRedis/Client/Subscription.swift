// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
package import NIOCore
import Synchronization

/// A connection that listens to one channel, and comes back by itself.
///
/// RESP2 has no way to tell a pushed message from an answer on one connection, hence a connection of its own.
package final class Subscription: RedisLinkDelegate {
    /// What the channel brings.
    package enum Event: Sendable {
        /// For the first time, messages come.
        case began
        /// A message, as it was published.
        case message([UInt8])
        /// The connection was lost and is back: messages in between did not come.
        case interrupted
        /// A cluster's nodes changed: messages may have gone elsewhere.
        case rearranged
        /// Keys that somebody asked to be told of changed; `nil` for all, also when nobody tells of them any more.
        case changed([String]?)
        /// The connection was lost, and is tried again.
        case lost
    }

    /// How far a subscription is.
    package enum Standing: Sendable, Hashable {
        /// Messages will come.
        case listening
        /// The server does not permit it.
        case forbidden
        /// Not yet, and the time is up.
        case late
        /// The server refused the connection.
        case refused
    }

    private struct State {
        var isWanted = false
        var isListening = false
        var isForbidden = false
        var isClosed = false
        /// The number of the connection, by which the server knows it.
        var number: Int64?
        var asksNumber = false
        /// Whether the next error but those before is about messages about keys.
        var asksKeys = false
        /// Whether messages about keys come too.
        var hearsOfKeys = false
        var wasListening = false
        /// The channel in a slot of this server, once messages come from there too.
        var sharded: String?
        /// Whether the next error is about that.
        var asksShard = false
        var isPingDue = false
        var hasHeard = false
        var epoch = 0
        var nextWaiter = 0
        var waiters: [Int: @Sendable (Standing) -> Void] = [:]
    }

    /// After how long to ask a server again that did not permit to subscribe: somebody may have changed that.
    private static let refusalPause: TimeAmount = .seconds(60)
    /// How often a silent connection is asked whether it is alive; twice as long makes it dead.
    private static let heartbeat: TimeAmount = .seconds(5)

    /// Where Redis says which keys changed, to connections of RESP2.
    private static let keyChannel = "__redis__:invalidate"

    private let channel: String
    private let shard: (@Sendable () -> String?)?
    private let hearsOfKeys: Bool
    private let link: RedisLink
    private let onEvent: @Sendable (Event) -> Void
    private let state = Mutex(State())

    /// Makes a subscription; nothing is sent yet.
    ///
    /// - Parameters:
    ///   - connector: How the server is reached.
    ///   - channel: What to listen to.
    ///   - hearsOfKeys: Whether the server may be asked to tell of keys.
    ///   - shard: On a cluster, names a channel that this server has a slot for: messages there reach nobody else's
    ///     nodes (`SSUBSCRIBE`, Redis 7).
    ///   - onEvent: Told of what comes, on the event loop.
    init(
        _ connector: Connector,
        channel: String,
        hearsOfKeys: Bool = false,
        shard: (@Sendable () -> String?)? = nil,
        onEvent: @escaping @Sendable (Event) -> Void
    ) {
        self.channel = channel
        self.shard = shard
        self.hearsOfKeys = hearsOfKeys
        self.link = RedisLink(connector)
        self.onEvent = onEvent
        self.link.attach(self)
    }

    /// Whether messages come or never will, so that nobody has to wait to know; otherwise `nil`.
    package var settled: Standing? {
        self.state.withLock { $0.isListening ? .listening : $0.isForbidden ? .forbidden : nil }
    }

    /// Where to send messages.
    var messages: String { self.state.withLock { $0.sharded } ?? self.channel }

    /// Whether it listens, or tries to.
    var isStarted: Bool { self.state.withLock { $0.isWanted } }

    /// The number of this connection, for the server to send changes of keys to; `nil` while it cannot.
    var tracker: Int64? { self.state.withLock { $0.isListening && $0.hearsOfKeys ? $0.number : nil } }

    /// Notes that the server does not tell of keys, until the connection is another.
    func giveUpTracking() { self.state.withLock { $0.hearsOfKeys = false } }

    /// Starts to listen, and goes on until closed.
    ///
    /// Any thread.
    package func start() {
        let isNew = self.state.withLock { state in
            defer { state.isWanted = true }
            return !state.isWanted
        }
        if isNew { self.link.loop.execute { self.link.open() } }
    }

    /// Waits until messages come, at most until the deadline.
    @concurrent
    package func standing(by deadline: NIODeadline) async -> Standing {
        await withCheckedContinuation { continuation in
            self.standing(by: deadline) { continuation.resume(returning: $0) }
        }
    }

    /// Says when messages come, at the latest at the deadline; on any thread.
    func standing(by deadline: NIODeadline, _ done: @escaping @Sendable (Standing) -> Void) {
        self.start()
        let answer: Standing? = self.state.withLock { state in
            if state.isListening { return .listening }
            if state.isForbidden { return .forbidden }
            if state.isClosed { return .late }
            let number = state.nextWaiter
            state.nextWaiter += 1
            state.waiters[number] = done
            self.link.loop.scheduleTask(deadline: deadline) {
                self.state.withLock { $0.waiters.removeValue(forKey: number) }?(.late)
            }
            return nil
        }
        if let answer { done(answer) }
    }

    /// Leaves a server that is not the master.
    func startAnew(unlessAt master: RedisAddress) {
        self.link.loop.execute { self.link.startAnew(unlessAt: master) }
    }

    /// Closes for good.
    func close() {
        self.link.close()
        self.answer(.late) { state in
            state.isWanted = false
            state.isClosed = true
        }
    }

    private func answer(_ standing: Standing, _ change: (inout State) -> Void) {
        let waiters = self.state.withLock { state in
            change(&state)
            defer { state.waiters = [:] }
            return state.waiters
        }
        for waiter in waiters.values { waiter(standing) }
    }

    private func send(_ command: [String]) {
        var encoder = CommandEncoder(ByteBuffer())
        encoder.command(command)
        self.link.channel?.writeAndFlush(encoder.buffer, promise: nil)
    }

    private func beat(_ epoch: Int) {
        let isDead = self.state.withLock { state -> Bool? in
            guard state.isListening, state.epoch == epoch else { return nil }
            defer {
                state.isPingDue = !state.hasHeard
                state.hasHeard = false
            }
            return state.isPingDue && !state.hasHeard
        }
        switch isDead {
        case .none: return
        case .some(true): self.link.reset(.silent)
        case .some(false):
            self.send(["PING"])
            self.beatLater(epoch)
        }
    }

    private func beatLater(_ epoch: Int) {
        self.link.loop.scheduleTask(in: Self.heartbeat) { [weak self] in self?.beat(epoch) }
    }

    private func received(_ reply: RedisReply) {
        guard let parts = reply.elements else { return self.receivedAnswer(reply) }
        guard parts.count == 3, case .string(let kind) = parts[0], case .string(let channel) = parts[1] else { return }
        if channel == Array(Self.keyChannel.utf8) {
            if kind == Array("subscribe".utf8) {
                self.state.withLock { ($0.hearsOfKeys, $0.asksKeys) = ($0.number != nil, false) }
            }
            if kind == Array("message".utf8) { self.onEvent(.changed(parts[2].elements?.compactMap(\.text))) }
        } else if kind == Array("message".utf8) || kind == Array("smessage".utf8), case .string(let payload) = parts[2]
        {
            self.onEvent(.message(payload))
        } else if kind == Array("ssubscribe".utf8) {
            self.state.withLock { state in
                state.sharded = String(decoding: channel, as: UTF8.self)
                state.asksShard = false
            }
        } else if kind == Array("sunsubscribe".utf8) {
            // Its slot went elsewhere.
            self.state.withLock { $0.sharded = nil }
        } else if kind == Array("subscribe".utf8) {
            let hasMissed = self.state.withLock { $0.wasListening }
            self.answer(.listening) { state in
                state.isListening = true
                state.wasListening = true
                state.isPingDue = false
                state.hasHeard = true
                state.epoch += 1
            }
            self.onEvent(hasMissed ? .interrupted : .began)
            self.beatLater(self.state.withLock { $0.epoch })
        }
    }

    private func receivedAnswer(_ reply: RedisReply) {
        let isExpected = self.state.withLock { state in
            if state.asksNumber {
                state.asksNumber = false
                if case .integer(let number) = reply { state.number = number }
                return true
            }
            if state.asksShard {
                // Then messages come by the other channel only.
                state.asksShard = false
                return true
            }
            // Not to hear of keys is no reason not to hear of locks.
            defer { state.asksKeys = false }
            return state.asksKeys
        }
        guard !isExpected, case .error(let line) = reply else { return }
        if self.state.withLock({ $0.isListening }) { return }
        self.refused(RedisErrorLine(line))
    }

    /// The server did not let us subscribe.
    private func refused(_ line: RedisErrorLine) {
        guard line.kind == "NOPERM" else { return self.link.reset(.silent) }
        let isKnown = self.state.withLock { $0.isForbidden }
        self.answer(.forbidden) { $0.isForbidden = true }
        // Each of the channels is refused, but one question is enough.
        guard !isKnown else { return }
        self.link.loop.scheduleTask(in: Self.refusalPause) { [weak self] in self?.askAgain() }
    }

    private func askAgain() {
        self.state.withLock { $0.isForbidden = false }
        if self.link.channel != nil { self.subscribe() } else { self.link.open() }
    }

    /// Subscribes, and begins anew when no answer comes: a connection may be dead without saying so.
    private func subscribe() {
        let epoch = self.state.withLock { state in
            state.epoch += 1
            return state.epoch
        }
        if self.hearsOfKeys {
            self.state.withLock { state in
                state.number = nil
                state.hearsOfKeys = false
                state.asksNumber = true
                state.asksKeys = true
            }
            // Once subscribed, a connection may not ask.
            self.send(["CLIENT", "ID"])
        }
        self.state.withLock { $0.sharded = nil }
        self.askShard()
        // First, so that who listens knows whether it hears of keys.
        if self.hearsOfKeys { self.send(["SUBSCRIBE", Self.keyChannel]) }
        self.send(["SUBSCRIBE", self.channel])
        self.link.loop.scheduleTask(in: Self.heartbeat) { [weak self] in
            guard let self else { return }
            let isUnanswered = self.state.withLock { $0.epoch == epoch && !$0.isListening && !$0.isForbidden }
            if isUnanswered { self.link.reset(.silent) }
        }
    }

    private func askShard() {
        guard let name = self.shard?() else { return }
        self.state.withLock { $0.asksShard = true }
        self.send(["SSUBSCRIBE", name])
    }

    /// Listens to the channel that stays with the server, where that is not so: slots may have come.
    ///
    /// Any thread.
    func joinShard() {
        self.link.loop.execute {
            if self.state.withLock({ $0.isListening && $0.sharded == nil && !$0.asksShard }) { self.askShard() }
        }
    }

    // MARK: - RedisLinkDelegate

    var wantsLink: Bool { self.state.withLock { $0.isWanted && !$0.isForbidden } }

    func linkOpened() { self.subscribe() }

    func linkReceived(_ replies: [RedisReply]) {
        self.state.withLock { $0.hasHeard = true }
        for reply in replies { self.received(reply) }
    }

    func linkLost(_ error: LockError, isRefusal: Bool) {
        let wasListening = self.state.withLock { state in
            defer {
                (state.isListening, state.sharded, state.asksShard) = (false, nil, false)
                state.asksKeys = false
            }
            return state.isListening
        }
        if isRefusal { self.answer(.refused) { _ in } }
        if wasListening { self.onEvent(.lost) }
    }
}
