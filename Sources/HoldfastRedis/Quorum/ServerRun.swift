// SPDX-License-Identifier: Apache-2.0

/// Since when a server has been up, as far as that can be believed: pure.
///
/// Redis counts its uptime by the wall clock: one that jumps ahead makes a server seem old that has just forgotten all
/// locks. Who saw another run of the server before (`run_id`) counts from when it first saw this one, whatever the server
/// says. Who sees a server for the first time has its word only, less what its clock is ahead of the others'.
///
/// What remains: a server that started with a clock that was behind, which was then set right, before this client saw it
/// for the first time. Servers should start after their clocks are set (`time-sync.target`).
package struct ServerRun: Sendable, Hashable {
    package typealias Instant = ContinuousClock.Instant

    /// What a server says of itself.
    package struct Report: Sendable, Hashable {
        /// Which of its lives this is; `nil` when it does not say.
        package var id: String?
        /// How long it has been up by its clock; zero when it does not say.
        package var uptime: Duration = .zero
        /// What its clock says, since 1970; `nil` when it does not say.
        package var clock: Duration?

        /// Makes a report that says nothing.
        package init() {}

        /// Reads a reply to `INFO server`.
        package init(info: String) {
            self.id = Handshake.field("run_id", of: info)
            // Whole seconds, rounded either way.
            let seconds = Handshake.field("uptime_in_seconds", of: info).flatMap { Int64($0) } ?? 0
            self.uptime = .seconds(min(max(1, seconds) - 1, Int64(Int32.max)))
            self.clock = Handshake.field("server_time_usec", of: info).flatMap { Int64($0) }.flatMap { micros in
                micros >= 0 ? .microseconds(micros) : nil
            }
        }
    }

    /// What offsets of clocks count from.
    private static let origin = Instant.now

    /// The latest time at which it may have started; `nil` before it was seen.
    package private(set) var startedBy: Instant?
    /// How its clock stood to ours when it was asked.
    private var offset: Duration?
    private var id: String?

    /// Starts with a server that was not seen.
    package init() {}

    /// Takes what a server says with a new connection.
    package mutating func saw(_ report: Report, at now: Instant) {
        let claim = now - report.uptime
        if let started = self.startedBy, self.id != nil, self.id == report.id {
            // It cannot have grown older than the time that passed.
            self.startedBy = max(started, claim)
        } else {
            self.startedBy = self.startedBy == nil ? claim : now
        }
        self.id = report.id
        self.offset = report.clock.map { $0 - Self.origin.duration(to: now) }
    }

    /// Whether one of several servers has been up for some time.
    ///
    /// - Parameters:
    ///   - number: Which.
    ///   - runs: What is known of each; `nil` while it is not connected.
    ///   - time: For how long.
    ///   - now: The present.
    /// - Returns: Whether that is certain enough.
    package static func hasBeenUp(_ number: Int, of runs: [ServerRun?], for time: Duration, at now: Instant) -> Bool {
        guard let run = runs[number], let started = run.startedBy else { return false }
        var age = started.duration(to: now)
        guard age > time else { return false }
        if let ahead = self.lead(of: number, runs), ahead > ClockWatch.tolerance { age -= ahead }
        return age > time
    }

    /// How far the clock of one of several servers was ahead of the others' when it was connected; `nil` if unknown.
    package static func lead(of number: Int, _ runs: [ServerRun?]) -> Duration? {
        ClockWatch.lead(of: number, runs.map { $0?.offset })
    }
}
