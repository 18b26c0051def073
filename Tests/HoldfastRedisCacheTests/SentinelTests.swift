// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
import HoldfastRedis
import HoldfastRedisCache
import HoldfastTesting
import Testing

@Suite("A cache behind Sentinel", .timeLimit(.minutes(5)))
struct SentinelCacheTests {
    @Test
    func `after a failover tier and bus go on with the new master, and versions with it`() async throws {
        let servers = try await RedisSentinelServers()
        let connection = try RedisCacheConnection(url: servers.url + "?timeout=2s")
        let (tier, bus) = (try RedisCacheTier(connection), RedisCacheBus(connection))
        let first = try #require(try await tier.put(Make.write("k", "1")).version)
        let mark = try await tier.invalidate(.all, in: "n", keepFor: .seconds(60))
        let old = try #require(try servers.master())
        try await eventually("the replicas do not follow") {
            try servers.servers.allSatisfy { try $0.execute("EXISTS", "hfc:n:k", "hfc:{n}:m") == "2" }
        }
        let log = BusLog(bus)
        try await running([bus]) {
            try await log.wait("for messages") { $0 == [.listening] }
            old.kill()
            try await log.wait("the end") { $0.contains(.interrupted) }
            try await log.wait("the new master") { $0.last == .listening }
            try await eventually("it does not work again") {
                (try? await tier.get("k").payload) == Array("1".utf8)
            }
            let second = try #require(try await tier.put(Make.write("k", "2", if: .version(first))).version)
            #expect(second > first)
            #expect(try await tier.invalidate(.all, in: "n", keepFor: .seconds(60)) > mark)
            try await bus.publish([1])
            try await log.wait("a message") { $0.last == .message([1]) }
        }
    }
}
