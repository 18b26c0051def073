// SPDX-License-Identifier: Apache-2.0

import CZooKeeper
import Dispatch
import HoldfastCore
import Synchronization

/// A session with an ensemble, and after its end the next one.
///
/// Handles are opened and closed on a queue of its own, since both may block; another queue has a timer, which ends
/// waits whose time is over and drives the work of the stores on this session.
final class Session: Sendable {
    typealias Instant = ContinuousClock.Instant

    /// One session of the server, while it is connected.
    struct Link: Sendable {
        /// Which of the sessions that this object has had.
        let epoch: Int
        let handle: Handle
        /// The session's id, a credential: whoever is shown this sees only the epoch.
        let id: Int64
    }

    /// Somebody who waits for the leader's word.
    private struct Doubter {
        /// Until when the session must be kept.
        let end: Instant
        let epoch: Int
        /// How long to wait.
        let deadline: Instant
        let resume: @Sendable (_ isKept: Bool) -> Void
    }

    /// What a store hears of.
    enum Event: Sendable {
        /// Calls can be sent; the epoch tells whether it is the session that was there before.
        case connected(Link)
        /// The connection is lost, and nobody knows whether the session goes on.
        case doubted(epoch: Int)
        /// The server has ended the session, and removed all its nodes.
        case ended(epoch: Int)
        /// The servers have refused the session for good; the end of it was told before.
        case refused(LockError)
        /// Time has passed.
        case tick(Instant)
    }

    enum Phase {
        case idle
        case connecting
        case connected(Link)
        /// Connection lost; the session may go on.
        case suspended(Link)
        /// For good.
        case failed(LockError)
        case closed
    }

    private struct State {
        var phase = Phase.idle
        var epoch = 0
        var handle: Handle?
        /// Since when the leader counts the session's time.
        var contact: LeaderContact
        /// When the last call was sent that asks for nothing but an answer.
        var lastBeat: Instant?
        /// When the handle was last seen without a connection that may have been greeted.
        var lastApart: Instant?
        var lastProblem: String?
        var waiters: [(deadline: Instant, resume: @Sendable () -> Void)] = []
        /// Who waits until the leader surely keeps the session.
        var doubters: [Doubter] = []
        /// Whether the leader is being asked for them.
        var isAsking = false
        /// Who is told of events, and says whether to be told of the next.
        var listeners: [Int: @Sendable (Event) -> Bool] = [:]
        var nextListener = 0

        /// Whether the leader surely keeps a session until an instant.
        func isKept(until end: Instant, _ epoch: Int, _ timeout: Duration) -> Bool {
            guard self.epoch == epoch, let since = self.contact.since else { return false }
            return since.advanced(by: timeout) >= end
        }
    }

    /// How often waits and leases are looked at.
    private static let tick: Duration = .milliseconds(50)
    /// How long to wait before names are looked up again.
    private static let reopenPause: DispatchTimeInterval = .seconds(1)
    /// How long the end of a session waits for its last calls.
    static let drainLimit: Duration = .seconds(2)
    /// How soon the leader is asked again for those who wait for its word.
    private static let askPause: Duration = .milliseconds(10)

    let settings: SessionSettings
    private let state: Mutex<State>
    private let lifecycle = DispatchQueue(label: "holdfast.zookeeper.lifecycle")
    private let timer: Ticker

    init(_ settings: SessionSettings) {
        self.settings = settings
        self.state = Mutex(State(contact: settings.contact))
        self.timer = Ticker(every: Self.tick)
        self.timer.start { [weak self] in self?.ticked() }
    }

    deinit {
        self.timer.stop()
        if let handle = self.state.withLock({ $0.handle }) { self.lifecycle.async { handle.close() } }
    }

    // MARK: - Its state

    /// The connection, if there is one.
    var link: Link? {
        self.state.withLock { state in
            if case .connected(let link) = state.phase { link } else { nil }
        }
    }

    /// Whether the leader surely keeps a session, and its nodes with it, until an instant.
    func isKept(until end: Instant, _ epoch: Int) -> Bool {
        self.state.withLock { $0.isKept(until: end, epoch, self.settings.sessionTimeout) }
    }

    /// Waits until the leader surely keeps a session until an instant; it is asked by one call for all who wait.
    ///
    /// - Parameters:
    ///   - end: The instant.
    ///   - link: The session.
    ///   - deadline: How long to wait.
    /// - Returns: Whether it does.
    @concurrent
    func isKept(until end: Instant, _ link: Link, waitingUntil deadline: Instant) async -> Bool {
        await withCheckedContinuation { (continuation: CheckedContinuation<Bool, Never>) in
            let answer = self.state.withLock { state -> Bool? in
                if state.isKept(until: end, link.epoch, self.settings.sessionTimeout) { return true }
                guard case .connected(let present) = state.phase, present.epoch == link.epoch, Instant.now < deadline
                else { return false }
                state.doubters.append(
                    Doubter(end: end, epoch: link.epoch, deadline: deadline) { continuation.resume(returning: $0) }
                )
                return nil
            }
            if let answer { return continuation.resume(returning: answer) }
            self.ask()
        }
    }

    /// Asks the leader for those who wait for its word, one call at a time.
    private func ask() {
        let asked = self.state.withLock { state -> (Link, Instant)? in
            guard !state.isAsking, case .connected(let link) = state.phase,
                let deadline = state.doubters.map(\.deadline).max()
            else { return nil }
            state.isAsking = true
            return (link, deadline)
        }
        guard let (link, deadline) = asked else { return }
        let terms = Handle.Terms(sentAt: .now, deadline: deadline) { [weak self] _ in
            // Those for whom the answer was enough have heard of it. For the others a later call has to be answered.
            Pause.shared.after(Self.askPause) {
                self?.state.withLock { $0.isAsking = false }
                self?.ask()
            }
        }
        link.handle.sync("/", terms)
    }

    /// Answers those who wait for the leader's word and need not wait longer.
    private func settleDoubts(at now: Instant) {
        let settled = self.state.withLock { state -> [(doubter: Doubter, isKept: Bool)] in
            guard !state.doubters.isEmpty else { return [] }
            var settled: [(Doubter, Bool)] = []
            var left: [Doubter] = []
            let present: Int? = if case .connected(let link) = state.phase { link.epoch } else { nil }
            for doubter in state.doubters {
                if state.isKept(until: doubter.end, doubter.epoch, self.settings.sessionTimeout) {
                    settled.append((doubter, true))
                } else if doubter.epoch != present || doubter.deadline <= now {
                    settled.append((doubter, false))
                } else {
                    left.append(doubter)
                }
            }
            state.doubters = left
            return settled
        }
        for (doubter, isKept) in settled { doubter.resume(isKept) }
    }

    /// Whether there will never be a connection again.
    var isOver: Bool {
        self.state.withLock { state in
            switch state.phase {
            case .failed, .closed: true
            case .idle, .connecting, .connected, .suspended: false
            }
        }
    }

    /// Registers for events, which come on threads that must not be blocked.
    ///
    /// - Parameter listener: Says whether it wants to hear more.
    /// - Returns: What to give to ``ignore(_:)``.
    @discardableResult
    func listen(_ listener: @escaping @Sendable (Event) -> Bool) -> Int {
        self.state.withLock { state in
            state.nextListener += 1
            state.listeners[state.nextListener] = listener
            return state.nextListener
        }
    }

    /// Ends a registration.
    func ignore(_ key: Int) { self.state.withLock { _ = $0.listeners.removeValue(forKey: key) } }

    /// Waits for a connection, and makes one if there is none.
    ///
    /// - Parameter deadline: How long to wait.
    /// - Returns: The connection.
    /// - Throws: ``LockError``; nothing was sent.
    func ready(by deadline: Instant) async throws -> Link {
        while true {
            enum Step {
                case link(Link)
                case fail(LockError)
                case wait(mustStart: Bool)
            }
            let step = self.state.withLock { state -> Step in
                switch state.phase {
                case .connected(let link): return .link(link)
                case .failed(let error): return .fail(error)
                case .closed: return .fail(LockError(.notRunning, "the session with ZooKeeper was closed"))
                case .idle:
                    state.phase = .connecting
                    return .wait(mustStart: true)
                case .connecting, .suspended:
                    guard Instant.now < deadline else {
                        let problem = state.lastProblem.map { ": \($0)" } ?? ""
                        let message = "no connection to ZooKeeper at \(self.settings.place)\(problem); nothing was sent"
                        return .fail(LockError(.storeUnavailable, message))
                    }
                    return .wait(mustStart: false)
                }
            }
            switch step {
            case .link(let link): return link
            case .fail(let error): throw error
            case .wait(let mustStart):
                if mustStart { self.lifecycle.async { [weak self] in self?.open() } }
                await self.change(by: deadline)
            }
        }
    }

    /// Waits until the phase changes or the time is over.
    @concurrent
    private func change(by deadline: Instant) async {
        await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
            let isOver = self.state.withLock { state in
                switch state.phase {
                case .connected, .failed, .closed: return true
                case .idle, .connecting, .suspended:
                    state.waiters.append((deadline, { continuation.resume() }))
                    return false
                }
            }
            if isOver { continuation.resume() }
        }
    }

    // MARK: - Its life

    private func open() {
        let epoch = self.state.withLock { state -> Int? in
            guard case .connecting = state.phase else { return nil }
            state.epoch += 1
            state.contact = self.settings.contact
            state.contact.began(at: .now)
            state.lastApart = nil
            return state.epoch
        }
        guard let epoch else { return }
        let handle = Handle(usesCreatorACL: self.settings.usesCreatorACL) { [weak self] event in
            self?.took(event, epoch: epoch)
        }
        self.state.withLock { $0.handle = handle }
        let problem = handle.open(
            hosts: self.settings.addresses,
            timeout: Int32(clamping: self.settings.sessionTimeout.millisecondsRoundedUp),
            scheme: self.settings.scheme,
            credentials: self.settings.credentials?.text
        )
        guard let problem else { return }
        handle.close()
        self.state.withLock { state in
            state.handle = nil
            state.lastProblem = "its names cannot be resolved, or the system has no resources (error \(problem))"
        }
        self.lifecycle.asyncAfter(deadline: .now() + Self.reopenPause) { [weak self] in self?.open() }
    }

    private func took(_ event: CallbackTable.SessionEvent, epoch: Int) {
        switch event {
        case .answered(let sentAt):
            let mustTell = self.state.withLock { state in
                if state.epoch == epoch { state.contact.answered(sentAt: sentAt, at: .now) }
                return !state.doubters.isEmpty
            }
            if mustTell { self.settleDoubts(at: .now) }
        case .state(let code):
            switch code {
            case ZOO_CONNECTED_STATE: self.connected(epoch)
            case ZOO_CONNECTING_STATE, ZOO_ASSOCIATING_STATE, ZOO_NOTCONNECTED_STATE: self.suspended(epoch)
            case ZOO_EXPIRED_SESSION_STATE: self.ended(epoch)
            case ZOO_AUTH_FAILED_STATE:
                self.fail(epoch, ServerCode.authenticationFailed.error("log in", at: self.settings.place))
            default:
                // Unknown to this code; the library goes on by itself.
                self.suspended(epoch)
            }
        }
    }

    private func connected(_ epoch: Int) {
        guard let handle = self.state.withLock({ $0.epoch == epoch ? $0.handle : nil }), let session = handle.session
        else { return }
        let negotiated: Duration = .milliseconds(Int64(session.timeout))
        guard negotiated >= self.settings.sessionTimeout else {
            // The server would end the session while holders still believe in their locks.
            let error = LockError(
                .storeRefused,
                "ZooKeeper at \(self.settings.place) ends sessions after \(negotiated.brief), before the "
                    + "\(self.settings.sessionTimeout.brief) that were asked for; add ?session=\(session.timeout)ms to "
                    + "the store's URL, or raise the server's maxSessionTimeout"
            )
            return self.fail(epoch, error)
        }
        let isUp = handle.state == ZOO_CONNECTED_STATE
        self.state.withLock { state in
            guard state.epoch == epoch else { return }
            state.contact.moved()
            // The leader was asked for the connection that is up now after it was last seen not to be.
            if isUp, let apart = state.lastApart { state.contact.began(at: apart) }
        }
        let link = Link(epoch: epoch, handle: handle, id: session.id)
        self.enter(.connected(link), epoch, tell: .connected(link))
    }

    private func suspended(_ epoch: Int) {
        let link = self.link
        guard let link, link.epoch == epoch else { return }
        self.enter(.suspended(link), epoch, tell: .doubted(epoch: epoch))
    }

    private func ended(_ epoch: Int) {
        let old = self.state.withLock { $0.epoch == epoch ? $0.handle : nil }
        guard let old else { return }
        self.enter(.connecting, epoch, tell: .ended(epoch: epoch))
        self.lifecycle.async { [weak self] in
            old.close()
            self?.open()
        }
    }

    private func fail(_ epoch: Int, _ error: LockError) {
        let handle = self.state.withLock { $0.epoch == epoch ? $0.handle : nil }
        self.enter(.failed(error), epoch, tell: .ended(epoch: epoch))
        let listeners = self.state.withLock { state -> [Int: @Sendable (Event) -> Bool]? in
            guard case .failed = state.phase, state.epoch == epoch else { return nil }
            return state.listeners
        }
        if let listeners { self.tell(listeners, .refused(error)) }
        if let handle { self.lifecycle.async { handle.close() } }
    }

    private func enter(_ phase: Phase, _ epoch: Int, tell event: Event) {
        let entered = self.state.withLock { state -> State? in
            guard state.epoch == epoch else { return nil }
            if case .failed = state.phase { return nil }
            if case .closed = state.phase { return nil }
            state.phase = phase
            defer { state.waiters = [] }
            return state
        }
        guard let entered else { return }
        self.settleDoubts(at: .now)
        self.tell(entered.listeners, event)
        for waiter in entered.waiters { waiter.resume() }
    }

    private func ticked() {
        let now = Instant.now
        let (handle, epoch, over, listeners) = self.state.withLock { state in
            let over = state.waiters.filter { $0.deadline <= now }
            state.waiters.removeAll { $0.deadline <= now }
            return (state.handle, state.epoch, over, state.listeners)
        }
        for waiter in over { waiter.resume() }
        self.settleDoubts(at: now)
        self.beat(at: now)
        // Missed now and then, which makes it longer ago, and no harm.
        if let seen = handle?.stateUnlessBusy, seen != ZOO_CONNECTED_STATE, seen != ZOO_ASSOCIATING_STATE {
            self.state.withLock { if $0.epoch == epoch { $0.lastApart = now } }
        }
        if let handle {
            CallbackTable.shared.endLate(on: handle.number, at: now)
            CallbackTable.shared.poll(on: handle.number, at: now)
        }
        self.tell(listeners, .tick(now))
    }

    private func tell(_ listeners: [Int: @Sendable (Event) -> Bool], _ event: Event) {
        for (key, listener) in listeners where !listener(event) { self.ignore(key) }
    }

    /// Asks the leader for an answer when nothing else has for a while: how long a lock may be believed in hangs on it.
    private func beat(at now: Instant) {
        let link = self.state.withLock { state -> Link? in
            guard case .connected(let link) = state.phase else { return nil }
            let last = max(state.contact.latest ?? now - .seconds(3600), state.lastBeat ?? now - .seconds(3600))
            // Rather half a tick too early than too late.
            guard last.duration(to: now) >= state.contact.pause - Self.tick / 2 else { return nil }
            state.lastBeat = now
            return link
        }
        let deadline = now.advanced(by: self.settings.sessionTimeout)
        link?.handle.sync("/", Handle.Terms(sentAt: .now, deadline: deadline) { _ in })
    }

    /// Ends the session: waits a moment for calls under way, then closes the handle on its own queue.
    ///
    /// Calls that are not answered by then end with ``ServerCode/closing``.
    @concurrent
    func close(draining limit: Duration = Session.drainLimit) async {
        let handle = self.state.withLock { state in
            state.phase = .closed
            defer { state.handle = nil }
            return state.handle
        }
        let waiters = self.state.withLock { state in
            defer { state.waiters = [] }
            return state.waiters
        }
        for waiter in waiters { waiter.resume() }
        self.settleDoubts(at: .now)
        guard let handle else { return }
        let limit = Instant.now.advanced(by: limit)
        while CallbackTable.shared.pending(on: handle.number) > 0, Instant.now < limit {
            try? await ContinuousClock().sleep(for: .milliseconds(2))
            if Task.isCancelled { break }
        }
        await withCheckedContinuation { continuation in
            self.lifecycle.async {
                handle.close()
                continuation.resume()
            }
        }
    }
}

extension Session.Link: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    /// The session, without its id.
    var description: String { "session \(self.epoch)" }

    /// The same as ``description``.
    var debugDescription: String { self.description }

    /// Shows nothing but the description, so that `dump` shows no credential.
    var customMirror: Mirror { Mirror(self, children: ["epoch": self.epoch]) }
}
