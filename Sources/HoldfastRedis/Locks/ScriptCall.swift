// SPDX-License-Identifier: Apache-2.0

import NIOCore

/// A call of a script for one lock: what is written, and how several become one command.
package struct ScriptCall: Sendable {
    let script: LockScript
    let keys: LockKeys
    /// How many arguments there are that are not always given.
    var extra = 0
    /// Writes the arguments.
    let arguments: @Sendable (inout CommandEncoder) -> Void

    /// Whether it can travel with others of its script.
    var joins: Bool { self.script.joins && self.extra == 0 && !self.keys.isCluster }

    /// Writes it as a command of its own.
    func encode(_ encoder: inout CommandEncoder, isKnown: Bool) {
        self.script.begin(&encoder, isKnown: isKnown, isCluster: self.keys.isCluster, extra: self.extra)
        self.keys.encode(&encoder)
        self.arguments(&encoder)
    }
}

/// Calls of one script that wait to be sent, as one command: keys and arguments are kept apart until it is known how many
/// there are.
struct ScriptGroup<Ticket: Sendable>: Sendable {
    private let script: LockScript
    private let isKnown: Bool
    private var keys = CommandEncoder(.init())
    private var arguments = CommandEncoder(.init())
    /// Who asked, in order.
    private(set) var tickets: [Ticket] = []
    /// When the first of them gives up.
    private(set) var deadline: NIODeadline

    /// Starts a group.
    ///
    /// - Parameters:
    ///   - call: The first call that will be put into it.
    ///   - isKnown: Whether the server is believed to know the script.
    ///   - deadline: When the first call gives up.
    init(for call: ScriptCall, isKnown: Bool, deadline: NIODeadline) {
        self.script = call.script
        self.isKnown = isKnown
        self.deadline = deadline
    }

    /// Whether a call can be put into it.
    func takes(_ call: ScriptCall, isKnown: Bool) -> Bool {
        self.isKnown == isKnown && self.script.hash == call.script.hash
    }

    mutating func add(_ ticket: Ticket, _ call: ScriptCall, deadline: NIODeadline) {
        self.deadline = self.tickets.isEmpty ? deadline : min(self.deadline, deadline)
        self.tickets.append(ticket)
        call.keys.encode(&self.keys)
        call.arguments(&self.arguments)
    }

    /// Writes the command, and is empty then.
    ///
    /// - Returns: Who the reply belongs to.
    mutating func write(to encoder: inout CommandEncoder) -> CommandLedger<Ticket>.Asker {
        self.script.begin(&encoder, locks: self.tickets.count, isKnown: self.isKnown, isCluster: false)
        encoder.take(&self.keys)
        encoder.take(&self.arguments)
        guard self.tickets.count == 1, let only = self.tickets.popLast() else {
            defer { self.tickets = [] }
            return .several(self.tickets)
        }
        return .one(only)
    }
}
