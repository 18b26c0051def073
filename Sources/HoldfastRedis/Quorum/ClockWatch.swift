// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// How the clocks of several servers stand to this machine's monotonic one, and so to each other: pure.
///
/// Leases end by each server's own clock: one that jumps ahead ends them early there, which a majority outvotes as long
/// as it is one server at a time.
package struct ClockWatch: Sendable {
    package typealias Instant = ContinuousClock.Instant

    /// How far clocks may be apart, or one may jump, before somebody should look: a hundredth of a usual lease.
    package static let tolerance: Duration = .milliseconds(300)

    private struct Reading: Sendable {
        let offset: Duration
        let roundTrip: Duration
    }

    /// What a new reading shows.
    package struct Alarm: Sendable, Hashable {
        /// Which server.
        package let node: Int
        /// How far its clock jumped since the last reading, or how far it is from the others.
        package let by: Duration
        /// Whether it jumped.
        package let isJump: Bool
    }

    private let origin: Instant
    private var readings: [Reading?]
    private var isApart: [Bool]
    /// How long requests took lately, the slow ones above all.
    private var latency: Duration = .zero

    /// Starts without readings.
    package init(nodes: Int, origin: Instant = .now) {
        self.origin = origin
        self.readings = Array(repeating: nil, count: nodes)
        self.isApart = Array(repeating: false, count: nodes)
    }

    /// Takes a reading.
    ///
    /// - Parameters:
    ///   - server: What the server's clock said, since 1970.
    ///   - node: Which server.
    ///   - sent: When it was asked.
    ///   - received: When it had answered.
    /// - Returns: What somebody should look at; each thing once.
    package mutating func read(_ server: Duration, of node: Int, sent: Instant, received: Instant) -> Alarm? {
        let roundTrip = sent.duration(to: received)
        let offset = server - self.origin.duration(to: sent) - roundTrip / 2
        let before = self.readings[node]
        self.readings[node] = Reading(offset: offset, roundTrip: roundTrip)
        if let before {
            let jump = offset - before.offset
            if Self.magnitude(jump) > Self.tolerance + roundTrip + before.roundTrip {
                self.isApart[node] = true
                return Alarm(node: node, by: jump, isJump: true)
            }
        }
        guard let distance = self.lead(of: node) else { return nil }
        let wasApart = self.isApart[node]
        self.isApart[node] = Self.magnitude(distance) > Self.tolerance + roundTrip
        return self.isApart[node] && !wasApart ? Alarm(node: node, by: distance, isJump: false) : nil
    }

    /// How far one server's clock is ahead of the others' as last read; `nil` if unknown.
    package func lead(of node: Int) -> Duration? { Self.lead(of: node, self.readings.map { $0?.offset }) }

    /// How far one of several offsets is above the middle of the others; `nil` if one of the two is unknown.
    static func lead(of node: Int, _ offsets: [Duration?]) -> Duration? {
        let others = offsets.enumerated().compactMap { $0.offset == node ? nil : $0.element }.sorted()
        guard let own = offsets[node], !others.isEmpty else { return nil }
        return own - others[others.count / 2]
    }

    /// The largest distance between two servers' clocks, as far as known.
    package var skew: Duration {
        let offsets = self.readings.compactMap { $0?.offset }
        return (offsets.max() ?? .zero) - (offsets.min() ?? .zero)
    }

    /// Notes how long a request took.
    package mutating func took(_ time: Duration) { self.latency = max(time, self.latency - self.latency / 64) }

    /// A number that a fencing token given now will not be below on any server, unless the lock's last one was higher:
    /// if all servers take it, they need not be told each other's.
    ///
    /// In µs since 1970 by the clock that is ahead; 0 while clocks are unknown. A guess: a wrong one costs a round trip,
    /// never a promise.
    ///
    /// - Parameters:
    ///   - now: The present.
    ///   - limit: By how much a clock may be ahead of the others to count; `nil` for any.
    /// - Returns: The number.
    package func floor(at now: Instant, within limit: Duration? = nil) -> Int64 {
        var latest: Duration?
        for (node, reading) in self.readings.enumerated() {
            guard let reading else { continue }
            if let limit, let lead = self.lead(of: node), lead > limit { continue }
            latest = max(latest ?? reading.offset, reading.offset)
        }
        guard let latest else { return 0 }
        // The clocks go on while the request is under way.
        let guess = latest + self.origin.duration(to: now) + min(self.latency * 2, Self.tolerance) + .milliseconds(1)
        return max(0, guess.nanoseconds / 1000)
    }

    private static func magnitude(_ duration: Duration) -> Duration { duration < .zero ? .zero - duration : duration }
}
