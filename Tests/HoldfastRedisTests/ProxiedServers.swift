// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import HoldfastRedis
import HoldfastTesting
import Testing

/// Servers, each behind a proxy that can misbehave.
struct ProxiedServers {
    let servers: [RedisServer]
    let proxies: [FaultProxy]

    init(_ count: Int) async throws {
        var servers: [RedisServer] = []
        for _ in 0..<count { servers.append(try await RedisServer()) }
        self.servers = servers
        self.proxies = try servers.map { try FaultProxy(to: $0.port, isFramed: false) }
    }

    /// The same servers, on another way.
    init(beside other: ProxiedServers) throws {
        self.servers = other.servers
        self.proxies = try other.servers.map { try FaultProxy(to: $0.port, isFramed: false) }
    }

    /// A store that goes through the proxies: of one server, or of a majority.
    func store(timeout: Duration) throws -> any LockStore { try Self.store(self.proxies.map(\.port), timeout) }

    /// A store that does not.
    func direct(timeout: Duration = .seconds(2)) throws -> any LockStore {
        try Self.store(self.servers.map(\.port), timeout)
    }

    private static func store(_ ports: [UInt16], _ timeout: Duration) throws -> any LockStore {
        let configurations = ports.map { port in
            var configuration = RedisConfiguration(port: Int(port))
            configuration.timeout = timeout
            return configuration
        }
        guard ports.count > 1 else { return try RedisLockStore(configuration: configurations[0]) }
        var configuration = RedisQuorumConfiguration(servers: configurations)
        configuration.restartGuard = nil
        return try RedisQuorumLockStore(configuration: configuration)
    }

    /// Whether a key is on none of the servers.
    func lack(_ key: String) throws -> Bool { try self.servers.allSatisfy { try $0.execute("EXISTS", key) == "0" } }

    /// How many scripts each server has run.
    func scripts() throws -> [Int] {
        try self.servers.map { server in
            let lines = try server.execute("INFO", "commandstats").split(whereSeparator: \.isNewline)
            let calls = lines.filter { $0.hasPrefix("cmdstat_eval:") || $0.hasPrefix("cmdstat_evalsha:") }
            return calls.compactMap { $0.firstMatch(of: /calls=(\d+)/).flatMap { Int($0.output.1) } }.reduce(0, +)
        }
    }

    /// Lets what was held arrive, and waits until each server has run a script more.
    func letArrive() async throws {
        let before = try self.scripts()
        for proxy in self.proxies { proxy.pass() }
        try await eventually("what was held did not arrive") {
            zip(before, try self.scripts()).allSatisfy { $0 < $1 }
        }
    }
}
