// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// Three or more real ZooKeeper servers for tests of faults; see ``ZooKeeperServer``.
public final class ZooKeeperEnsemble: Sendable {
    /// The servers.
    public let servers: [ZooKeeperServer]
    private let proxies: [FaultProxy]

    /// Starts servers and waits until they have a leader.
    ///
    /// - Parameter members: How many.
    /// - Throws: ``LockError`` when a program is missing or the servers do not come up.
    public convenience init(members: Int = 3) async throws { try await self.init(members: members, lagging: nil) }

    /// Starts servers, the first of which hears from the others, and they from it, so much later; and which may let
    /// clients read while they have no majority.
    package init(members: Int = 3, lagging delay: Duration?, readsAlone: Bool = false) async throws {
        let ports = try (0..<3 * members).map { _ in try LoopbackSocket.freePort() }
        let lines = (0..<members).map { number in
            "server.\(number + 1)=127.0.0.1:\(ports[members + 2 * number]):\(ports[members + 1 + 2 * number])"
        }
        // Of two that begin together the one with the higher number leads, so that the first follows.
        let proxies = try delay.map { delay in
            try (1..<members).map { number in
                let proxy = try FaultProxy(to: ports[members + 2 * number], isFramed: false)
                proxy.slow(by: delay...delay)
                return proxy
            }
        }
        let slowLines = proxies.map { proxies in
            lines[..<1]
                + (1..<members).map { number in
                    let (data, election) = (proxies[number - 1].port, ports[members + 1 + 2 * number])
                    return "server.\(number + 1)=127.0.0.1:\(data):\(election)"
                }
        }
        self.proxies = proxies ?? []
        self.servers = try (0..<members).map { number in
            let known = number == 0 ? slowLines.map(Array.init) ?? lines : lines
            return try ZooKeeperServer(
                port: ports[number],
                member: ZooKeeperServer.Member(id: number + 1, servers: known, readsAlone: readsAlone)
            )
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
