// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// A Redis Cluster of three masters with a replica each, for tests: real programs on loopback.
///
/// Its nodes take one of them for dead after ``nodeTimeout``; half of that without a word ends their connections, and with
/// them what is published meanwhile.
public final class RedisClusterServers: Sendable {
    /// After how long of silence a node counts as dead.
    public let nodeTimeout: Duration

    /// The servers: three masters first, as it was at the start.
    public let servers: [RedisServer]

    /// Starts everything and waits until all nodes agree: about five seconds.
    ///
    /// - Parameter nodeTimeout: After how long of silence a node counts as dead; whole seconds.
    /// - Throws: ``LockError`` when a program is missing or something does not come up.
    public init(nodeTimeout: Duration = .seconds(1)) async throws {
        self.nodeTimeout = nodeTimeout
        var servers: [RedisServer] = []
        for _ in 0..<6 {
            servers.append(
                try await RedisServer(
                    arguments: [
                        // The port of the nodes among themselves is 10,000 above otherwise, which may be none.
                        "--cluster-port", "\(RedisServer.freePort())", "--cluster-enabled", "yes",
                        "--cluster-node-timeout", "\(nodeTimeout.components.seconds * 1000)",
                        "--repl-diskless-sync-delay", "0",
                    ]
                )
            )
        }
        self.servers = servers
        try await self.form()
    }

    /// `redis+cluster://…`, with two of the nodes.
    public var url: String {
        "redis+cluster://\(self.servers.prefix(2).map { "127.0.0.1:\($0.port)" }.joined(separator: ","))"
    }

    /// Who has a key's slot, as a live node sees it.
    ///
    /// - Parameter key: The key.
    /// - Returns: The master, if it has one.
    /// - Throws: ``LockError`` when no node answers.
    public func owner(of key: String) throws -> RedisServer? {
        let views = self.views()
        guard let (server, nodes) = views.max(by: { $0.epoch < $1.epoch }).map({ ($0.server, $0.nodes) }) else {
            throw LockError(.storeUnavailable, "no node of the cluster answers")
        }
        guard let slot = Int(try server.execute("CLUSTER", "KEYSLOT", key)) else { return nil }
        return nodes.first { $0.isMaster && $0.slots.contains { $0.contains(slot) } }?.server
    }

    /// A replica of a master.
    ///
    /// - Parameter master: The master.
    /// - Returns: One that follows it, as a live node sees it.
    public func replica(of master: RedisServer) -> RedisServer? {
        guard let nodes = self.views().max(by: { $0.epoch < $1.epoch })?.nodes else { return nil }
        let id = nodes.first { $0.server === master }?.id
        return nodes.first { $0.master == id }?.server
    }

    /// Takes a slot from one master to another, as `redis-cli --cluster reshard` does, in steps.
    ///
    /// - Parameters:
    ///   - key: A key of the slot.
    ///   - target: Who gets it.
    ///   - half: What to do when both know and no key has moved.
    /// - Throws: ``LockError`` when a node refuses.
    public func move(slotOf key: String, to target: RedisServer, half: () async throws -> Void = {}) async throws {
        guard let source = try self.owner(of: key), source !== target else {
            throw LockError(.invalidArgument, "the slot is there, or nowhere")
        }
        let slot = try source.execute("CLUSTER", "KEYSLOT", key)
        let (from, to) = (try source.execute("CLUSTER", "MYID"), try target.execute("CLUSTER", "MYID"))
        try Self.expect("OK", try target.execute("CLUSTER", "SETSLOT", slot, "IMPORTING", from))
        try Self.expect("OK", try source.execute("CLUSTER", "SETSLOT", slot, "MIGRATING", to))
        try await half()
        while true {
            let keys = try source.execute("CLUSTER", "GETKEYSINSLOT", slot, "1")
            guard !keys.isEmpty else { break }
            _ = try source.execute("MIGRATE", "127.0.0.1", "\(target.port)", keys, "0", "5000")
        }
        try Self.expect("OK", try target.execute("CLUSTER", "SETSLOT", slot, "NODE", to))
        for server in self.servers where server !== target && server.pid != nil {
            // Replicas learn it from their masters.
            _ = try server.execute("CLUSTER", "SETSLOT", slot, "NODE", to)
        }
    }

    // MARK: - Making

    /// What `redis-cli --cluster create` does, without asking: slots, introductions, replicas.
    private func form() async throws {
        let masters = self.servers.prefix(3)
        for (number, server) in masters.enumerated() {
            let (first, last) = (16_384 * number / 3, 16_384 * (number + 1) / 3 - 1)
            try Self.expect("OK", try server.execute("CLUSTER", "ADDSLOTSRANGE", "\(first)", "\(last)"))
            try Self.expect("OK", try server.execute("CLUSTER", "SET-CONFIG-EPOCH", "\(number + 1)"))
        }
        for server in self.servers {
            for other in self.servers where other !== server {
                let bus = try other.execute("CONFIG", "GET", "cluster-port").split(separator: "\n").last ?? ""
                try Self.expect("OK", try server.execute("CLUSTER", "MEET", "127.0.0.1", "\(other.port)", "\(bus)"))
            }
        }
        try await RedisServer.until("the nodes know of each other") {
            try self.servers.allSatisfy {
                let (facts, nodes) = (try $0.execute("CLUSTER", "INFO"), try $0.execute("CLUSTER", "NODES"))
                return facts.contains("cluster_known_nodes:6") && !nodes.contains("handshake")
                    && !nodes.contains("disconnected")
            }
        }
        for (replica, master) in zip(self.servers.dropFirst(3), masters) {
            try Self.expect("OK", try replica.execute("CLUSTER", "REPLICATE", try master.execute("CLUSTER", "MYID")))
        }
        try await RedisServer.until("the cluster is whole") {
            try self.servers.allSatisfy { try $0.execute("CLUSTER", "INFO").contains("cluster_state:ok") }
                && self.servers.dropFirst(3).allSatisfy {
                    try $0.execute("INFO", "replication").contains("master_link_status:up")
                }
                && self.views().count == 6 && self.views().allSatisfy { $0.nodes.count { $0.master != nil } == 3 }
        }
    }

    private struct Node {
        let id: String
        let server: RedisServer
        let isMaster: Bool
        let master: String?
        let slots: [ClosedRange<Int>]
    }

    /// What each live node says of all.
    private func views() -> [(server: RedisServer, epoch: Int, nodes: [Node])] {
        self.servers.compactMap { server in
            guard server.pid != nil, let facts = try? server.execute("CLUSTER", "INFO"),
                let lines = try? server.execute("CLUSTER", "NODES"),
                let epoch = facts.split(whereSeparator: \.isNewline)
                    .first(where: { $0.hasPrefix("cluster_current_epoch:") })
                    .flatMap({ Int($0.split(separator: ":")[1]) })
            else { return nil }
            return (server, epoch, lines.split(separator: "\n").compactMap { self.node($0) })
        }
    }

    /// Reads a line: `ID IP:PORT@BUS[,NAME] FLAGS MASTER PING PONG EPOCH STATE SLOTS…`.
    private func node(_ line: Substring) -> Node? {
        let parts = line.split(separator: " ")
        guard parts.count >= 8, let port = parts[1].split(whereSeparator: { ":@".contains($0) }).dropFirst().first,
            let server = self.servers.first(where: { "\($0.port)" == port })
        else { return nil }
        let flags = parts[2].split(separator: ",")
        return Node(
            id: String(parts[0]),
            server: server,
            isMaster: flags.contains("master") && !flags.contains("fail"),
            master: parts[3] == "-" ? nil : String(parts[3]),
            slots: parts.dropFirst(8).compactMap { range in
                let ends = range.split(separator: "-").compactMap { Int($0) }
                guard let first = ends.first, let last = ends.last, first <= last else { return nil }
                return first...last
            }
        )
    }

    private static func expect(_ wanted: String, _ reply: String) throws {
        guard reply == wanted else { throw LockError(.storeRefused, "the cluster said: \(reply)") }
    }
}
