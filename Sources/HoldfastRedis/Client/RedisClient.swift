// SPDX-License-Identifier: Apache-2.0

package import HoldfastCore
package import NIOCore
import Synchronization

/// Sends commands and scripts, and tries again what may be tried again, until the configured time is up.
package final class RedisClient: Sendable {
    /// A reply, and whether the command may have taken effect before, with its reply lost.
    package struct Answer: Sendable {
        /// The reply, never an error line.
        package let reply: RedisReply
        /// Whether an earlier copy of the command may have taken effect.
        package let isRepeat: Bool
        /// How many replicas have it, if that was asked for.
        var confirmations = 0

        /// Makes an answer.
        package init(reply: RedisReply, isRepeat: Bool, confirmations: Int = 0) {
            (self.reply, self.isRepeat, self.confirmations) = (reply, isRepeat, confirmations)
        }
    }

    /// Who a command is for, on a cluster.
    package enum Place: Sendable {
        /// Any master.
        case any
        /// Whoever has the keys of a lock.
        case lock(LockKeys)
        /// Whoever has the keys of several locks of a slot; while that is on its way an error, since each stands
        /// differently.
        case locks(RedisSlot)
        /// Whoever has a slot.
        case slot(RedisSlot)
        /// This one.
        case master(RedisMaster)

        /// The slot, computed from the keys.
        var slot: RedisSlot? {
            switch self {
            case .any, .master: nil
            case .lock(let keys): keys.slot
            case .slot(let slot), .locks(let slot): slot
            }
        }
    }

    /// What is sent, which may be more than once.
    package enum Request: Sendable {
        /// A command. The flag says whether the server is believed to know a script by its hash.
        case command(@Sendable (inout CommandEncoder, Bool) -> Void)
        /// A call of a script for one lock.
        case call(ScriptCall)

        /// What is sent to one server.
        func once(isKnown: Bool, _ manner: LockKeys.Manner = .usual) -> CommandRequest {
            if case .call(let call) = self, call.joins { return .call(call, isKnown: isKnown) }
            return .command { encoder in
                encoder.manner = manner
                switch self {
                case .command(let write): write(&encoder, isKnown)
                case .call(let call): call.encode(&encoder, isKnown: isKnown)
                }
                encoder.manner = .usual
            }
        }
    }

    private enum Route: Sendable {
        case server(CommandConnection, PatientConnection?)
        case cluster(RedisCluster)
    }

    /// What a command goes by, and whether that waits for replicas.
    private typealias Target = (connection: CommandConnection, patient: PatientConnection?)

    /// How often a command follows redirections before it waits a little.
    private static let maximumHops = 5

    /// How the servers are reached.
    package let configuration: RedisConfiguration
    private let loop: any EventLoop
    private let route: Route
    private let isOneOfSeveral: Bool

    /// Makes a client of one server.
    ///
    /// - Parameters:
    ///   - connection: The connection.
    ///   - configuration: How the server is reached.
    ///   - isOneOfSeveral: Whether others can stand in for this server: then a call is tried once.
    init(_ connection: CommandConnection, _ configuration: RedisConfiguration, isOneOfSeveral: Bool = false) {
        self.configuration = configuration
        self.loop = connection.loop
        self.route = .server(connection, nil)
        self.isOneOfSeveral = isOneOfSeveral
    }

    /// Makes a client of a master.
    init(_ master: RedisMaster, _ configuration: RedisConfiguration) {
        self.configuration = configuration
        self.loop = master.connection.loop
        self.route = .server(master.connection, master.patient)
        self.isOneOfSeveral = false
    }

    /// Makes a client of a cluster.
    init(_ cluster: RedisCluster, _ configuration: RedisConfiguration, loop: any EventLoop) {
        self.configuration = configuration
        self.loop = loop
        self.route = .cluster(cluster)
        self.isOneOfSeveral = false
    }

    /// When a call that starts now must end.
    package var deadline: NIODeadline { .now() + .nanoseconds(self.configuration.timeout.nanoseconds) }

    /// Runs a command of texts.
    package func run(_ command: [String], on place: Place = .any) async throws(LockError) -> RedisReply {
        try await self.send(to: place) { encoder, _ in encoder.command(command) }.reply
    }

    /// Runs a command that is written by a closure; see ``send(to:isRepeatable:awaitsReplicas:_:)``.
    package func send(
        to place: Place,
        isRepeatable: Bool = true,
        _ encode: @escaping @Sendable (inout CommandEncoder, Bool) -> Void
    ) async throws(LockError) -> Answer {
        try await self.send(to: place, isRepeatable: isRepeatable, .command(encode))
    }

    /// Runs a command.
    ///
    /// - Parameters:
    ///   - place: Who it is for, on a cluster.
    ///   - isRepeatable: Whether the command may be sent again when it is not known what became of it.
    ///   - awaitsReplicas: Whether to wait for replicas, as far as the configuration says.
    ///   - request: The command.
    /// - Returns: Its reply, never an error line.
    /// - Throws: ``LockError``.
    package func send(
        to place: Place,
        isRepeatable: Bool = true,
        awaitsReplicas: Bool = false,
        _ request: Request
    ) async throws(LockError) -> Answer {
        let deadline = self.deadline
        let lastStart = self.lastStart(before: deadline)
        var schedule: RetrySchedule?
        var isKnown = true
        var isRepeat = false
        var redirect: ClusterRedirect?
        var manner = LockKeys.Manner.usual
        var hops = 0
        while true {
            let failure: LockError
            let (target, patient): Target
            do {
                (target, patient) = try await self.target(of: place, redirect, awaitsReplicas)
            } catch {
                guard error.code == .storeUnavailable else { throw error }
                guard let next = self.pause(after: &schedule), next < lastStart else { throw error }
                await self.pause(until: next)
                continue
            }
            guard .now() < deadline else {
                // The server has forgotten its scripts, say, and the turn before took the time.
                if let patient { throw patient.crowded }
                throw LockError(
                    .storeUnavailable,
                    "\(self.configuration) did not say where to ask within \(self.configuration.timeout); nothing was sent"
                )
            }
            let asked = NIODeadline.now()
            let once = request.once(isKnown: isKnown, manner)
            let (outcome, confirmed) = await self.ask(target, patient, by: deadline, isGuest: redirect != nil, once)
            switch outcome {
            case .success(.error(let line)):
                let meaning = RedisErrorLine(line)
                if meaning.kind == "NOSCRIPT", isKnown {
                    // The text goes along this once, and the server keeps it.
                    isKnown = false
                    continue
                }
                let wasGuest = redirect != nil
                redirect = nil
                if case .locks = place, meaning.kind == "TRYAGAIN" || meaning.kind == "ASK" { throw meaning.error }
                let isMoving = meaning.kind == "TRYAGAIN" || meaning.kind == "ASK"
                if case .lock(let keys) = place, case .cluster = self.route, isMoving {
                    hops += 1
                    if !wasGuest, hops <= Self.maximumHops {
                        let (next, there) = await self.next(manner, after: meaning, keys, target, by: deadline)
                        if let next {
                            (manner, redirect) = (next, there)
                            continue
                        }
                    }
                } else if let next = self.follow(line, from: target) {
                    hops += 1
                    if next.isOnce { redirect = next }
                    if hops <= Self.maximumHops { continue }
                    redirect = nil
                }
                manner = .usual
                failure = try await self.reconsider(meaning, target, asked)
            case .success(let reply): return Answer(reply: reply, isRepeat: isRepeat, confirmations: confirmed)
            case .failure(let closed) where closed.code == .notRunning && self.mayBeElsewhere:
                (redirect, manner) = (nil, .usual)
                failure = LockError(
                    .storeUnavailable,
                    "Redis at \(target.address) serves no slots any more; nothing was sent"
                )
                await self.lookAgain(by: deadline)
            case .failure(let error):
                guard error.code == .storeUnavailable, isRepeatable, !self.isOneOfSeveral else { throw error }
                isRepeat = true
                (redirect, manner) = (nil, .usual)
                failure = error
                await self.lookAgain(by: deadline)
            }
            guard let next = self.pause(after: &schedule), next < lastStart else { throw failure }
            await self.pause(until: next)
            hops = 0
        }
    }

    /// When a try must begin that should still have an answer: one that comes too late costs everybody the connection.
    private func lastStart(before deadline: NIODeadline) -> NIODeadline {
        deadline - .nanoseconds(min(10_000_000, self.configuration.timeout.nanoseconds / 10))
    }

    /// Reads with several commands, in their order, on one connection with nothing in between.
    ///
    /// For one server only; what reads may always be sent again.
    ///
    /// - Parameters:
    ///   - connection: The server's.
    ///   - commands: At least one.
    /// - Returns: A reply for each; among them error lines that another try would not change.
    /// - Throws: ``LockError``.
    package func read(
        on connection: CommandConnection,
        _ commands: [[String]]
    ) async throws(LockError) -> [RedisReply] {
        let deadline = self.deadline
        let commands = commands.map { CommandRequest.texts($0) }
        var schedule: RetrySchedule?
        while true {
            var replies: [RedisReply] = []
            var failure: LockError?
            let asked = NIODeadline.now()
            for outcome in await connection.send(by: deadline, all: commands) {
                switch outcome {
                case .success(let reply):
                    replies.append(reply)
                    guard case .error(let line) = reply, failure == nil else { continue }
                    let meaning = RedisErrorLine(line)
                    if meaning.retry != .never { failure = try await self.reconsider(meaning, connection, asked) }
                case .failure(let error):
                    guard error.code == .storeUnavailable else { throw error }
                    failure = failure ?? error
                }
            }
            guard let failure else { return replies }
            guard let next = self.pause(after: &schedule), next < deadline else { throw failure }
            await self.pause(until: next)
        }
    }

    /// Reads a cluster's map again: another may have taken slots over.
    private func lookAgain(by deadline: NIODeadline) async {
        guard case .cluster(let cluster) = self.route else { return }
        // Whose time is up need not wait for it.
        if .now() < deadline { _ = await cluster.look() } else { cluster.lookSoon() }
    }

    /// Whether a connection can be closed while the store is open.
    private var mayBeElsewhere: Bool {
        if case .cluster(let cluster) = self.route { cluster.isOpen } else { false }
    }

    /// How and where to ask next about a lock whose slot is on its way.
    ///
    /// Redis before 7 says `ASK` also of a lock that is all there, so what it has is looked at; see ``LeftBehind``.
    ///
    /// - Returns: Nothing when the answer may be another in a while.
    private func next(
        _ manner: LockKeys.Manner,
        after meaning: RedisErrorLine,
        _ keys: LockKeys,
        _ source: CommandConnection,
        by deadline: NIODeadline
    ) async -> (LockKeys.Manner?, ClusterRedirect?) {
        guard case .cluster(let cluster) = self.route else { return (nil, nil) }
        if manner == .usual, meaning.kind == "TRYAGAIN" { return (.leaving, nil) }
        let whereabouts = await LeftBehind.look(for: keys, on: source, by: deadline) { redirect in
            (try? cluster.node(at: redirect.address))?.connection
        }
        switch whereabouts {
        case .here: return (manner == .usual ? .leaving : nil, nil)
        case .there(let redirect): return (.guest, redirect)
        case .unclear: return (nil, nil)
        }
    }

    private func target(
        of place: Place,
        _ redirect: ClusterRedirect?,
        _ awaitsReplicas: Bool
    ) async throws(LockError) -> Target {
        let master: RedisMaster
        switch self.route {
        case .server(let connection, let patient):
            let patient = awaitsReplicas ? patient : nil
            return (patient?.connection ?? connection, patient)
        case .cluster(let cluster):
            if let redirect {
                master = try cluster.node(at: redirect.address)
            } else if case .master(let one) = place {
                master = one
            } else {
                master = try await cluster.master(of: place.slot)
            }
        }
        let patient = awaitsReplicas ? master.patient : nil
        return (patient?.connection ?? master.connection, patient)
    }

    /// Where else a node says that a command belongs.
    private func follow(_ line: String, from target: CommandConnection) -> ClusterRedirect? {
        guard case .cluster(let cluster) = self.route, let redirect = ClusterRedirect(line, from: target.address) else {
            return nil
        }
        if !redirect.isOnce { cluster.moved(redirect) }
        return redirect
    }

    /// What to do about an error that is an answer: throws it, or says that another try is worth while.
    private func reconsider(
        _ meaning: RedisErrorLine,
        _ target: CommandConnection,
        _ asked: NIODeadline
    ) async throws(LockError) -> LockError {
        switch self.route {
        case .server:
            // The name may lead to another server by now; this connection never will.
            if meaning.retry == .elsewhere { target.startAnew(ifOpenedBefore: asked) }
            // Sentinels will know the master, who may only just be one.
            if meaning.retry == .elsewhere, self.configuration.sentinels != nil {
                return LockError(.storeUnavailable, meaning.error.message, underlying: meaning)
            }
            guard meaning.retry == .here, !self.isOneOfSeveral else { throw meaning.error }
        case .cluster(let cluster):
            // Led from node to node until the time is up: the cluster is being rebuilt.
            if meaning.kind == "ASK" || meaning.kind == "MOVED" {
                if meaning.kind == "MOVED" { _ = await cluster.look() }
                return LockError(.storeUnavailable, "the nodes of the cluster do not agree yet on who has a slot")
            }
            guard meaning.retry != .never else { throw meaning.error }
            if meaning.kind != "TRYAGAIN" { _ = await cluster.look() }
        }
        return meaning.error
    }

    private func ask(
        _ connection: CommandConnection,
        _ patient: PatientConnection?,
        by deadline: NIODeadline,
        isGuest: Bool,
        _ request: CommandRequest
    ) async -> (CommandConnection.Outcome, Int) {
        guard isGuest || patient != nil else { return (await connection.send(by: deadline, request), 0) }
        var commands = [request]
        if isGuest { commands.insert(.texts(["ASKING"]), at: 0) }
        let outcomes =
            if let patient {
                await patient.send(by: deadline, all: commands)
            } else {
                await connection.send(by: deadline, all: commands)
            }
        let own = outcomes[isGuest ? 1 : 0]
        guard patient != nil, case .success(let reply)? = outcomes.last, let count = reply.number else {
            return (own, 0)
        }
        return (own, Int(clamping: count))
    }

    private func pause(after schedule: inout RetrySchedule?) -> NIODeadline? {
        var next = schedule ?? RetrySchedule(base: .milliseconds(5), cap: .milliseconds(200))
        var generator = SystemRandomNumberGenerator()
        defer { schedule = next }
        return .now() + .nanoseconds(next.next(using: &generator).nanoseconds)
    }

    /// Waits, whatever becomes of the caller's task.
    @concurrent
    func pause(until end: NIODeadline) async {
        await withCheckedContinuation { continuation in
            self.loop.scheduleTask(deadline: end) { continuation.resume() }
        }
    }
}
