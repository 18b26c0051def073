// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
import HoldfastRedis
import HoldfastRedisCache
import HoldfastTesting
import Testing

/// What servers permit, what configurations may say, and what callers are told.
@Suite("Permissions and refusals of a cache", .timeLimit(.minutes(5)))
struct RefusalTests {
    private static let password = "canary-password"

    private func server(_ rules: [String]) async throws -> RedisServer {
        let server = try await RedisServer()
        #expect(try server.execute(["ACL", "SETUSER", "cache", "on", ">\(Self.password)"] + rules) == "OK", "\(rules)")
        try server.execute("ACL", "LOG", "RESET")
        return server
    }

    private func url(_ server: RedisServer) -> String {
        "redis://cache:\(Self.password)@127.0.0.1:\(server.port)?timeout=5s"
    }

    @Test(arguments: ["hfc:", "odd*[x]^-:"])
    func `the least permissions suffice for all that tier and bus do, and nothing else is asked for`(
        prefix: String
    ) async throws {
        let channel = "odd*[x]:bus"
        let server = try await self.server(RedisCachePermissions.rules(prefix: prefix, channel: channel))
        let url = self.url(server)
        for promise in TierContract.cases {
            try await promise.check(
                TierContract.Subject(shortLife: .seconds(2)) { try Make.tier(url, prefix: prefix) }
            )
        }
        for promise in TierContract.busCases {
            try await promise.check { RedisCacheBus(try RedisCacheConnection(url: url, channel: channel)) }
        }
        try await Make.tier(url, prefix: prefix).run()
        #expect(try server.execute("ACL", "LOG") == "", "something was refused")
        // What is not ours stays out of reach.
        for command in [
            ["GET", "other"], ["SET", "\(prefix.prefix(3))", "1"], ["FLUSHALL"], ["PUBLISH", "other", "1"],
        ] {
            #expect(try server.execute(["ACL", "DRYRUN", "cache"] + command) != "OK", "\(command)")
        }
        #expect(try server.execute("ACL", "DRYRUN", "cache", "GET", "\(prefix)n:k") == "OK")
    }

    @Test(arguments: [
        ("-evalsha", "+evalsha"), ("-set", "ACL LOG"), ("-getrange", "ACL LOG"), ("resetkeys", "~hfc:*"),
        ("-time", "ACL LOG"),
    ])
    func `a permission that lacks is named`(rule: String, advice: String) async throws {
        let server = try await self.server(RedisCachePermissions.rules() + [rule])
        let tier = try Make.tier(self.url(server))
        let error = await #expect(throws: CacheError.self) { try await tier.put(Make.write("k")) }
        #expect(error?.code == .tierRefused, "\(error as Any)")
        #expect(error?.message.contains(advice) == true, "\(error?.message ?? "")")
        #expect(error?.message.contains("RedisCachePermissions") == true)
        #expect(error?.message.contains(Self.password) == false)
        #expect(try server.execute("EXISTS", "hfc:n:k") == "0")
    }

    @Test
    func `a reader without a permission is told, not that nothing is there`() async throws {
        for (rule, advice) in [
            ("-getrange", "+getrange"), ("resetkeys", "~hfc:*"), ("-get", "+get"), ("-time", "+time"),
        ] {
            let server = try await self.server(RedisCachePermissions.rules() + [rule])
            let tier = try Make.tier(self.url(server))
            let error = await #expect(throws: CacheError.self) { try await tier.get("k") }
            #expect(error?.code == .tierRefused && error?.message.contains(advice) == true, "\(error as Any)")
        }
    }

    @Test
    func `a bus whose user may not listen ends, and says what is needed`() async throws {
        for (rule, advice) in [("-subscribe", "+subscribe"), ("resetchannels", "&hfc:bus")] {
            let server = try await self.server(RedisCachePermissions.rules() + [rule])
            let bus = RedisCacheBus(try RedisCacheConnection(url: self.url(server)))
            let error = await #expect(throws: CacheError.self) { try await bus.run() }
            #expect(error?.code == .tierRefused && error?.message.contains(advice) == true, "\(error as Any)")
        }
        let server = try await self.server(RedisCachePermissions.rules() + ["resetchannels"])
        let bus = RedisCacheBus(try RedisCacheConnection(url: self.url(server)))
        let error = await #expect(throws: CacheError.self) { try await bus.publish([1]) }
        #expect(error?.code == .tierRefused && error?.message.contains("&hfc:bus") == true, "\(error as Any)")
    }

    @Test
    func `a wrong password ends both, and is not in the error`() async throws {
        let server = try await self.server(RedisCachePermissions.rules())
        let connection = try RedisCacheConnection(url: "redis://cache:wrong-canary@127.0.0.1:\(server.port)")
        let tier = try RedisCacheTier(connection)
        for call in [{ try await tier.run() }, { try await RedisCacheBus(connection).run() }] {
            let error = await #expect(throws: CacheError.self) { try await call() }
            #expect(error?.code == .tierRefused && error?.message.contains("canary") == false, "\(error as Any)")
        }
    }

    @Test
    func `a server that may evict is refused unless that is accepted`() async throws {
        let server = try await RedisServer(arguments: ["--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"])
        let tier = try Make.tier(server.url)
        let error = await #expect(throws: CacheError.self) { try await tier.put(Make.write("k")) }
        #expect(error?.code == .tierRefused, "\(error as Any)")
        #expect(error?.message.contains("eviction=allow") == true && error?.message.contains("invalidations") == true)
        #expect(try await Make.tier(server.url + "?eviction=allow").put(Make.write("k")).version != nil)
    }

    @Test
    func `a full server refuses writes and says so`() async throws {
        let server = try await RedisServer(arguments: ["--maxmemory-policy", "noeviction"])
        let tier = try Make.tier(server.url)
        _ = try await tier.put(Make.write("k"))
        try server.execute("CONFIG", "SET", "maxmemory", "1")
        let error = await #expect(throws: CacheError.self) { try await tier.put(Make.write("k", "2")) }
        #expect(error?.code == .tierRefused && error?.message.contains("OOM") == true, "\(error as Any)")
        #expect(try await tier.get("k").payload == Array("1".utf8))
    }

    @Test
    func `what cannot be used is said before anything is sent`() async throws {
        let quorum = #expect(throws: CacheError.self) { try RedisCacheConnection(url: "redis://u:canary@a,b,c") }
        #expect(quorum?.code == .invalidArgument && quorum?.message.contains("majority") == true)
        for url in ["http://a", "redis://a:x", "redis://a?timeout=1h", "redis://a/x", "nonsense"] {
            let error = #expect(throws: CacheError.self) { try RedisCacheConnection(url: url) }
            #expect(error?.code == .invalidArgument, "\(url): \(error as Any)")
        }
        var configuration = RedisConfiguration()
        configuration.timeout = .zero
        #expect(throws: CacheError.self) { try RedisCacheTier(configuration: configuration) }
        #expect(throws: CacheError.self) { try RedisCacheBus(configuration: RedisConfiguration(), channel: "") }
        for prefix in ["{", "a}", String(repeating: "p", count: 129)] {
            let error = #expect(throws: CacheError.self) {
                try RedisCacheTier(configuration: RedisConfiguration(), prefix: prefix)
            }
            #expect(error?.code == .invalidArgument)
        }
    }
}
