// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

extension HistoryChecker {
    /// Sorts events by what they belong to.
    static func attempts(in events: [HistoryEvent]) -> [HistoryAttempt] {
        var attempts: [Int: HistoryAttempt] = [:]
        for event in events {
            guard let resource = event.resource else { continue }
            attempts[event.attempt, default: HistoryAttempt(requested: event, resource: resource)].add(event)
        }
        return attempts.sorted { $0.key < $1.key }.map(\.value)
    }

    /// Sweeps over the beliefs in a resource in the order of their beginnings.
    static func exclusion(_ holds: [HistoryAttempt]) -> [Violation] {
        let beliefs = holds.flatMap(\.beliefs).filter { $0.from < $0.until }
            .sorted { ($0.from, $0.event.index) < ($1.from, $1.event.index) }
        var active: [HistoryAttempt.Belief] = []
        var violations: [Violation] = []
        for belief in beliefs {
            active.removeAll { $0.until <= belief.from }
            if !belief.mode.isCompatible(with: active.map(\.mode)),
                let other = active.first(where: { !belief.mode.isCompatible(with: [$0.mode]) }) ?? active.first
            {
                let overlap = belief.from.duration(to: min(other.until, belief.until))
                violations.append(
                    Violation(
                        rule: .exclusion,
                        message: "two holders for \(overlap)",
                        first: other.event,
                        second: belief.event
                    )
                )
            }
            active.append(belief)
        }
        return violations
    }

    /// Tokens are unique, and greater than all that had come back before the request was sent.
    static func tokens(_ holds: [HistoryAttempt]) -> [Violation] {
        var violations: [Violation] = []
        var seen: [FencingToken: HistoryEvent] = [:]
        for belief in holds.flatMap({ Self.grants(of: $0) }) {
            if let other = seen.updateValue(belief.event, forKey: belief.token) {
                violations.append(
                    Violation(rule: .fence, message: "token \(belief.token) twice", first: other, second: belief.event)
                )
            }
        }
        let byReturn = holds.compactMap(\.beliefs.first).sorted { $0.event.index < $1.event.index }
        var highest: HistoryAttempt.Belief?
        var next = 0
        for hold in holds.sorted(by: { $0.requested.index < $1.requested.index }) {
            while next < byReturn.count, byReturn[next].event.index < hold.requested.index {
                if byReturn[next].token > highest?.token ?? .zero { highest = byReturn[next] }
                next += 1
            }
            if let own = hold.beliefs.first, let highest, own.token <= highest.token {
                violations.append(
                    Violation(
                        rule: .fence,
                        message: "token \(own.token) after \(highest.token)",
                        first: highest.event,
                        second: own.event
                    )
                )
            }
        }
        return violations
    }

    /// The beliefs of an attempt that came with a token of their own.
    private static func grants(of hold: HistoryAttempt) -> [HistoryAttempt.Belief] {
        var grants: [HistoryAttempt.Belief] = []
        for belief in hold.beliefs where grants.last?.token != belief.token { grants.append(belief) }
        return grants
    }

    /// What a fenced resource accepts never goes down, and it refuses only what is below.
    static func writes(_ events: [HistoryEvent]) -> [Violation] {
        var highest: [Resource: (token: FencingToken, event: HistoryEvent)] = [:]
        var violations: [Violation] = []
        for event in events {
            guard case .wrote(let token, let accepted) = event.kind, let resource = event.resource else { continue }
            let last = highest[resource]
            if accepted, let last, token < last.token {
                violations.append(
                    Violation(rule: .fence, message: "an old write accepted", first: last.event, second: event)
                )
            }
            if !accepted, token >= last?.token ?? .zero {
                violations.append(
                    Violation(rule: .fence, message: "a good write refused", first: last?.event, second: event)
                )
            }
            if accepted, token >= last?.token ?? .zero { highest[resource] = (token, event) }
        }
        return violations
    }

    /// A release that says `released` comes before any later exclusive grant of the resource returns.
    static func truthOfReleases(_ holds: [HistoryAttempt]) -> [Violation] {
        let exclusive = holds.compactMap { hold in hold.beliefs.first { $0.mode == .exclusive } }
            .sorted { $0.event.index < $1.event.index }
        return holds.compactMap { hold in
            guard hold.released?.kind == .released(.released), let releasing = hold.releasing,
                let token = hold.beliefs.last?.token,
                let later = exclusive.first(where: { $0.token > token }), later.event.index < releasing.index
            else { return nil }
            return Violation(
                rule: .honest,
                message: "a release of a lock that had been given to another said `released`",
                first: later.event,
                second: releasing
            )
        }
    }

    /// A holder is told of its loss by the deadline, or as soon as it runs again when it was stopped then.
    func announcements(_ holds: [HistoryAttempt], _ events: [HistoryEvent]) -> [Violation] {
        guard let end = events.last?.time else { return [] }
        var pauses: [String: [(from: ContinuousClock.Instant, until: ContinuousClock.Instant)]] = [:]
        for event in events {
            switch event.kind {
            case .paused: pauses[event.client, default: []].append((event.time, end))
            case .resumed:
                if let last = pauses[event.client]?.indices.last { pauses[event.client]?[last].until = event.time }
            case .requested, .granted, .notGranted, .renewed, .converted, .lost, .releasing, .released, .wrote, .healed:
                break
            }
        }
        return holds.compactMap { hold in
            guard let validUntil = hold.validUntil else { return nil }
            let excuse = pauses[hold.client]?.filter { $0.from <= validUntil && $0.until > validUntil }.map(\.until)
                .max()
            let latest = (excuse ?? validUntil).advanced(by: self.announcementSlack)
            let told = [hold.releasing, hold.lost].compactMap { $0 }.min { $0.index < $1.index }
            guard told.map({ $0.time > latest }) ?? (end > latest) else { return nil }
            return Violation(
                rule: .honest,
                message: "the holder was not told of its loss by the deadline",
                first: hold.granted,
                second: told
            )
        }
    }

    /// Every request ends, and after the last fault in time.
    func liveness(_ attempts: [HistoryAttempt], _ events: [HistoryEvent]) -> [Violation] {
        let healed = events.last { $0.kind == .healed }
        return attempts.compactMap { attempt in
            guard let ended = attempt.granted ?? attempt.notGranted else {
                return Violation(
                    rule: .live,
                    message: "a request never came to an end",
                    first: attempt.requested,
                    second: nil
                )
            }
            guard let healed, let bound = self.liveBound else { return nil }
            let start = max(healed.time, attempt.requested.time)
            guard ended.time > start.advanced(by: bound) else { return nil }
            return Violation(
                rule: .live,
                message: "a request took \(start.duration(to: ended.time)) without faults",
                first: attempt.requested,
                second: ended
            )
        }
    }
}
