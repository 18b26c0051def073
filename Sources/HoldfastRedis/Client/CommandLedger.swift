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
    /// Who a reply belongs to.
    package enum Asker: Sendable {
        /// One caller.
        case one(Ticket)
        /// Several, of whom each gets an element of the array.
        case several([Ticket])

        /// Those who wait for it.
        package var tickets: [Ticket] {
            switch self {
            case .one(let ticket): [ticket]
            case .several(let tickets): tickets
            }
        }

        /// How many they are.
        package var count: Int {
            switch self {
            case .one: 1
            case .several(let tickets): tickets.count
            }
        }
    }

    private struct Slot: Sendable {
        let asker: Asker
        let deadline: NIODeadline
        let length: Int
    }

    /// Room for a batch of about 16 commands, so that a batch seldom grows while it is written.
    private static var batchCapacity: Int { 4096 }

    /// The most calls in one command: a third of a millisecond of the server's time, or two when all have to wait.
    private static var largestGroup: Int { 32 }

    private var unsent: Deque<Slot> = []
    private var sent: Deque<Slot> = []
    private var encoder = CommandEncoder(ByteBuffer())
    /// Calls that become one command for each script when they are sent, or when any other command comes.
    private var groups: [ScriptGroup<Ticket>] = []
    private var isClosed = false
    /// The deadline that a timer is set for, and the earliest one since then.
    private var watched: NIODeadline?
    private var unwatched: NIODeadline?

    /// Makes an empty ledger.
    package init() {}

    /// How many replies are due.
    package var awaited: Int { self.sent.count }
    /// Whether commands wait to be sent.
    package var hasUnsent: Bool { !self.unsent.isEmpty || self.groups.contains { !$0.tickets.isEmpty } }

    /// Takes a command, unless it is closed.
    ///
    /// Calls of one script become one command, until a command of another sort comes or they are sent; so calls of different
    /// scripts may change their order. Who asks for one thing after another waits for the answer in between.
    ///
    /// - Returns: Whether it was taken.
    package mutating func add(_ ticket: Ticket, by deadline: NIODeadline, _ request: CommandRequest) -> Bool {
        guard !self.isClosed else { return false }
        self.unwatched = min(self.unwatched ?? deadline, deadline)
        switch request {
        case .command(let encode):
            self.closeGroups()
            let before = self.encoder.buffer.writerIndex
            encode(&self.encoder)
            self.append(.one(ticket), deadline, since: before)
        case .call(let call, let isKnown):
            let index = self.groups.firstIndex { $0.takes(call, isKnown: isKnown) } ?? self.groups.endIndex
            if index == self.groups.endIndex {
                self.groups.append(ScriptGroup(for: call, isKnown: isKnown, deadline: deadline))
            }
            self.groups[index].add(ticket, call, deadline: deadline)
            if self.groups[index].tickets.count >= Self.largestGroup { self.close(index) }
        }
        return true
    }

    private mutating func append(_ asker: Asker, _ deadline: NIODeadline, since before: Int) {
        let length = self.encoder.buffer.writerIndex - before
        self.unsent.append(Slot(asker: asker, deadline: deadline, length: length))
    }

    /// Makes commands of the calls that came so far.
    private mutating func closeGroups() {
        for index in self.groups.indices where !self.groups[index].tickets.isEmpty { self.close(index) }
    }

    private mutating func close(_ index: Int) {
        let before = self.encoder.buffer.writerIndex
        let asker = self.groups[index].write(to: &self.encoder)
        self.append(asker, self.groups[index].deadline, since: before)
    }

    /// The bytes of all unsent commands, which count as sent from now on.
    package mutating func takeBatch() -> ByteBuffer? {
        self.closeGroups()
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

    /// Who the next so many replies belong to, or `nil` when the server says more than it was asked.
    package mutating func answered(_ count: Int) -> [Asker]? {
        guard count <= self.sent.count else { return nil }
        var askers: [Asker] = []
        askers.reserveCapacity(count)
        for _ in 0..<count {
            guard let slot = self.sent.popFirst() else { break }
            askers.append(slot.asker)
        }
        return askers
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
        self.closeGroups()
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
    ///
    /// Calls that are one command leave with the first of them: nothing was sent, so the others can ask again.
    package mutating func expireUnsent(at now: NIODeadline) -> [Ticket] {
        self.closeGroups()
        guard self.unsent.contains(where: { $0.deadline <= now }) else { return [] }
        var expired: [Ticket] = []
        var kept: Deque<Slot> = []
        var bytes = self.encoder.buffer
        var left = ByteBuffer()
        for slot in self.unsent {
            if slot.deadline <= now {
                expired += slot.asker.tickets
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
        return self.sent.flatMap(\.asker.tickets)
    }

    /// Takes out all commands.
    package mutating func failAll() -> [Ticket] {
        self.closeGroups()
        let tickets = self.sent.flatMap(\.asker.tickets) + self.unsent.flatMap(\.asker.tickets)
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
