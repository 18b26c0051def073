// SPDX-License-Identifier: Apache-2.0

import DequeModule
import HoldfastCore
import NIOCore
import Synchronization

/// A connection for commands that wait for replicas (`WAIT`), each of which holds up all that comes after it on the same
/// connection for up to ``RedisConfiguration/replicaTimeout``.
///
/// So nothing else goes by it: what is held is renewed and given back by another. And no more is sent at once than would be
/// answered in time if no replica confirmed anything, since a late reply takes the connection with it, and all that is
/// under way. The others wait in line, and fail alone when their time is up.
final class PatientConnection: Sendable {
    private struct Turn: Sendable {
        let number: Int
        let deadline: NIODeadline
        let taken: CheckedContinuation<Bool, Never>
    }

    private struct State {
        var underWay = 0
        var line: Deque<Turn> = []
        var last = 0
        var isClosed = false
    }

    let connection: CommandConnection
    private let configuration: RedisConfiguration
    /// How much later than it should a server may notice that a time is up: it looks ten times a second when nothing else
    /// happens (`hz`).
    private static let inattention: TimeAmount = .milliseconds(110)

    /// What one command may take.
    private let longest: TimeAmount
    /// How long before its deadline one is not sent any more.
    private let reserve: TimeAmount
    private let state = Mutex(State())

    /// Makes a connection, unless no replicas are to be waited for; nothing is sent yet.
    ///
    /// - Parameters:
    ///   - connector: How the server is reached.
    ///   - failsFast: See ``CommandConnection``.
    init?(_ connector: Connector, failsFast: Bool = false) {
        let configuration = connector.configuration
        guard configuration.replicas > 0 else { return nil }
        self.configuration = configuration
        self.connection = CommandConnection(connector, failsFast: failsFast)
        self.longest = .nanoseconds(configuration.replicaTimeout.nanoseconds / 10 * 11) + Self.inattention
        self.reserve = min(self.longest, .nanoseconds(configuration.timeout.nanoseconds / 2))
    }

    /// What a request gets whose time was up before its turn came.
    var crowded: LockError {
        // Without a connection it is not the replicas that are waited for.
        guard self.connection.isReady else { return self.connection.unsent }
        return LockError(
            .storeUnavailable,
            """
            so many requests wait for the replicas of \(self.configuration) that the time of this one was up; look at \
            the replicas, or lower replicas=
            """
        )
    }

    /// Sends commands, and behind them `WAIT`, with nothing in between, and waits for all replies.
    ///
    /// - Parameters:
    ///   - deadline: When to give up.
    ///   - commands: At least one.
    /// - Returns: A reply for each, and last how many replicas have what the commands wrote.
    @concurrent
    func send(
        by deadline: NIODeadline,
        all commands: [CommandRequest]
    ) async -> [CommandConnection.Outcome] {
        guard await self.turn(by: deadline) else {
            return Array(repeating: .failure(self.crowded), count: commands.count + 1)
        }
        defer { self.end() }
        let milliseconds = self.configuration.replicaTimeout.millisecondsRoundedUp
        let wait = ["WAIT", String(self.configuration.replicas), String(milliseconds)]
        return await self.connection.send(by: deadline, all: commands + [.texts(wait)])
    }

    /// Drops a connection to another server than the master.
    func startAnew(unlessAt master: RedisAddress) { self.connection.startAnew(unlessAt: master) }

    /// Closes for good; commands under way end with an error.
    func close() {
        let line = self.state.withLock { state in
            state.isClosed = true
            state.underWay += state.line.count
            defer { state.line = [] }
            return state.line
        }
        for turn in line { turn.taken.resume(returning: true) }
        self.connection.close()
    }

    /// Waits until a command may be sent.
    ///
    /// - Returns: Whether there is time for it left.
    private func turn(by deadline: NIODeadline) async -> Bool {
        await withCheckedContinuation { continuation in
            let now = NIODeadline.now()
            var number = 0
            let answer = self.state.withLock { state -> Bool? in
                if !state.isClosed, now >= deadline - self.reserve { return false }
                // A connection that is closed says so itself.
                if state.isClosed || state.line.isEmpty && self.mayGo(behind: state.underWay, at: now, by: deadline) {
                    state.underWay += 1
                    return true
                }
                state.last += 1
                number = state.last
                state.line.append(Turn(number: number, deadline: deadline, taken: continuation))
                return nil
            }
            if let answer { return continuation.resume(returning: answer) }
            self.connection.loop.scheduleTask(deadline: deadline - self.reserve) { [number] in self.expire(number) }
        }
    }

    private func mayGo(behind others: Int, at now: NIODeadline, by deadline: NIODeadline) -> Bool {
        others == 0 || now + self.longest * (others + 1) <= deadline
    }

    private func expire(_ number: Int) {
        let turn = self.state.withLock { state -> Turn? in
            guard let place = state.line.firstIndex(where: { $0.number == number }) else { return nil }
            return state.line.remove(at: place)
        }
        turn?.taken.resume(returning: false)
    }

    /// Notes that a command was answered, and lets go who is next.
    private func end() {
        let now = NIODeadline.now()
        let next = self.state.withLock { state in
            state.underWay -= 1
            var next: [Turn] = []
            while let first = state.line.first, self.mayGo(behind: state.underWay, at: now, by: first.deadline) {
                state.line.removeFirst()
                state.underWay += 1
                next.append(first)
            }
            return next
        }
        for turn in next { turn.taken.resume(returning: true) }
    }
}
