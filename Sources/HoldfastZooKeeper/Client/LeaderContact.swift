// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// Since when, at the latest, the ensemble's leader counts a session's timeout: pure.
///
/// The leader alone ends sessions. Of a client that is connected to another server it hears when that server answers its
/// pings, twice a tick, and not by the requests that are passed on to it. So an answer shows that the session is
/// alive, and not that its time has begun anew. That is shown by a later request, sent when a ping must have come and been
/// answered since: the server passes on both in this order. A session's beginning, and its move to another connection,
/// go through the leader itself.
struct LeaderContact: Sendable {
    typealias Instant = ContinuousClock.Instant

    /// The parts of a session's timeout that are allowed for late pings, for the pause between calls of ours, and for all
    /// that is not the leader's ping.
    private static let (slack, pause, reserve) = (0.05, 0.04, 0.15)

    /// How long after an answer a ping of the leader has come and been answered.
    private let pinged: Duration
    /// How long there may be no call to the leader.
    let pause: Duration
    /// How far apart marks are.
    private let spacing: Duration
    /// When the last answered call was sent.
    private(set) var latest: Instant?
    /// Since when the leader counts, or longer ago than it does.
    private(set) var since: Instant?
    /// Answered calls of which the leader may not have heard.
    private var marks: [(sent: Instant, answered: Instant)] = []

    /// Makes the value for a session that is about to be opened.
    ///
    /// - Parameters:
    ///   - session: The session's timeout.
    ///   - tick: The servers' tick, or more.
    init(session: Duration, tick: Duration) {
        self.pinged = tick / 2 + session * Self.slack
        self.pause = session * Self.pause
        self.spacing = self.pause / 4
    }

    /// How long a holder may believe in a session after a call that the leader has answered.
    ///
    /// A leader that is cut off from the others answers for up to two ticks after they may have elected another, which
    /// counts all sessions anew: as long, and a little more, is not believed in.
    static func belief(session: Duration, tick: Duration) -> Duration {
        min(session - tick / 2 - session * Self.reserve, session - tick * 2 - session * Self.slack)
    }

    /// How many ticks a session has at least: with fewer hardly anything is left to believe in.
    static let fewestTicks = 3

    /// Takes the first connection of a session, which was asked for at this instant or later.
    mutating func began(at start: Instant) { self.since = max(self.since ?? start, start) }

    /// Takes another connection of the session; what was answered before was sent before.
    mutating func moved() {
        if let latest { self.began(at: latest) }
        self.marks = []
    }

    /// Takes the answer to a call that went to the leader.
    mutating func answered(sentAt sent: Instant, at now: Instant) {
        self.latest = max(self.latest ?? sent, sent)
        let known = self.marks.prefix { $0.answered.advanced(by: self.pinged) <= sent }
        if let last = known.last {
            self.began(at: last.sent)
            self.marks.removeFirst(known.count)
        }
        // A few of many tell as much as all.
        if let last = self.marks.last, last.sent.advanced(by: self.spacing) > sent { return }
        self.marks.append((sent, now))
    }
}
