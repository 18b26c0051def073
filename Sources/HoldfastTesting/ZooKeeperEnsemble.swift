// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// Three or more real ZooKeeper servers for tests of faults; see ``ZooKeeperServer``.
public final class ZooKeeperEnsemble: Sendable {
    /// The servers.
    public let servers: [ZooKeeperServer]
    private let ways: [Way]

    /// How one server reaches another.
    private struct Way: Sendable {
        let from: Int
        let to: Int
        let data: FaultProxy?
        let election: FaultProxy?
    }

    /// What is between the servers.
    package enum Network: Sendable {
        case plain
        /// The first server hears from the others, and they from it, so much later.
        case lagging(Duration)
        /// Any server can be cut off from the others; see ``ZooKeeperEnsemble/cutOff(_:)``.
        case severable
    }

    /// Starts servers and waits until they have a leader.
    ///
    /// - Parameter members: How many.
    /// - Throws: ``LockError`` when a program is missing or the servers do not come up.
    public convenience init(members: Int = 3) async throws { try await self.init(members: members, .plain) }

    /// Starts servers with a network of which something is known, and which may let clients read while they have no
    /// majority.
    package init(members: Int = 3, _ network: Network, readsAlone: Bool = false) async throws {
        let ports = try (0..<members).map { _ in
            (
                client: try LoopbackSocket.freePort(), data: try LoopbackSocket.freePort(),
                election: try LoopbackSocket.freePort()
            )
        }
        let ways = try (0..<members).flatMap { from in
            try (0..<members).map { to in
                try Self.way(from, to, network, data: ports[to].data, election: ports[to].election)
            }
        }
        self.ways = ways
        // The server with the higher number connects to the other, where that says it is reached.
        for way in ways where way.from < way.to {
            guard let back = ways.first(where: { $0.from == way.to && $0.to == way.from })?.election else { continue }
            way.election?.replace("127.0.0.1:\(ports[way.from].election)", by: "127.0.0.1:\(back.port)")
        }
        self.servers = try (0..<members).map { number in
            let known = ways.filter { $0.from == number }.map { way in
                let (data, election) = (
                    way.data?.port ?? ports[way.to].data, way.election?.port ?? ports[way.to].election
                )
                return "server.\(way.to + 1)=127.0.0.1:\(data):\(election)"
            }
            var member = ZooKeeperServer.Member(id: number + 1, servers: known, readsAlone: readsAlone)
            if case .severable = network { member.patience = 8 }
            return try ZooKeeperServer(port: ports[number].client, member: member)
        }
        for server in self.servers { try server.launch() }
        for server in self.servers { try await server.awaitAnswers() }
    }

    private static func way(_ from: Int, _ to: Int, _ network: Network, data: UInt16, election: UInt16) throws -> Way {
        guard from != to else { return Way(from: from, to: to, data: nil, election: nil) }
        switch network {
        case .plain: return Way(from: from, to: to, data: nil, election: nil)
        case .lagging(let delay):
            // Of two that begin together the one with the higher number leads, so that the first follows.
            guard from == 0 else { return Way(from: from, to: to, data: nil, election: nil) }
            let proxy = try FaultProxy(to: data, isFramed: false)
            proxy.slow(by: delay...delay)
            return Way(from: from, to: to, data: proxy, election: nil)
        case .severable:
            return Way(
                from: from,
                to: to,
                data: try FaultProxy(to: data, isFramed: false),
                election: try FaultProxy(to: election, isFramed: false)
            )
        }
    }

    /// Lets nothing through between a server and the others, either way, while its clients still reach it; only in a
    /// network that is ``Network/severable``.
    package func cutOff(_ server: ZooKeeperServer) {
        for way in self.ways where self.servers[way.from] === server || self.servers[way.to] === server {
            way.data?.hold()
            way.election?.hold()
        }
    }

    /// Ends what ``cutOff(_:)`` began.
    package func reunite() {
        for way in self.ways {
            way.data?.pass()
            way.election?.pass()
        }
    }

    /// The addresses, as a client library wants them.
    public var hosts: String { self.servers.map(\.hosts).joined(separator: ",") }

    /// The URL of the ensemble.
    public var url: String { "zookeeper://\(self.hosts)" }

    /// The server that leads, if one does.
    public var leader: ZooKeeperServer? { self.servers.first { $0.mode == "leader" } }
}
