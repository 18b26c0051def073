// SPDX-License-Identifier: Apache-2.0

package import HoldfastCore
package import NIOCore
import Synchronization

/// The connection for commands: any number of callers share it, and their commands travel together.
///
/// Commands that come while the event loop is busy or asleep go out in one write; the replies of one read are matched
/// under one lock. Connects at the first command, and again while commands wait.
package final class CommandConnection: RedisLinkDelegate {
    /// The reply to a command, or why there is none.
    package typealias Outcome = Result<RedisReply, LockError>

    /// About what it takes to put a processor to sleep and to wake it again.
    private static let longestAttention: TimeAmount = .microseconds(50)

    private let configuration: RedisConfiguration
    private let link: RedisLink
    private let inbox: Mutex<CommandInbox<CommandTicket>>
    /// The event loop's, but for the end.
    private let ledger = Mutex(CommandLedger<CommandTicket>())
    private let failsFast: Bool
    /// How long to look for a reply before the thread sleeps; see ``awaitAwake(until:)``.
    private let attention: TimeAmount?
    private let isAwake = Atomic(false)
    private let wasOpen = Atomic(false)
    private let onOpen: @Sendable () -> Void
    private let onLoss: @Sendable () -> Void

    /// Makes a connection; nothing is sent yet.
    ///
    /// - Parameters:
    ///   - connector: How the server is reached.
    ///   - failsFast: Whether commands fail at once while the server is known to be down, and the connection is tried
    ///     again without them.
    ///   - onOpen: Called on the event loop when a connection is ready.
    ///   - onLoss: Called on the event loop when a connection is gone that was ready: what the server was asked to
    ///     remember for it is forgotten.
    package init(
        _ connector: Connector,
        failsFast: Bool = false,
        onOpen: @escaping @Sendable () -> Void = {},
        onLoss: @escaping @Sendable () -> Void = {}
    ) {
        self.configuration = connector.configuration
        self.failsFast = failsFast
        self.attention = connector.configuration.offersExecutor && System.coreCount > 1 ? Self.longestAttention : nil
        self.onOpen = onOpen
        self.onLoss = onLoss
        self.link = RedisLink(connector)
        self.inbox = Mutex(CommandInbox(capacity: connector.configuration.maximumPending))
        self.link.attach(self)
    }

    /// Where the server is.
    var address: RedisAddress { RedisAddress(host: self.configuration.host, port: self.configuration.port) }

    /// Where the master is that Sentinels named last, where they are asked.
    var found: RedisAddress? { self.link.found }

    /// Why there is no connection, for those whose commands were not sent.
    var unsent: LockError { self.link.unsent }

    /// Whether commands can be sent now.
    var isReady: Bool { self.link.channel != nil }

    /// The event loop that the connection lives on.
    var loop: any EventLoop { self.link.loop }

    /// What is known of the age of the server that is connected; `nil` while none is.
    var run: ServerRun? { self.link.run }

    /// The same of the last one that was connected.
    var lastRun: ServerRun? { self.link.lastRun }

    /// Sends one command and waits for its reply, at most until the deadline.
    ///
    /// Not interrupted by cancellation: a reply that nobody waits for is a grant that nobody releases.
    ///
    /// - Parameters:
    ///   - deadline: When to give up. The connection is then closed, unless the command had not been sent.
    ///   - request: The command.
    /// - Returns: The reply, error lines included, or why there is none.
    @concurrent
    package func send(by deadline: NIODeadline, _ request: CommandRequest) async -> Outcome {
        if let outage = self.outage { return .failure(outage) }
        // Each ticket is in the inbox or the ledger exactly once, and leaves it exactly when it is resumed.
        return unsafe await withUnsafeContinuation { continuation in
            self.submit(unsafe CommandTicket(continuation), by: deadline, request)
        }
    }

    /// Sends one command that a closure writes; see ``send(by:_:)``.
    package func send(
        by deadline: NIODeadline,
        _ encode: @escaping @Sendable (inout CommandEncoder) -> Void
    ) async -> Outcome {
        await self.send(by: deadline, .command(encode))
    }

    /// Sends several commands on one connection, with nothing in between, and waits for all replies.
    ///
    /// - Parameters:
    ///   - deadline: When to give up; see ``send(by:_:)``.
    ///   - commands: At least one.
    /// - Returns: A reply for each.
    @concurrent
    package func send(
        by deadline: NIODeadline,
        all commands: [CommandRequest]
    ) async -> [Outcome] {
        await withCheckedContinuation { continuation in
            self.submit(by: deadline, all: commands) { continuation.resume(returning: $0) }
        }
    }

    /// Sends several commands, as ``send(by:all:)``, and hands the replies to a handler, which is called once, on any
    /// thread, and must not block.
    ///
    /// - Parameters:
    ///   - deadline: When to give up; see ``send(by:_:)``.
    ///   - commands: At least one.
    ///   - done: Gets a reply for each.
    func submit(
        by deadline: NIODeadline,
        all commands: [CommandRequest],
        _ done: @escaping @Sendable ([Outcome]) -> Void
    ) {
        if let outage = self.outage { return done(commands.map { _ in .failure(outage) }) }
        let answers = Answers(count: commands.count, done)
        let arrivals = commands.indices.map { place in
            CommandInbox.Arrival(CommandTicket { answers.put($0, at: place) }, by: deadline, commands[place])
        }
        // All or none: the first of them may change what the others mean.
        self.settle(self.inbox.withLock { $0.put(arrivals) }, arrivals)
    }

    /// Collects the outcomes of several commands, which may come in any order when the connection is closed meanwhile.
    private final class Answers: Sendable {
        private let state: Mutex<[Outcome?]>
        private let done: @Sendable ([Outcome]) -> Void

        init(count: Int, _ done: @escaping @Sendable ([Outcome]) -> Void) {
            self.state = Mutex(Array(repeating: nil, count: count))
            self.done = done
        }

        func put(_ outcome: Outcome, at place: Int) {
            let all = self.state.withLock { outcomes -> [Outcome]? in
                outcomes[place] = outcome
                let there = outcomes.compactMap(\.self)
                return there.count == outcomes.count ? there : nil
            }
            if let all { self.done(all) }
        }
    }

    /// Sends one command and hands its reply to a handler, which is called once, on any thread, and must not block.
    ///
    /// - Parameters:
    ///   - deadline: When to give up; see ``send(by:_:)``.
    ///   - request: The command.
    ///   - done: Gets the reply, error lines included, or why there is none.
    package func submit(
        by deadline: NIODeadline,
        _ request: CommandRequest,
        _ done: @escaping @Sendable (Outcome) -> Void
    ) {
        if let outage = self.outage { return done(.failure(outage)) }
        self.submit(CommandTicket(done), by: deadline, request)
    }

    /// Why a command need not be tried.
    private var outage: LockError? { self.link.refusal ?? (self.failsFast ? self.link.outage : nil) }

    private func submit(_ ticket: CommandTicket, by deadline: NIODeadline, _ request: CommandRequest) {
        let arrival = CollectionOfOne(CommandInbox.Arrival(ticket, by: deadline, request))
        self.settle(self.inbox.withLock { $0.put(arrival) }, arrival)
    }

    private func settle(
        _ submission: CommandInbox<CommandTicket>.Submission,
        _ arrivals: some Collection<CommandInbox<CommandTicket>.Arrival>
    ) {
        switch submission {
        case .queued: break
        case .scheduleBatch: self.link.loop.execute { self.flush() }
        // Callers on other threads leave it to the loop, which is awake by now.
        case .batchIsFull: if self.link.loop.inEventLoop { self.flush() }
        case .full:
            let limit = self.configuration.maximumPending
            let error = LockError(.limitReached, "\(limit) commands wait for Redis already; nothing was sent")
            for arrival in arrivals { arrival.ticket.resume(.failure(error)) }
        case .closed: for arrival in arrivals { arrival.ticket.resume(.failure(Self.closed)) }
        }
    }

    private static let closed = LockError(.notRunning, "the Redis store is closed; nothing was sent")

    /// Drops the connection and makes a new one; commands under way end with an error.
    ///
    /// - Parameter time: Does nothing if the connection is younger than that.
    package func startAnew(ifOpenedBefore time: NIODeadline? = nil) {
        self.link.loop.execute { self.link.startAnew(ifOpenedBefore: time) }
    }

    /// Drops a connection to another server than the master.
    func startAnew(unlessAt master: RedisAddress) {
        self.link.loop.execute { self.link.startAnew(unlessAt: master) }
    }

    /// Closes for good; commands under way end with an error.
    package func close() {
        self.link.close()
        let error = LockError(.storeUnavailable, "the Redis store was closed; the outcome is unknown")
        Self.fail(self.inbox.withLock { $0.close() }, with: error)
        Self.fail(self.ledger.withLock { $0.close() }, with: error)
    }

    private func flush() {
        let channel = self.link.channel
        let now = NIODeadline.now()
        let arrivals = self.inbox.withLock { $0.take() }
        var refused: [CommandTicket] = []
        var expired: [CommandTicket] = []
        let (batch, deadline) = self.ledger.withLock { ledger -> (ByteBuffer?, NIODeadline?) in
            for arrival in arrivals where !ledger.add(arrival.ticket, by: arrival.deadline, arrival.request) {
                refused.append(arrival.ticket)
            }
            guard channel != nil else { return (nil, ledger.deadlineToWatch()) }
            // Sent now, it would take the connection with it a moment later.
            expired = ledger.expireUnsent(at: now)
            return (ledger.takeBatch(), ledger.deadlineToWatch())
        }
        if !refused.isEmpty { self.fail(refused, with: Self.closed) }
        if !expired.isEmpty { self.fail(expired, with: self.link.unsent) }
        if let channel {
            if let batch {
                channel.writeAndFlush(batch, promise: nil)
                if let attention = self.attention, !self.isAwake.exchange(true, ordering: .relaxed) {
                    self.awaitAwake(until: .now() + attention)
                }
            }
        } else if let refusal = self.link.refusal {
            self.fail(self.ledger.withLock { $0.failAll() }, with: refusal)
        } else {
            self.link.open()
        }
        self.setTimer(deadline)
    }

    /// Keeps the event loop from sleeping for a moment while a reply is due.
    ///
    /// Only where callers run on it: elsewhere they have to be woken anyway. The loop looks at its sockets between two
    /// tasks, so a task that asks for another is all it takes.
    private func awaitAwake(until end: NIODeadline) {
        self.link.loop.execute {
            if self.ledger.withLock({ $0.awaited }) > 0, NIODeadline.now() < end {
                self.awaitAwake(until: end)
            } else {
                self.isAwake.store(false, ordering: .relaxed)
            }
        }
    }

    private func setTimer(_ deadline: NIODeadline?) {
        guard let deadline else { return }
        self.link.loop.scheduleTask(deadline: deadline) { self.checkDeadlines(deadline) }
    }

    private func checkDeadlines(_ fired: NIODeadline) {
        let now = NIODeadline.now()
        let (expired, isOverdue) = self.ledger.withLock { ledger in
            (ledger.expireUnsent(at: now), ledger.isOverdue(at: now))
        }
        if !expired.isEmpty { self.fail(expired, with: self.link.unsent) }
        if isOverdue { self.link.reset(.silent) }
        self.setTimer(self.ledger.withLock { $0.watchAfter(fired) })
    }

    /// Ends commands that had been taken out of the inbox.
    private func fail(_ tickets: [CommandTicket], with error: LockError) {
        self.inbox.withLock { $0.settled(tickets.count) }
        Self.fail(tickets, with: error)
    }

    private static func fail(_ tickets: [CommandTicket], with error: LockError) {
        for ticket in tickets { ticket.resume(.failure(error)) }
    }

    // MARK: - RedisLinkDelegate

    var wantsLink: Bool {
        self.failsFast || self.ledger.withLock { $0.hasUnsent } || self.inbox.withLock { $0.hasArrivals }
    }

    func linkOpened() {
        self.wasOpen.store(true, ordering: .relaxed)
        self.flush()
        self.onOpen()
    }

    func linkReceived(_ replies: [RedisReply]) {
        guard let askers = self.ledger.withLock({ $0.answered(replies.count) }) else {
            return self.link.reset(.unasked)
        }
        self.inbox.withLock { $0.settled(askers.reduce(0) { $0 + $1.count }) }
        for index in askers.indices {
            switch askers[index] {
            case .one(let ticket): ticket.resume(.success(replies[index]))
            case .several(let tickets): Self.share(replies[index], among: tickets)
            }
        }
    }

    /// Gives each caller its element of a reply; an error line is everybody's.
    private static func share(_ reply: RedisReply, among tickets: [CommandTicket]) {
        if let elements = reply.elements, elements.count == tickets.count {
            for index in tickets.indices { tickets[index].resume(.success(elements[index])) }
        } else {
            var all = RedisReply.null
            if case .error = reply { all = reply }
            for ticket in tickets { ticket.resume(.success(all)) }
        }
    }

    func linkLost(_ error: LockError, isRefusal: Bool) {
        let tickets = self.ledger.withLock { ledger in
            isRefusal || self.failsFast ? ledger.failAll() : ledger.connectionLost()
        }
        self.fail(tickets, with: error)
        if self.wasOpen.exchange(false, ordering: .relaxed) { self.onLoss() }
    }
}
