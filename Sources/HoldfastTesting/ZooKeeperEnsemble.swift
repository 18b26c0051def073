// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// Three real ZooKeeper servers for tests of faults; see ``ZooKeeperServer``.
public final class ZooKeeperEnsemble: Sendable {
    /// The servers.
    public let servers: [ZooKeeperServer]

    /// Starts three servers and waits until they have a leader.
    ///
    /// - Throws: ``LockError`` when a program is missing or the servers do not come up.
    public init() async throws {
        let ports = try (0..<9).map { _ in try LoopbackSocket.freePort() }
        let lines = (0..<3).map { "server.\($0 + 1)=127.0.0.1:\(ports[3 + 2 * $0]):\(ports[4 + 2 * $0])" }
        self.servers = try (0..<3).map { number in
            try ZooKeeperServer(port: ports[number], member: ZooKeeperServer.Member(id: number + 1, servers: lines))
        }
        for server in self.servers { try server.launch() }
        for server in self.servers { try await server.awaitAnswers() }
    }

    /// The addresses, as a client library wants them.
    public var hosts: String { self.servers.map(\.hosts).joined(separator: ",") }

    /// The URL of the ensemble.
    public var url: String { "zookeeper://\(self.hosts)" }

    /// The server that leads, if one does.
    public var leader: ZooKeeperServer? { self.servers.first { $0.mode == "leader" } }
}
