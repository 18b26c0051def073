// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import NIOCore
import Synchronization

/// What a link tells its user; always on the link's event loop.
protocol RedisLinkDelegate: AnyObject, Sendable {
    /// Whether the link should come back by itself when it is lost.
    var wantsLink: Bool { get }
    /// The connection is ready for commands.
    func linkOpened()
    /// Replies came, in the order of the commands.
    func linkReceived(_ replies: [RedisReply])
    /// The connection is gone, or a try to connect failed.
    func linkLost(_ error: LockError, isRefusal: Bool)
}

/// One connection to a server at a time: connects, says who it is, and comes back with jitter after a loss.
final class RedisLink: Sendable {
    private enum Phase {
        case idle
        case connecting
        case greeting(any Channel, Handshake)
        case ready(any Channel)
        case pausing
        case refused(LockError, until: NIODeadline)
        case closed
    }

    private struct State {
        var phase = Phase.idle
        var attempt = 0
        var schedule = RetrySchedule(base: .milliseconds(10), cap: .seconds(1))
        var delegate: (any RedisLinkDelegate)?
        /// Why there is no connection, from a loss until it is back.
        var outage: LockError?
        /// The same, for those whose commands were not sent.
        var unsent: LockError?
        var run = ServerRun()
        var openedAt = NIODeadline.distantPast
        /// Where the connection leads, or will, once Sentinels have said so.
        var target: RedisAddress?
    }

    /// How long a refusal (wrong password, evicting server) is remembered before the server is asked again.
    private static let refusalMemory: TimeAmount = .seconds(1)

    private let connector: Connector
    private let state = Mutex(State())
    /// Whether there may be a refusal or an outage: each command asks, and should not meet the others at a lock for it.
    private let mayBeDown = Atomic(false)

    init(_ connector: Connector) { self.connector = connector }

    var loop: any EventLoop { self.connector.loop }
    /// Where the master is that Sentinels named last, where they are asked.
    var found: RedisAddress? { self.connector.found }
    private var configuration: RedisConfiguration { self.connector.configuration }

    /// Says whom to tell.
    ///
    /// Must be called once before ``open()``.
    func attach(_ delegate: any RedisLinkDelegate) { self.state.withLock { $0.delegate = delegate } }

    /// Why the server refused us, while that is remembered.
    var refusal: LockError? {
        guard self.mayBeDown.load(ordering: .acquiring) else { return nil }
        return self.state.withLock { state in
            if case .refused(let error, let until) = state.phase, until > .now() { error } else { nil }
        }
    }

    /// Why there is no connection, from a loss until it is back.
    var outage: LockError? {
        self.mayBeDown.load(ordering: .acquiring) ? self.state.withLock { $0.outage } : nil
    }

    /// Why there is no connection, for those whose commands were not sent.
    var unsent: LockError {
        self.state.withLock { $0.unsent }
            ?? LockError(.storeUnavailable, "no connection to Redis at \(self.configuration.place); nothing was sent")
    }

    /// What is known of the age of the server that is connected; `nil` while none is.
    var run: ServerRun? {
        self.state.withLock { state in
            if case .ready = state.phase { state.run } else { nil }
        }
    }

    /// What is known of the age of the server, also when the connection is gone; `nil` before the first.
    var lastRun: ServerRun? {
        self.state.withLock { state in state.run.startedBy == nil ? nil : state.run }
    }

    /// The connection, when it is ready.
    var channel: (any Channel)? {
        self.state.withLock { state in
            if case .ready(let channel) = state.phase { channel } else { nil }
        }
    }

    /// Connects unless that is done or under way.
    ///
    /// On the event loop.
    func open() {
        let attempt: Int? = self.state.withLock { state in
            switch state.phase {
            case .connecting, .greeting, .ready, .pausing, .closed: return nil
            case .refused(_, let until): if until > .now() { return nil }
            case .idle: break
            }
            state.attempt += 1
            state.phase = .connecting
            state.target = nil
            return state.attempt
        }
        if let attempt { self.connect(attempt) }
    }

    /// Drops the connection as if it had been lost.
    ///
    /// On the event loop.
    func reset(_ error: LinkFailure) {
        self.ended(error, attempt: self.state.withLock { $0.attempt })
    }

    /// Drops the connection for one to the server that it should be, without a pause: that one has not failed yet.
    ///
    /// On the event loop.
    ///
    /// - Parameter time: Does nothing if the connection was ready only after that, or is not ready: of many who were told to
    ///   go elsewhere, the first is heard.
    func startAnew(ifOpenedBefore time: NIODeadline? = nil) {
        if let time {
            let isOlder = self.state.withLock { state in
                if case .ready = state.phase { state.openedAt <= time } else { false }
            }
            guard isOlder else { return }
        }
        self.reset(.silent)
        let mustOpen = self.state.withLock { state in
            guard case .pausing = state.phase else { return false }
            state.phase = .idle
            return true
        }
        if mustOpen { self.open() }
    }

    /// Drops a connection that leads to another server than the master, or is about to.
    ///
    /// On the event loop.
    func startAnew(unlessAt master: RedisAddress) {
        let isElsewhere = self.state.withLock { $0.target.map { $0 != master } ?? false }
        if isElsewhere { self.startAnew() }
    }

    /// Closes for good.
    ///
    /// Any thread.
    func close() {
        let channel: (any Channel)? = self.state.withLock { state in
            defer { state.phase = .closed }
            state.delegate = nil
            switch state.phase {
            case .greeting(let channel, _), .ready(let channel): return channel
            case .idle, .connecting, .pausing, .refused, .closed: return nil
            }
        }
        channel?.close(promise: nil)
    }

    private func connect(_ attempt: Int) {
        let limit = TimeAmount.nanoseconds(self.configuration.timeout.nanoseconds)
        let onTarget = { @Sendable (address: RedisAddress) in
            self.state.withLock { if $0.attempt == attempt { $0.target = address } }
        }
        self.connector.connect(onTarget: onTarget) {
            try ReplyHandler(link: self, attempt: attempt)
        }.whenComplete {
            switch $0 {
            case .success(let channel): self.connected(channel, attempt)
            case .failure(let error): self.ended(.unreachable(NetworkFailure.words(error)), attempt: attempt)
            }
        }
        self.loop.scheduleTask(in: limit) { self.checkGreeting(attempt) }
    }

    private func connected(_ channel: any Channel, _ attempt: Int) {
        let handshake = Handshake(self.configuration)
        let isWanted = self.state.withLock { state in
            guard state.attempt == attempt, case .connecting = state.phase else { return false }
            state.phase = .greeting(channel, handshake)
            return true
        }
        guard isWanted else { return channel.close(promise: nil) }
        var encoder = CommandEncoder(ByteBuffer())
        handshake.encode(&encoder)
        channel.writeAndFlush(encoder.buffer, promise: nil)
    }

    private func checkGreeting(_ attempt: Int) {
        let isLate = self.state.withLock { state in
            guard state.attempt == attempt else { return false }
            switch state.phase {
            case .connecting, .greeting: return true
            case .idle, .ready, .pausing, .refused, .closed: return false
            }
        }
        if isLate { self.ended(.silent, attempt: attempt) }
    }

    /// Takes replies of the connection of an attempt.
    ///
    /// On the event loop.
    func received(_ replies: [RedisReply], attempt: Int) {
        var refusal: LockError?
        var hasOpened = false
        var isReady = false
        var cautions: [String] = []
        let delegate: (any RedisLinkDelegate)? = self.state.withLock { state in
            guard state.attempt == attempt else { return nil }
            switch state.phase {
            case .ready:
                isReady = true
                return state.delegate
            case .greeting(let channel, var handshake):
                do throws(LockError) {
                    hasOpened = try handshake.receive(replies)
                    state.phase = hasOpened ? .ready(channel) : .greeting(channel, handshake)
                    if hasOpened {
                        state.schedule.reset()
                        state.outage = nil
                        state.unsent = nil
                        self.mayBeDown.store(false, ordering: .releasing)
                        state.openedAt = .now()
                        if self.configuration.asksUptime { state.run.saw(handshake.report, at: .now) }
                        cautions = handshake.cautions
                    }
                } catch {
                    refusal = error
                }
                return state.delegate
            case .idle, .connecting, .pausing, .refused, .closed: return nil
            }
        }
        if let refusal {
            self.ended(refusal.code == .storeUnavailable ? .unfit(refusal) : .refused(refusal), attempt: attempt)
        } else if hasOpened {
            for caution in cautions { self.connector.warn(caution) }
            delegate?.linkOpened()
        } else if isReady {
            delegate?.linkReceived(replies)
        }
    }

    /// Ends the connection of an attempt, whatever became of it.
    ///
    /// On the event loop.
    func ended(_ failure: LinkFailure, attempt: Int) {
        let failure = self.explained(failure, attempt)
        let error = failure.error(for: self.configuration)
        let ended: (channel: (any Channel)?, delegate: (any RedisLinkDelegate)?)? = self.state.withLock { state in
            guard state.attempt == attempt else { return nil }
            var channel: (any Channel)?
            switch state.phase {
            case .idle, .pausing, .refused, .closed: return nil
            case .connecting: break
            case .greeting(let open, _), .ready(let open): channel = open
            }
            if failure.isRefusal {
                state.phase = .refused(error, until: .now() + Self.refusalMemory)
            } else {
                state.phase = .idle
            }
            state.outage = error
            self.mayBeDown.store(true, ordering: .releasing)
            state.unsent = failure.unsent(to: self.configuration)
            return (channel, state.delegate)
        }
        guard let ended else { return }
        ended.channel?.close(promise: nil)
        ended.delegate?.linkLost(error, isRefusal: failure.isRefusal)
        if ended.delegate?.wantsLink == true {
            self.reopenLater(atLeast: failure.isRefusal ? Self.refusalMemory : .zero)
        }
    }

    /// Why a server hung up before it answered, if it said so.
    private func explained(_ failure: LinkFailure, _ attempt: Int) -> LinkFailure {
        switch failure {
        case .closedByServer, .failed: break
        case .unreachable, .silent, .unfit, .insecure, .unreadable, .unasked, .refused: return failure
        }
        let parting = self.state.withLock { state -> LockError? in
            guard state.attempt == attempt, case .greeting(_, let handshake) = state.phase else { return nil }
            return handshake.parting
        }
        return parting.map { $0.code == .storeUnavailable ? .unfit($0) : .refused($0) } ?? failure
    }

    private func reopenLater(atLeast minimum: TimeAmount) {
        let pause: TimeAmount? = self.state.withLock { state in
            switch state.phase {
            case .idle: state.phase = .pausing
            // The refusal stays visible until its time is over.
            case .refused: break
            case .connecting, .greeting, .ready, .pausing, .closed: return nil
            }
            var generator = SystemRandomNumberGenerator()
            return max(minimum, .nanoseconds(state.schedule.next(using: &generator).nanoseconds))
        }
        guard let pause else { return }
        self.loop.scheduleTask(in: pause) {
            self.state.withLock { if case .pausing = $0.phase { $0.phase = .idle } }
            self.open()
        }
    }
}
