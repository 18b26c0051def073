// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// All events of one try to get and hold a lock.
struct HistoryAttempt {
    /// A time in which the client believed to hold the lock in one mode.
    struct Belief {
        let mode: LockMode
        let token: FencingToken
        let from: ContinuousClock.Instant
        var until: ContinuousClock.Instant
        let event: HistoryEvent
    }

    let resource: Resource
    let client: String
    var requested: HistoryEvent
    var granted: HistoryEvent?
    var notGranted: HistoryEvent?
    var releasing: HistoryEvent?
    var released: HistoryEvent?
    var lost: HistoryEvent?
    /// One for each mode that the lock had.
    var beliefs: [Belief] = []
    /// The last deadline.
    var validUntil: ContinuousClock.Instant?

    /// Whether the client gave up the lock or was told that it is gone.
    var hasEnded: Bool { self.releasing != nil || self.lost != nil }

    init(requested: HistoryEvent, resource: Resource) {
        self.requested = requested
        self.resource = resource
        self.client = requested.client
    }

    mutating func add(_ event: HistoryEvent) {
        switch event.kind {
        case .requested, .wrote, .paused, .resumed, .healed: break
        case .notGranted: self.notGranted = event
        case .granted(let mode, let token, let validUntil):
            self.granted = event
            self.believe(mode, token, from: event, until: validUntil)
        case .renewed(let validUntil):
            // A renewal that is heard of after the deadline does not bring the lock back.
            guard !self.hasEnded, let last = self.beliefs.last, event.time <= last.until else { return }
            self.beliefs[self.beliefs.count - 1].until = max(last.until, validUntil)
            self.validUntil = self.beliefs[self.beliefs.count - 1].until
        case .converted(let mode, let token):
            guard !self.hasEnded, let last = self.beliefs.last, event.time <= last.until else { return }
            self.end(at: event)
            self.believe(mode, token, from: event, until: last.until)
        case .lost:
            self.end(at: event)
            self.lost = self.lost ?? event
        case .releasing:
            self.end(at: event)
            self.releasing = self.releasing ?? event
        case .released: self.released = event
        }
    }

    private mutating func believe(
        _ mode: LockMode,
        _ token: FencingToken,
        from event: HistoryEvent,
        until: ContinuousClock.Instant
    ) {
        self.validUntil = until
        self.beliefs.append(Belief(mode: mode, token: token, from: event.time, until: until, event: event))
    }

    private mutating func end(at event: HistoryEvent) {
        guard let last = self.beliefs.last else { return }
        self.beliefs[self.beliefs.count - 1].until = min(last.until, event.time)
    }
}
