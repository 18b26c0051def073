// SPDX-License-Identifier: Apache-2.0

package import NIOCore

/// What is sent to a server.
package enum CommandRequest: Sendable {
    /// Writes exactly one command; called at most once, on the event loop.
    case command(@Sendable (inout CommandEncoder) -> Void)
    /// A call of a script that may be one command with others. The flag says whether the server is believed to know it.
    case call(ScriptCall, isKnown: Bool)

    /// A command of texts.
    package static func texts(_ parts: [String]) -> Self { .command { $0.command(parts) } }
}

/// Commands of callers on any thread until the event loop takes them, as a pure value.
///
/// Callers hold its lock for the time that it takes to put one thing into a list: what they want is written by the event
/// loop. With that under the lock, callers on two threads spent a third of their time waiting for each other.
package struct CommandInbox<Ticket: Sendable>: Sendable {
    /// A command, who waits for it and for how long.
    package struct Arrival: Sendable {
        package let ticket: Ticket
        let deadline: NIODeadline
        let request: CommandRequest

        /// Makes an arrival.
        package init(_ ticket: Ticket, by deadline: NIODeadline, _ request: CommandRequest) {
            (self.ticket, self.deadline, self.request) = (ticket, deadline, request)
        }
    }

    /// What came of putting something in.
    package enum Submission: Sendable, Hashable {
        /// It will be sent with a batch that is scheduled already.
        case queued
        /// The caller must schedule a batch.
        case scheduleBatch
        /// A batch is scheduled, and has so many commands already that the server might as well begin.
        case batchIsFull
        /// Too many commands are unanswered. It was not taken.
        case full
        /// The inbox is closed. It was not taken.
        case closed
    }

    /// About a packet: with more, client and server wait for each other by turns; with less, each write costs more than it
    /// carries.
    ///
    /// Measured in steps from 4 to 32.
    private static var fullBatch: Int { 12 }

    private var arrivals: [Arrival] = []
    /// How many of those that the event loop has are unanswered.
    private var taken = 0
    private var isBatchScheduled = false
    private var isClosed = false
    private let capacity: Int

    /// Makes an empty inbox.
    ///
    /// - Parameter capacity: How many commands may be unanswered.
    package init(capacity: Int) { self.capacity = capacity }

    /// Whether something is in it.
    package var hasArrivals: Bool { !self.arrivals.isEmpty }

    /// Puts commands in, all or none; nothing comes between them.
    package mutating func put(_ commands: some Collection<Arrival>) -> Submission {
        guard !self.isClosed else { return .closed }
        guard self.taken + self.arrivals.count + commands.count <= self.capacity else { return .full }
        if self.arrivals.isEmpty { self.arrivals.reserveCapacity(Self.fullBatch) }
        self.arrivals += commands
        guard !self.isBatchScheduled else { return self.arrivals.count >= Self.fullBatch ? .batchIsFull : .queued }
        self.isBatchScheduled = true
        return .scheduleBatch
    }

    /// Takes all commands out, for the scheduled batch; later ones schedule another.
    package mutating func take() -> [Arrival] {
        defer { self.arrivals = [] }
        self.isBatchScheduled = false
        self.taken += self.arrivals.count
        return self.arrivals
    }

    /// Says that so many of the commands that were taken out have come to their end.
    package mutating func settled(_ count: Int) { self.taken -= count }

    /// Takes no more.
    ///
    /// - Returns: Those whose commands were not taken out.
    package mutating func close() -> [Ticket] {
        defer { self.arrivals = [] }
        self.isClosed = true
        return self.arrivals.map(\.ticket)
    }
}
