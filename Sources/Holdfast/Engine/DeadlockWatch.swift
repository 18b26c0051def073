// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// When to look whether one waiting request is part of a deadlock.
struct DeadlockWatch {
    typealias Instant = ContinuousClock.Instant

    /// When to look next, or `nil` for never.
    private(set) var next: Instant?
    /// What was reported last, so that it is reported once.
    private(set) var reported: Deadlock?
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
