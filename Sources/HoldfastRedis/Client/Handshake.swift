// SPDX-License-Identifier: Apache-2.0

package import HoldfastCore

/// What is said before the first command on a connection, and whether the answers will do; a pure value.
package struct Handshake: Sendable {
    private enum Step: Sendable { case authenticate, name, select, role, memory, replication, server }

    private let steps: [Step]
    private let configuration: RedisConfiguration
    private var replies: [RedisReply] = []

    /// Makes the handshake of a configuration.
    package init(_ configuration: RedisConfiguration) {
        self.configuration = configuration
        var steps: [Step] = configuration.password == nil ? [] : [.authenticate]
        steps.append(.name)
        if configuration.database != 0 { steps.append(.select) }
        if configuration.sentinels != nil { steps.append(.role) }
        if !configuration.allowsEviction { steps.append(.memory) }
        let hasSuccessors = configuration.sentinels != nil || configuration.isClusterNode
        if hasSuccessors { steps.append(.replication) }
        if configuration.asksUptime { steps.append(.server) }
        self.steps = steps
    }

    /// What the server says of itself, where it is asked since when it has been up.
    package private(set) var report = ServerRun.Report()

    /// What a server said first, if it hung up after that: one that lets nobody in says so in a line, whatever it was asked.
    package var parting: LockError? {
        guard case .error(let line) = self.replies.first else { return nil }
        let meaning = RedisErrorLine(line)
        // Others may hang up in a moment, and make room.
        return meaning.kind == "ERR" ? LockError(.storeUnavailable, meaning.error.message) : meaning.error
    }

    /// What the server should be set to, if anything: reasons to worry, not to refuse it.
    package private(set) var cautions: [String] = []

    /// Writes the commands, all at once.
    package func encode(_ encoder: inout CommandEncoder) {
        for step in self.steps {
            switch step {
            case .authenticate:
                var command = ["AUTH"]
                if let user = self.configuration.user { command.append(user) }
                encoder.command(command + [self.configuration.password ?? ""])
            case .name: encoder.command(["CLIENT", "SETNAME", self.configuration.clientName])
            case .select: encoder.command(["SELECT", String(self.configuration.database)])
            case .role: encoder.command(["ROLE"])
            case .memory: encoder.command(["INFO", "memory"])
            case .replication: encoder.command(["INFO", "replication"])
            case .server: encoder.command(["INFO", "server"])
            }
        }
    }

    /// Takes replies.
    ///
    /// - Parameter replies: Replies in their order.
    /// - Returns: Whether all replies are there.
    /// - Throws: ``LockError`` when the server refuses us, or we refuse the server.
    package mutating func receive(_ replies: [RedisReply]) throws(LockError) -> Bool {
        self.replies += replies
        guard self.replies.count >= self.steps.count else { return false }
        for (step, reply) in zip(self.steps, self.replies) { try self.check(step, reply) }
        return true
    }

    private mutating func check(_ step: Step, _ reply: RedisReply) throws(LockError) {
        if case .error(let line) = reply {
            let meaning = RedisErrorLine(line)
            switch step {
            // What was asked for explicitly must be known.
            case .authenticate, .select: throw meaning.error
            case .replication where self.configuration.refusesLoneMaster: throw meaning.error
            // A name is a courtesy. Where INFO is not permitted we cannot know, and go on.
            case .name, .role, .memory, .replication, .server:
                if meaning.kind == "NOAUTH" || meaning.kind == "DENIED" { throw meaning.error }
                // It would have answered but for its state: the question must not be skipped.
                if meaning.retry == .here { throw meaning.error }
            }
            return
        }
        if step == .role, let role = reply.elements?.first?.text, role != "master" {
            // Sentinels may be late to know, or the server late to obey: both pass.
            throw LockError(
                .storeUnavailable,
                "the Redis server that should be the master is a \(role == "slave" ? "replica" : "Sentinel")"
            )
        }
        if step == .server { self.report = ServerRun.Report(info: reply.text ?? "") }
        if step == .replication { try self.checkReplicas(reply.text ?? "") }
        guard step == .memory, let policy = Self.field("maxmemory_policy", of: reply.text ?? "") else { return }
        guard policy == "noeviction" else {
            throw LockError(
                .storeRefused,
                """
                the Redis server may evict keys, and locks or invalidations with them (maxmemory-policy \(policy)); set it to \
                noeviction, or add ?eviction=allow to the URL to accept that
                """
            )
        }
    }

    /// Looks for a master that would write without replicas; `INFO` counts the good ones only where some are asked for.
    private mutating func checkReplicas(_ info: String) throws(LockError) {
        guard Self.field("role", of: info) == "master", Self.field("min_slaves_good_slaves", of: info) == nil else {
            return
        }
        guard self.configuration.refusesLoneMaster else {
            self.cautions.append(
                "cut off from its replicas it grants on, what its successor grants too; set min-replicas-to-write and "
                    + "min-replicas-max-lag to 1 or more"
            )
            return
        }
        throw LockError(
            .storeRefused,
            """
            the Redis master would write on without its replicas and grant what its successor grants too; set its \
            min-replicas-to-write and min-replicas-max-lag to 1 or more, or leave lone-master=refuse out of the URL
            """
        )
    }

    /// A field of a reply to `INFO`.
    static func field(_ name: String, of info: String) -> String? {
        for line in info.split(whereSeparator: \.isNewline) where line.hasPrefix("\(name):") {
            return String(line.dropFirst(name.utf8.count + 1))
        }
        return nil
    }
}
