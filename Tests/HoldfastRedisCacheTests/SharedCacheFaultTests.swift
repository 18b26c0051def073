// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCache
import HoldfastCore
import HoldfastRedis
import HoldfastRedisCache
import HoldfastTesting
import Synchronization
import Testing

/// Caches, locks and bus on one real server that fails.
@Suite("Faults of a shared cache", .timeLimit(.minutes(2)))
struct SharedCacheFaultTests {
    private typealias Texts = SharedCache<String, String>

    /// Runs services with a cache each, as if each were a process.
    private func withCaches(
        _ count: Int,
        url: String,
        channel: String = Make.channel(),
        _ body: @escaping @Sendable ([Texts]) async throws -> Void
    ) async throws {
        let locks = try (0..<count).map { _ in try LockService(store: RedisLockStore(url: url)) }
        let services = try locks.map { locks in
            let redis = try RedisCacheConnection(url: url, channel: channel)
            return try CacheService(tier: RedisCacheTier(redis), bus: RedisCacheBus(redis), locks: locks)
        }
        let caches = try services.map { service in
            try service.sharedCache("faults", of: String.self, keyedBy: String.self) {
                $0.options.timeToLive = .seconds(600)
            }
        }
        try await withThrowingTaskGroup(of: Bool.self) { group in
            for one in locks {
                group.addTask {
                    try await one.run()
                    return false
                }
            }
            for one in services {
                group.addTask {
                    try await one.run()
                    return false
                }
            }
            group.addTask {
                try await eventually("no news come") { services.allSatisfy(\.isListening) }
                try await body(caches)
                return true
            }
            defer { group.cancelAll() }
            while try await group.next() == false {}
        }
    }

    @Test
    func `news that were cut off are made up for: nothing old is given once they come again`() async throws {
        let server = try await RedisServer()
        try await self.withCaches(3, url: server.url + "?timeout=5s") { caches in
            for round in 1...10 {
                let key = "k\(round % 3)"
                for cache in caches { #expect(try await cache.value(for: key) { "old" } == "old") }
                try server.execute("CLIENT", "KILL", "TYPE", "pubsub")
                // The message goes to whoever is subscribed at that moment: perhaps nobody.
                try await caches[0].set("new", for: key)
                for cache in caches {
                    try await eventually("it gives what was replaced", within: .seconds(5)) {
                        try await cache.value(for: key) { "other" } == "new"
                    }
                }
                try await caches[round % 3].remove(key)
                for cache in caches {
                    try await eventually("it gives what was removed", within: .seconds(5)) {
                        try await cache.value(for: key) { "old" } == "old"
                    }
                }
            }
        }
    }

    @Test
    func `a server that hangs or is gone costs a few loads its timeout, and then none`() async throws {
        let server = try await RedisServer()
        try await self.withCaches(1, url: server.url + "?timeout=300ms") { caches in
            let cache = caches[0]
            #expect(try await cache.value(for: "before") { "1" } == "1")
            for isGone in [false, true] {
                if isGone { server.kill() } else { server.pause() }
                let start = ContinuousClock.now
                for number in 0..<50 {
                    #expect(try await cache.value(for: "\(isGone) \(number)") { "v" } == "v")
                }
                // Three calls of each kind, one after the other, and what probes cost; without breakers it would be 45 s.
                #expect(start.duration(to: .now) < .seconds(12))
                // What is only doubted, since no news come, is given and not loaded.
                #expect(try await cache.value(for: "before") { "2" } == "1")
                if isGone { try await server.start() } else { server.resume() }
                try await eventually("it does not come back") {
                    let text = "after \(isGone) \(UInt64.random(in: 0...UInt64.max))"
                    _ = try await cache.value(for: text) { "v" }
                    return try server.execute("EXISTS", "hfc:faults:\(text)").contains("1")
                }
            }
            #expect(cache.statistics().unlockedFills > 0 && cache.statistics().tierFailures > 0)
        }
    }

    @Test
    func `the least user of locks and caches together is enough for a shared cache`() async throws {
        let server = try await RedisServer()
        // Each begins with taking everything away.
        let locks = RedisPermissions.rules(prefix: "").filter { !$0.hasPrefix("reset") && $0 != "-@all" }
        let rules = RedisCachePermissions.rules() + locks
        try server.execute(["ACL", "SETUSER", "cache", "reset", "on", ">secret"] + rules)
        let url = "redis://cache:secret@127.0.0.1:\(server.port)?timeout=5s"
        try await self.withCaches(2, url: url, channel: RedisCacheConnection.defaultChannel) { caches in
            #expect(try await caches[0].value(for: "k") { "1" } == "1")
            #expect(try await caches[1].value(for: "k") { "2" } == "1")
            try await caches[1].remove("k")
            try await eventually("news do not come") { caches[0].cached("k") == nil }
            try await caches[0].invalidate(tag: "t")
        }
        #expect(try server.execute("ACL", "LOG") == "")
    }
}
