// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
import HoldfastRedis
import HoldfastRedisCache
import HoldfastTesting
import Synchronization
import Testing

/// One server for all cases of a suite: each has namespaces of its own.
actor SharedRedis {
    static let shared = SharedRedis()

    private var starting: Task<RedisServer, any Error>?

    var server: RedisServer {
        get async throws {
            let task = self.starting ?? Task { try await RedisServer() }
            self.starting = task
            return try await task.value
        }
    }
}

/// A cluster for all cases.
actor SharedCluster {
    static let shared = SharedCluster()

    private var starting: Task<RedisClusterServers, any Error>?

    var servers: RedisClusterServers {
        get async throws {
            let task = self.starting ?? Task { try await RedisClusterServers(nodeTimeout: .seconds(15)) }
            self.starting = task
            return try await task.value
        }
    }
}

/// One master with its replicas for all cases.
actor SharedSentinels {
    static let shared = SharedSentinels()

    private var starting: Task<RedisSentinelServers, any Error>?

    var servers: RedisSentinelServers {
        get async throws {
            let task = self.starting ?? Task { try await RedisSentinelServers() }
            self.starting = task
            return try await task.value
        }
    }
}

/// Says once that something has happened.
final class Flag: Sendable {
    private let state = Atomic(false)

    var isUp: Bool { self.state.load(ordering: .acquiring) }

    func raise() { self.state.store(true, ordering: .releasing) }
}

enum Make {
    static func tier(_ url: String, prefix: String = RedisCacheTier.defaultPrefix) throws -> RedisCacheTier {
        try RedisCacheTier(RedisCacheConnection(url: url), prefix: prefix)
    }

    static func write(
        _ key: String,
        _ text: String = "1",
        life: Duration = .seconds(60),
        if condition: TierWrite.Condition = .always,
        token: UInt64 = 0
    ) -> TierWrite {
        TierWrite(key: key, payload: Array(text.utf8), timeToLive: life, condition: condition, token: token)
    }

    static func channel() -> String {
        var generator = SystemRandomNumberGenerator()
        return "bus-\(generator.next() as UInt64)"
    }
}

extension CacheTier {
    func put(_ write: TierWrite, in namespace: String = "n") async throws -> TierWriteReply {
        try await self.write([write], in: namespace)[0]
    }

    /// What is there; its age apart.
    func get(_ key: String, in namespace: String = "n") async throws -> TierEntry {
        let entry = try await self.read([key], in: namespace).entries[0]
        return TierEntry(payload: entry.payload, version: entry.version)
    }
}

extension TierWriteReply {
    var version: UInt64? { if case .written(let version) = self { version } else { nil } }
}

/// Waits until something holds.
func eventually(_ what: Comment, within limit: Duration = .seconds(20), _ holds: () async throws -> Bool) async throws {
    let end = ContinuousClock.now.advanced(by: limit)
    while ContinuousClock.now < end {
        if try await holds() { return }
        try await Task.sleep(for: .milliseconds(10))
    }
    Issue.record(what)
}

/// Runs buses beside a test.
func running(_ buses: [any CacheBus], _ body: @escaping @Sendable () async throws -> Void) async throws {
    try await withThrowingTaskGroup(of: Bool.self) { group in
        for bus in buses {
            group.addTask {
                try await bus.run()
                return false
            }
        }
        group.addTask {
            try await body()
            return true
        }
        defer { group.cancelAll() }
        while try await group.next() == false {}
    }
}
