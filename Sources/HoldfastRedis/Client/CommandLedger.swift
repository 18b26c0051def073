// SPDX-License-Identifier: Apache-2.0

import DequeModule
package import NIOCore

/// Which command waits for which reply, as a pure value.
///
/// Redis answers in the order of the commands, so both queues are first in, first out, and the bytes of the unsent ones
/// lie in one buffer in the same order. A reply can only ever meet the command it belongs to: a command that ran out of
/// time while its reply was due takes the whole connection with it, since skipping one reply is how answers reach the
/// wrong caller (CVE-2023-28858).
package struct CommandLedger<Ticket: Sendable>: Sendable {
    private struct Slot: Sendable {
        let ticket: Ticket
        let deadline: NIODeadline
        let length: Int
    }

    /// What came of a submission.
    package enum Submission: Sendable, Hashable {
        /// It will be sent with a batch that is scheduled already.
        case queued
        /// The caller must schedule a batch.
        case scheduleBatch
        /// A batch is scheduled, and has so many bytes already that the server might as well begin.
        case batchIsFull
        /// Too many commands are unanswered. It was not taken.
        case full
        /// The ledger is closed. It was not taken.
        case closed
    }

    /// Room for a batch of about 16 commands, so that a batch seldom grows while it is written.
    private static var batchCapacity: Int { 4096 }

    /// About one packet: with more, client and server wait for each other by turns; with less, each write costs more
    /// than it carries.
    ///
    /// Measured in steps from 700 to 8,192 bytes.
    private static var fullBatch: Int { 2048 }

    private var unsent: Deque<Slot> = []
    private var sent: Deque<Slot> = []
    private var encoder = CommandEncoder(ByteBuffer())
    private var isBatchScheduled = false
    private var isClosed = false
    /// The deadline that a timer is set for, and the earliest one since then.
    private var watched: NIODeadline?
    private var unwatched: NIODeadline?
    private let capacity: Int

    /// Makes an empty ledger.
    ///
    /// - Parameter capacity: How many commands may be unanswered.
    package init(capacity: Int) {
        self.capacity = capacity
    }

    /// How many commands are unanswered.
    package var count: Int { self.unsent.count + self.sent.count }
    /// How many commands wait for a reply.
    package var awaited: Int { self.sent.count }
    /// Whether commands wait to be sent.
    package var hasUnsent: Bool { !self.unsent.isEmpty }

    /// Whether so many commands would be taken.
    package func hasRoom(for more: Int) -> Bool { self.isClosed || self.count + more <= self.capacity }

    /// Whether the time of a command that was not sent is up.
    package func hasExpired(at now: NIODeadline) -> Bool { self.unsent.contains { $0.deadline <= now } }

    /// Takes a command.
    package mutating func submit(
        _ ticket: Ticket,
        deadline: NIODeadline,
        _ encode: (inout CommandEncoder) -> Void
    ) -> Submission {
        guard !self.isClosed else { return .closed }
        guard self.count < self.capacity else { return .full }
        let before = self.encoder.buffer.writerIndex
        encode(&self.encoder)
        let length = self.encoder.buffer.writerIndex - before
        self.unsent.append(Slot(ticket: ticket, deadline: deadline, length: length))
        self.unwatched = min(self.unwatched ?? deadline, deadline)
        guard !self.isBatchScheduled else {
            return self.encoder.buffer.readableBytes >= Self.fullBatch ? .batchIsFull : .queued
        }
        self.isBatchScheduled = true
        return .scheduleBatch
    }

    /// Says that the scheduled batch is being looked at; later submissions schedule another.
    package mutating func beginBatch() { self.isBatchScheduled = false }

    /// The bytes of all unsent commands, which count as sent from now on.
    package mutating func takeBatch() -> ByteBuffer? {
        guard !self.unsent.isEmpty else { return nil }
        let bytes = self.encoder.buffer
        self.encoder = CommandEncoder(ByteBuffer())
        self.encoder.buffer.reserveCapacity(Self.batchCapacity)
        if self.sent.isEmpty {
            swap(&self.sent, &self.unsent)
        } else {
            self.sent.append(contentsOf: self.unsent)
            self.unsent.removeAll(keepingCapacity: true)
        }
        return bytes
    }

    /// The commands that the next so many replies belong to, or `nil` when the server says more than it was asked.
    package mutating func answered(_ count: Int) -> [Ticket]? {
        guard count <= self.sent.count else { return nil }
        var tickets: [Ticket] = []
        tickets.reserveCapacity(count)
        for _ in 0..<count {
            if let slot = self.sent.popFirst() { tickets.append(slot.ticket) }
        }
        return tickets
    }

    /// The deadline to set a timer for, when no timer is set that is early enough.
    package mutating func deadlineToWatch() -> NIODeadline? {
        guard let deadline = self.unwatched else { return nil }
        self.unwatched = nil
        if let watched = self.watched, watched <= deadline { return nil }
        self.watched = deadline
        return deadline
    }

    /// Says that the timer for a deadline fired.
    ///
    /// - Returns: The next deadline to set a timer for, or `nil` when nothing waits or another timer is set.
    package mutating func watchAfter(_ fired: NIODeadline) -> NIODeadline? {
        guard self.watched == fired else { return nil }
        // Nearly in order, but for commands that are sent again: these keep their first deadline.
        let sent = self.sent.lazy.map(\.deadline).min()
        let unsent = self.unsent.lazy.map(\.deadline).min()
        self.watched = sent.flatMap { sent in unsent.map { min(sent, $0) } } ?? sent ?? unsent
        self.unwatched = nil
        return self.watched
    }

    /// Whether a command that was sent ran out of time: the connection must be closed.
    package func isOverdue(at now: NIODeadline) -> Bool { self.sent.contains { $0.deadline <= now } }

    /// Takes out the unsent commands that ran out of time, with their bytes.
    package mutating func expireUnsent(at now: NIODeadline) -> [Ticket] {
        guard self.unsent.contains(where: { $0.deadline <= now }) else { return [] }
        var expired: [Ticket] = []
        var kept: Deque<Slot> = []
        var bytes = self.encoder.buffer
        var left = ByteBuffer()
        for slot in self.unsent {
            if slot.deadline <= now {
                expired.append(slot.ticket)
                bytes.moveReaderIndex(forwardBy: slot.length)
            } else {
                kept.append(slot)
                if var part = bytes.readSlice(length: slot.length) { left.writeBuffer(&part) }
            }
        }
        self.unsent = kept
        self.encoder = CommandEncoder(left)
        return expired
    }

    /// Takes out the commands whose replies will not come any more, since their connection is gone.
    package mutating func connectionLost() -> [Ticket] {
        defer { self.sent.removeAll() }
        return self.sent.map(\.ticket)
    }

    /// Takes out all commands.
    package mutating func failAll() -> [Ticket] {
        let tickets = self.sent.map(\.ticket) + self.unsent.map(\.ticket)
        self.sent.removeAll()
        self.unsent.removeAll()
        self.encoder = CommandEncoder(ByteBuffer())
        return tickets
    }

    /// Takes out all commands and takes no more.
    package mutating func close() -> [Ticket] {
        self.isClosed = true
        return self.failAll()
    }
}
