// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import Synchronization

/// What is known of one held lock in this process; shared by the engine, the handles and the work under the lock.
final class LeaseCore: Sendable {
    typealias Instant = ContinuousClock.Instant

    struct State {
        var timeline: LeaseTimeline
        /// Handles that have not been released: more than one after re-entry, none once the lock is given back.
        var holds = 1
        var mode: LockMode
        var token: FencingToken
        var revokeRequested = false
        var isConverting = false
        var reply: ReleaseReply?
        var watchers: [any LeaseWatcher] = []
        var listeners: [Int: LeaseListener] = [:]
        var nextListener = 0
    }

    let key: GrantKey
    /// Under which id the request passed the local gate: a request that had to start anew has another one by now.
    let turn: RequestID
    let owner: OwnerID
    let lease: Duration
    let acquiredAt: Instant
    private let state: Mutex<State>

    init(
        request: LockRequest,
        turn: RequestID,
        token: FencingToken,
        timeline: LeaseTimeline,
        acquiredAt: Instant
    ) {
        self.key = request.key
        self.turn = turn
        self.owner = request.owner
        self.lease = request.lease
        self.acquiredAt = acquiredAt
        self.state = Mutex(State(timeline: timeline, mode: request.mode, token: token))
    }

    /// The grant as of now.
    var grant: Grant {
        self.state.withLock { state in
            Grant(
                id: self.key.id,
                resource: self.key.resource,
                mode: state.mode,
                owner: self.owner,
                fencingToken: state.token,
                lease: self.lease,
                validUntil: state.timeline.validUntil
            )
        }
    }

    var mode: LockMode { self.state.withLock { $0.mode } }
    var token: FencingToken { self.state.withLock { $0.token } }
    var validUntil: Instant { self.state.withLock { $0.timeline.validUntil } }
    var loss: LossReason? { self.state.withLock { $0.timeline.loss } }
    var isHeld: Bool { self.state.withLock { $0.holds > 0 } }
    /// Whether one handle alone holds the lock.
    var isHeldOnce: Bool { self.state.withLock { $0.holds == 1 } }
    var releaseReply: ReleaseReply? { self.state.withLock { $0.reply } }

    /// Whether the holder may act at this instant.
    func isValid(at now: Instant) -> Bool {
        self.state.withLock { $0.holds > 0 && $0.timeline.isValid(at: now) }
    }

    /// Adds a hold for the same owner, unless the lock is given back or lost.
    func reenter(at now: Instant) -> Bool {
        self.state.withLock { state in
            guard state.holds > 0, state.timeline.isValid(at: now) else { return false }
            state.holds += 1
            return true
        }
    }

    /// Takes a hold away.
    ///
    /// - Returns: Whether it was the last one, so that the lock has to be given back now.
    func leave() -> Bool {
        self.state.withLock { state in
            guard state.holds > 0 else { return false }
            state.holds -= 1
            return state.holds == 0
        }
    }

    // MARK: - Time

    /// Says what to do now; a loss at the margin is announced to whoever watches.
    func action(at now: Instant) -> LeaseTimeline.Action {
        let (action, news) = self.state.withLock { state -> (LeaseTimeline.Action, News) in
            let action = state.timeline.action(at: now)
            return (action, action == .stop ? Self.lossNews(.deadline, &state) : News())
        }
        news.deliver()
        return action
    }

    /// When the holder's work must be stopped.
    var stopAt: Instant { self.state.withLock { $0.timeline.stopAt } }

    /// When the timeline next needs a look.
    ///
    /// Renewals are pulled back to a grid that is as wide as they may come early, so that leases of one kind are renewed
    /// in a few batches however many there are.
    ///
    /// - Parameter origin: Where the grid begins; the same for all leases of a service.
    /// - Returns: The instant.
    func nextLook(gridFrom origin: Instant) -> Instant {
        self.state.withLock { state in
            let width = max(1, state.timeline.renewalWindowNanoseconds)
            let offset = origin.duration(to: state.timeline.renewAt).nanoseconds
            return min(origin.advanced(by: .nanoseconds(offset - offset % width)), state.timeline.stopAt)
        }
    }

    /// Takes the answer to a renewal.
    ///
    /// - Returns: Why the lease was lost, if it was lost by this.
    func renewalEnded(_ reply: RenewReply, sentAt: Instant, at now: Instant) -> LossReason? {
        let (loss, news) = self.state.withLock { state -> (LossReason?, News) in
            guard state.holds > 0, state.timeline.loss == nil else { return (nil, News()) }
            state.timeline.renewalEnded(reply, sentAt: sentAt, at: now)
            if let reason = state.timeline.loss { return (reason, Self.lossNews(reason, &state)) }
            var events: [LeaseEvent] = []
            switch reply {
            case .renewed(let revokeRequested):
                events.append(.renewed(validUntil: state.timeline.validUntil))
                if revokeRequested, !state.revokeRequested { events.append(.revokeRequested) }
                state.revokeRequested = revokeRequested || state.revokeRequested
            case .unknown: events.append(.jeopardy(deadline: state.timeline.validUntil))
            case .lost: break
            }
            return (nil, News(events: events, listeners: Array(state.listeners.values)))
        }
        news.deliver()
        return loss
    }

    /// Says to whoever listens that the lease is in doubt.
    ///
    /// Nothing else changes: only an answer or the deadline ends it.
    func doubt() {
        let news = self.state.withLock { state -> News in
            guard state.holds > 0, state.timeline.loss == nil else { return News() }
            let event = LeaseEvent.jeopardy(deadline: state.timeline.validUntil)
            return News(events: [event], listeners: Array(state.listeners.values))
        }
        news.deliver()
    }

    /// Ends the lease on news from the store or from the service.
    ///
    /// - Returns: Whether it was believed until now.
    func end(_ reason: LossReason) -> Bool {
        let news = self.state.withLock { state -> News? in
            guard state.holds > 0, state.timeline.loss == nil else { return nil }
            state.timeline.end(reason)
            return Self.lossNews(reason, &state)
        }
        news?.deliver()
        return news != nil
    }

    /// Notes that somebody asks to let go.
    ///
    /// - Returns: Whether that is new.
    func askToRelease() -> Bool {
        let news = self.state.withLock { state -> News? in
            guard state.holds > 0, !state.revokeRequested else { return nil }
            state.revokeRequested = true
            return News(events: [.revokeRequested], listeners: Array(state.listeners.values))
        }
        news?.deliver()
        return news != nil
    }

    /// Begins a change of mode.
    ///
    /// - Returns: Whether nobody else is at it.
    func beginConversion() -> Bool {
        self.state.withLock { state in
            defer { state.isConverting = true }
            return !state.isConverting
        }
    }

    /// Ends a change of mode.
    func endConversion() { self.state.withLock { $0.isConverting = false } }

    /// Notes the mode and the token that the store says.
    func converted(to mode: LockMode, _ token: FencingToken) {
        let news = self.state.withLock { state -> News in
            guard state.mode != mode || state.token != token else { return News() }
            (state.mode, state.token) = (mode, token)
            return News(events: [.converted(mode, token)], listeners: Array(state.listeners.values))
        }
        news.deliver()
    }

    /// Notes how the release went and ends all event streams.
    func released(_ reply: ReleaseReply) {
        let listeners = self.state.withLock { state in
            state.reply = reply
            defer { state.listeners = [:] }
            return Array(state.listeners.values)
        }
        for listener in listeners {
            listener.yield(.released(reply))
            listener.finish()
        }
    }

    /// Ends all event streams of a lock that goes on, or ends, without this process.
    func endStreams() {
        let listeners = self.state.withLock { state in
            defer { state.listeners = [:] }
            return Array(state.listeners.values)
        }
        for listener in listeners { listener.finish() }
    }

    // MARK: - Watching

    /// Tells a watcher when the lease is lost, or at once if it is.
    func watch(_ watcher: any LeaseWatcher) {
        let isLost = self.state.withLock { state in
            if state.timeline.loss == nil { state.watchers.append(watcher) }
            return state.timeline.loss != nil
        }
        if isLost { watcher.leaseWasLost() }
    }

    /// Takes a watcher back.
    func unwatch(_ watcher: any LeaseWatcher) {
        self.state.withLock { state in state.watchers.removeAll { $0 === watcher } }
    }

    /// A new stream of what happens from now on.
    ///
    /// A slow reader misses the oldest events, never the last.
    func events() -> AsyncStream<LeaseEvent> {
        // Sixteen is more than happens between two looks of a reader that is alive.
        let (stream, continuation) = AsyncStream.makeStream(of: LeaseEvent.self, bufferingPolicy: .bufferingNewest(16))
        let key = self.listen(LeaseListener(yield: { continuation.yield($0) }, finish: { continuation.finish() }))
        if let key { continuation.onTermination = { [weak self] _ in self?.unlisten(key) } }
        return stream
    }

    /// Tells a listener what happens from now on, beginning with what it has to know of before.
    ///
    /// - Returns: What to give to ``unlisten(_:)``, or `nil` when everything is over and said.
    func listen(_ listener: LeaseListener) -> Int? {
        listener.yield(.acquired)
        let key = self.state.withLock { state -> Int? in
            if let loss = state.timeline.loss { listener.yield(.lost(loss)) }
            if let reply = state.reply {
                listener.yield(.released(reply))
                return nil
            }
            if state.revokeRequested { listener.yield(.revokeRequested) }
            state.nextListener += 1
            state.listeners[state.nextListener] = listener
            return state.nextListener
        }
        if key == nil { listener.finish() }
        return key
    }

    /// Takes a listener back.
    func unlisten(_ key: Int) { self.state.withLock { _ = $0.listeners.removeValue(forKey: key) } }

    /// What to tell whom once the lock is open again.
    private struct News {
        var events: [LeaseEvent] = []
        var listeners: [LeaseListener] = []
        var watchers: [any LeaseWatcher] = []

        func deliver() {
            for listener in self.listeners {
                for event in self.events { listener.yield(event) }
            }
            // After that: work that is cancelled leaves its stream, and is to find there why.
            for watcher in self.watchers { watcher.leaseWasLost() }
        }
    }

    private static func lossNews(_ reason: LossReason, _ state: inout State) -> News {
        defer { state.watchers = [] }
        return News(events: [.lost(reason)], listeners: Array(state.listeners.values), watchers: state.watchers)
    }
}
