// SPDX-License-Identifier: Apache-2.0

/// What the log of the demo proves.
package struct DemoVerdict: Sendable, Hashable {
    /// Requests served.
    package private(set) var requests: Int64 = 0
    /// Times that the cache was found stale under the lock, counted once for each generation.
    package private(set) var expiries = 0
    /// Rebuilds that the cache took.
    package private(set) var rebuilds = 0
    /// Rebuilds that the cache refused since a newer token had been there.
    package private(set) var refusedStaleWrites = 0
    /// Times that two workers held the lock at once.
    package private(set) var overlaps = 0
    /// From the kill of a worker to the next one's lock, in nanoseconds.
    package private(set) var takeover: Int64?
    /// What must not be, in words; empty when all is well.
    package private(set) var problems: [String] = []

    /// Judges a log.
    ///
    /// A worker holds the lock from its grant until its work is over, or its lease ends, or it is killed: whichever comes
    /// first.
    ///
    /// - Parameters:
    ///   - events: The log.
    ///   - killed: Which worker was killed, and when.
    package init(_ events: [DemoEvent], killed: (worker: Int, time: Int64)?) {
        let events = events.sorted { $0.time < $1.time }
        self.requests = Self.requests(events)
        self.expiries = Set(events.filter { $0.kind == .begin }.map(\.generation)).count
        self.rebuilds = events.count { $0.kind == .wrote }
        self.refusedStaleWrites = events.count { $0.kind == .refused }
        self.overlaps = Self.overlaps(events, killed: killed)
        if let killed {
            let next = events.first { $0.kind == .begin && $0.time > killed.time && $0.worker != killed.worker }
            self.takeover = next.map { $0.time - killed.time }
        }
        self.problems = self.findProblems(events)
    }

    /// How many requests all workers have served by the end of a log.
    package static func requests(_ events: [DemoEvent]) -> Int64 {
        var latest: [Int: Int64] = [:]
        for event in events where event.kind == .requests { latest[event.worker] = event.value }
        return latest.values.reduce(0, +)
    }

    private static func overlaps(_ events: [DemoEvent], killed: (worker: Int, time: Int64)?) -> Int {
        var stays: [(from: Int64, to: Int64)] = []
        for begin in events where begin.kind == .begin {
            let own = events.filter { $0.worker == begin.worker && $0.token == begin.token }
            let leave = own.first { $0.kind == .leave }
            let lease = own.first { $0.kind == .ended }
            // Without word of its lease, it is taken to hold as long as it works.
            var end = leave.map { min($0.time, lease?.value ?? .max) } ?? lease?.value ?? begin.value
            if let killed, killed.worker == begin.worker, leave == nil { end = min(end, killed.time) }
            stays.append((begin.time, end))
        }
        stays.sort { $0.from < $1.from }
        var (overlaps, latestEnd) = (0, Int64.min)
        for stay in stays {
            if stay.from < latestEnd { overlaps += 1 }
            latestEnd = max(latestEnd, stay.to)
        }
        return overlaps
    }

    private func findProblems(_ events: [DemoEvent]) -> [String] {
        var problems: [String] = []
        if self.overlaps > 0 { problems.append("two workers held the lock at once, \(self.overlaps) times") }
        let begun = events.filter { $0.kind == .begin }
        let written = events.filter { $0.kind == .wrote }
        for generation in Set(begun.map(\.generation)).sorted() {
            let count = written.count { $0.generation == generation }
            if count != 1 { problems.append("expiry \(generation) was rebuilt \(count) times, not once") }
            let holders = begun.filter { $0.generation == generation }.map(\.token)
            if Set(holders).count != holders.count { problems.append("a holder rebuilt expiry \(generation) twice") }
        }
        if zip(written, written.dropFirst()).contains(where: { $0.token >= $1.token }) {
            problems.append("the cache took writes whose tokens do not rise")
        }
        return problems
    }
}
