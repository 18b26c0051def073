// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// When to look whether one waiting request is part of a deadlock.
struct DeadlockWatch {
    typealias Instant = ContinuousClock.Instant

    /// When to look next, or `nil` for never.
    private(set) var next: Instant?
    /// What was reported last, so that it is reported once.
    private(set) var reported: Deadlock?
    /// The circle that was seen at the last look, and at how many looks without a break.
    private var sight: (circle: Deadlock, count: Int)?
    private var pause: Duration
    private var ticket: WaitRegistry.Ticket?

    /// Begins to watch a request that waits from now on.
    ///
    /// - Parameters:
    ///   - holding: What its owner keeps meanwhile; a request whose owner keeps nothing is in nobody's way.
    ///   - engine: Where it waits.
    init(_ holding: [String], _ engine: Engine) {
        self.pause = engine.configuration.deadlocks.delay ?? .zero
        let isWatched = self.pause > .zero && !holding.isEmpty && engine.capabilities.showsWaits
        self.next = isWatched ? engine.clock.now.advanced(by: self.pause) : nil
    }

    /// Whether it is time to look.
    func isDue(at now: Instant) -> Bool { self.next.map { $0 <= now } ?? false }

    /// Makes the request known to the other services of this process, and sets the next look.
    mutating func begin(_ suspect: Suspect, of engine: Engine) {
        if self.ticket == nil { self.ticket = WaitRegistry.shared.enter(suspect, of: engine) }
        self.pause = min(self.pause * 2, max(self.pause, DeadlockPolicy.maximumPause))
        self.next = engine.clock.now.advanced(by: self.pause)
    }

    /// After how many looks at the same circle the ages of its requests are believed in no more.
    ///
    /// Its youngest request began to wait last and looks first, so it has given up by the second look of any other one;
    /// the third is for one that is slow.
    private static let patience = 3

    /// Notes the circle of a look, chosen without regard to ages.
    ///
    /// - Returns: Whether whoever should give up by its age has had the time, and did not: two stores, or two readings of
    ///   one, may not agree on who is younger.
    mutating func sees(_ circle: Deadlock?) -> Bool {
        guard let circle else {
            self.sight = nil
            return false
        }
        let isSame = circle.isConfirmed(by: self.sight?.circle)
        self.sight = (circle, isSame ? (self.sight?.count ?? 0) + 1 : 1)
        return self.sight.map { $0.count >= Self.patience } ?? false
    }

    /// Makes the request the one that gives up, unless another of the circle is that already.
    func claim(_ deadlock: Deadlock, in engine: Engine) -> Bool {
        self.ticket.map { WaitRegistry.shared.claim(deadlock, in: engine, $0) } ?? false
    }

    /// Notes a deadlock.
    ///
    /// - Returns: Whether it is another one than before.
    mutating func report(_ deadlock: Deadlock) -> Bool {
        defer { self.reported = deadlock }
        return !deadlock.isConfirmed(by: self.reported)
    }

    /// Ends the watch: the request does not wait any more.
    mutating func end() {
        if let ticket = self.ticket { WaitRegistry.shared.leave(ticket) }
        self.ticket = nil
        self.next = nil
    }
}

/// A waiting request that may be part of a deadlock.
struct Suspect: Sendable {
    /// Its reference.
    let reference: String
    /// Who asks.
    let owner: OwnerID
    /// What for.
    let resource: Resource
}
