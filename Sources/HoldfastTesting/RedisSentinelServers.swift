// SPDX-License-Identifier: Apache-2.0

import Glibc
import HoldfastCore
import Synchronization

/// A Redis master with two replicas and three Sentinels, for tests: real programs on loopback.
///
/// The Sentinels take a master for dead after half a second and agree by two.
public final class RedisSentinelServers: Sendable {
    /// What the Sentinels call the master.
    public static let name = "main"

    /// The servers; the first was the master at the start.
    public let servers: [RedisServer]
    private let sentinels: [(child: ChildProcess, port: UInt16)]
    private let directory: String

    /// Starts everything and waits until all know of each other: about three seconds.
    ///
    /// - Parameter arguments: More arguments for the servers.
    /// - Throws: ``LockError`` when a program is missing or something does not come up.
    public init(arguments: [String] = []) async throws {
        let common = ["--repl-diskless-sync-delay", "0"] + arguments
        let master = try await RedisServer(arguments: common)
        let follow = ["--replicaof", "127.0.0.1", "\(master.port)"]
        var servers = [master]
        for _ in 0..<2 { servers.append(try await RedisServer(arguments: common + follow)) }
        self.servers = servers
        self.directory = try TemporaryDirectory.make(prefix: "holdfast-sentinel-")
        try await RedisServer.until("the replicas follow") {
            try master.execute("INFO", "replication").contains("connected_slaves:2")
                && servers.dropFirst().allSatisfy { try $0.execute("INFO", "replication").contains("link_status:up") }
        }
        // A Sentinel that starts before the replicas are linked learns of them ten seconds later.
        guard let program = ChildProcess.find("redis-server") else {
            throw LockError(.storeUnavailable, "redis-server not found; run `make bootstrap`")
        }
        var sentinels: [(child: ChildProcess, port: UInt16)] = []
        for number in 0..<3 {
            let port = try LoopbackSocket.freePort()
            let path = "\(self.directory)/sentinel\(number).conf"
            guard let file = fopen(path, "w") else { throw LockError(.storeUnavailable, "cannot write \(path)") }
            fputs(
                """
                port \(port)
                bind 127.0.0.1
                dir \(self.directory)
                logfile sentinel\(number).log
                sentinel monitor \(Self.name) 127.0.0.1 \(master.port) 2
                sentinel down-after-milliseconds \(Self.name) 500
                sentinel failover-timeout \(Self.name) 3000
                sentinel parallel-syncs \(Self.name) 2

                """,
                file
            )
            fclose(file)
            sentinels.append((try ChildProcess(program, [path, "--sentinel"]), port))
        }
        self.sentinels = sentinels
        let ports = sentinels.map(\.port)
        try await RedisServer.until("the Sentinels know of each other") {
            try ports.allSatisfy { port in
                let facts = try Self.ask(port, "SENTINEL", "MASTER", Self.name)
                return facts.contains("num-slaves\n2\n") && facts.contains("num-other-sentinels\n2\n")
            }
        }
    }

    deinit {
        for sentinel in self.sentinels { sentinel.child.kill() }
        TemporaryDirectory.remove(self.directory)
    }

    /// `redis+sentinel://…/main`.
    public var url: String {
        "redis+sentinel://\(self.sentinels.map { "127.0.0.1:\($0.port)" }.joined(separator: ","))/\(Self.name)"
    }

    /// The server that most Sentinels take for the master; during a failover the old one, until they have announced the
    /// switch.
    ///
    /// - Throws: ``LockError`` when a Sentinel does not answer.
    public func master() throws -> RedisServer? {
        let facts = try self.sentinels.map { try Self.ask($0.port, "SENTINEL", "MASTER", Self.name) }
        return self.servers.first { server in
            facts.count { $0.contains("\nport\n\(server.port)\n") } > facts.count / 2
        }
    }

    /// Stops one of the Sentinels.
    public func killSentinel(_ number: Int) { self.sentinels[number].child.kill() }

    private static func ask(_ port: UInt16, _ command: String...) throws -> String {
        try RedisServer.execute(command, port: port)
    }
}
