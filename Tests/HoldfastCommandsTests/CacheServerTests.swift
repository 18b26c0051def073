// SPDX-License-Identifier: Apache-2.0

import Glibc
import HoldfastCache
import HoldfastCommands
import HoldfastRedis
import HoldfastRedisCache
import HoldfastTesting
import Testing

/// `holdfast cache` on servers of all kinds, with few permissions, and what it says of them.
@Suite("Servers of a cache on the command line", .timeLimit(.minutes(5)))
struct CacheServerTests {
    /// What every kind of server can do.
    private static func works(_ stage: CacheStage, _ url: String) async throws {
        func run(_ arguments: String...) async throws -> HoldfastProcess.Result {
            try await stage.run(arguments, variables: ["HOLDFAST_STORE": url + "?timeout=20s"])
        }
        for key in 0..<20 {
            let set = try await run("set", "c", "k\(key)", "\(key)", "--tag", "t\(key % 2)", "--ttl", "1h")
            #expect(set.status == 0, "\(set.errors)")
        }
        #expect(try await run("get", "c", "k7").output == "7\n")
        let list = try await run("ls", "c", "--format", "jsonl")
        #expect(list.output.split(separator: "\n").count == 20, "\(list.errors)")
        #expect(try await run("invalidate", "c", "--tag", "t1").status == 0)
        #expect(try await run("get", "c", "k7").status == 1)
        #expect(try await run("get", "c", "k8").output == "8\n")
        #expect(try await run("rm", "c", "k8").status == 0)
        #expect(try await run("explain", "c", "k6").output.contains("A service that asks gets it."))
        let counts = try await run("stats", "c", "--format", "json").output
        #expect(counts.contains(#""name":"c","entries":19,"#), "\(counts)")
        #expect(counts.contains(#""tombstones":1,"marks":1,"#), "\(counts)")
    }

    @Test("commands work on a cluster, and one of its nodes is not taken for the whole")
    func cluster() async throws {
        let stage = try await CacheStage()
        let servers = try await RedisClusterServers(nodeTimeout: .seconds(15))
        try await Self.works(stage, servers.url)
        let node = "redis://127.0.0.1:\(servers.servers[0].port)?timeout=20s"
        for words in [["ls", "c"], ["ls", "none"], ["stats"], ["stats", "c", "--format", "json"]] {
            let result = try await stage.run(words, variables: ["HOLDFAST_STORE": node])
            #expect(result.status == 69 && result.output.isEmpty, "\(words)")
            #expect(result.errors.contains("it is a node of a cluster; write redis+cluster://"), "\(result.errors)")
        }
    }

    @Test("commands work behind Sentinel, and say which server answers")
    func sentinel() async throws {
        let stage = try await CacheStage()
        let servers = try await RedisSentinelServers()
        try await Self.works(stage, servers.url)
        let master = try #require(try servers.master())
        func run(_ url: String) async throws -> HoldfastProcess.Result {
            try await stage.run("stats", "--format", "json", variables: ["HOLDFAST_STORE": url])
        }
        let stats = try await run(servers.url + "?timeout=20s")
        #expect(stats.output.contains(#""servers":[{"address":"127.0.0.1:\#(master.port)","#), "\(stats.output)")
        let other = try await run(servers.url.replacing("/main", with: "/other") + "?timeout=1s")
        #expect(other.status == 69 && other.errors.contains("knows a master named other"), "\(other.errors)")
        let stranger = try await run("redis+sentinel://127.0.0.1:\(master.port)/main?timeout=1s")
        #expect(stranger.status == 69 && stranger.errors.contains("is no Sentinel"), "\(stranger.errors)")
        let silent = try await run("redis+sentinel://127.0.0.1:1/main?timeout=1s")
        #expect(silent.status == 69 && silent.errors.contains("the Sentinel does not answer"), "\(silent.errors)")
    }

    @Test(
        "a user who lacks a permission is told which",
        arguments: [
            ("-strlen", ["stats"], "+strlen"), ("-time", ["get", "c", "k"], "+time"),
            ("-get", ["get", "c", "k"], "+get"),
            ("resetchannels", ["set", "c", "k", "1"], "&hfc:bus"), ("resetkeys", ["get", "c", "k"], "~hfc:*"),
            ("-scan", ["ls", "c"], "+scan"),
        ]
    )
    func permissions(rule: String, words: [String], advice: String) async throws {
        let stage = try await CacheStage()
        #expect(try await stage.run("set", "c", "k", "1").status == 0)
        let all = try stage.user(RedisCachePermissions.rules() + ["+strlen"])
        #expect(try await stage.run(words + ["--store-file", all]).status == 0)
        let some = try stage.user(RedisCachePermissions.rules() + ["+strlen", rule])
        let result = try await stage.run(words + ["--store-file", some])
        #expect(result.status == 69 && result.output.isEmpty, "\(result.output)")
        #expect(result.errors.contains("permit \(advice)"), "\(result.errors)")
        #expect(!result.errors.contains("RedisCachePermissions") && !result.errors.contains("proxy"))
    }

    @Test("an entry is explained also to who may not look at locks")
    func explainWithoutLocks() async throws {
        let stage = try await CacheStage()
        #expect(try await stage.run("set", "c", "k", "1", "--ttl", "1h").status == 0)
        let user = try stage.user(RedisCachePermissions.rules())
        let text = try await stage.run("explain", "c", "k", "--store-file", user)
        #expect(text.status == 0 && text.output.contains("A service that asks gets it."), "\(text.errors)")
        #expect(text.output.contains("permit ~cache/* and ~hf:{cache/*"), "\(text.output)")
        #expect(try await stage.run("explain", "c", "none", "--store-file", user).output.contains("or waits for one"))
        let json = try await stage.run("explain", "c", "k", "--format", "json", "--store-file", user).output
        #expect(json.contains(#""given":true"#), "\(json)")
        #expect(json.contains(#""lock":null,"lock_error":"the Redis user"#), "\(json)")
        // That is what it takes.
        let more = try stage.user(RedisCachePermissions.rules() + ["~cache/*", "~hf:{cache/*", "+@all"])
        let seen = try await stage.run("explain", "c", "k", "--format", "json", "--store-file", more).output
        #expect(seen.contains(#""lock":{"resource":"cache/c/k""#) && seen.contains(#""lock_error":null"#), "\(seen)")
    }

    @Test("an entry is explained with its lock also where each answer takes more than a second")
    func explainSlowly() async throws {
        let stage = try await CacheStage()
        #expect(try await stage.run("set", "c", "k", "1").status == 0)
        // Two take turns, so that the server sleeps again after each answer.
        let nap = "while redis-cli -p \(stage.server.port) debug sleep 1.2; do :; done"
        let sleepers = try (0..<2).map {
            try HoldfastProcess(["run", "nap\($0)", "--", "sh", "-c", nap], in: stage.directory)
        }
        try await eventually { sleepers.allSatisfy { $0.output.contains("OK") } }
        let json = try await stage.run("explain", "c", "k", "--format", "json")
        for sleeper in sleepers {
            try await sleeper.signal(SIGTERM)
            _ = await sleeper.end()
        }
        #expect(json.status == 0 && json.output.contains(#""lock_error":null"#), "\(json.output) \(json.errors)")
    }

    @Test("a timeout in the URL is obeyed, also where it is the default of locks")
    func timeouts() async throws {
        func timeout(_ url: String) throws -> Duration {
            let parts = try CacheParts.make(try StoreURL(url), patience: CacheParts.operatorPatience)
            return parts.tier.connection.configuration.timeout
        }
        #expect(try timeout("redis://h") == .seconds(5))
        #expect(try timeout("redis://h?eviction=allow") == .seconds(5))
        #expect(try timeout("redis://h?timeout=1s") == .seconds(1))
        #expect(try timeout("redis://h?eviction=allow&timeout=1000ms") == .seconds(1))
        #expect(try timeout("redis+sentinel://h/main?timeout=50ms") == .milliseconds(50))
        let stage = try await CacheStage()
        for value in ["0", "1ms", "2m"] {
            let result = try await stage.run("get", "c", "k", "--store", "\(stage.server.url)?timeout=\(value)")
            #expect(result.status == 78, "\(value)")
            #expect(result.errors.contains("timeout must be from 10ms to 60s") && !result.errors.contains("replica"))
        }
    }

    @Test("what was expired is said to be stale only if it is")
    func expiry() async throws {
        let stage = try await CacheStage()
        func expire(_ more: String...) async throws -> HoldfastProcess.Result {
            #expect(try await stage.run("set", "c", "k", "1", "--ttl", "1h").status == 0)
            return try await stage.run(["invalidate", "c", "--key", "k", "--expire"] + more)
        }
        let text = try await expire()
        #expect(text.status == 0 && text.output.hasPrefix("removed 'k'"), "\(text.output)")
        #expect(try await stage.run("get", "c", "k").status == 1)
        let json = try await expire("--format", "json").output
        #expect(json.contains(#""outcome":"removed""#) && json.contains(#""mark":1"#), "\(json)")
        try await stage.withCache("greetings") { cache in
            for format in ["table", "json"] {
                try await cache.set("old", for: "de")
                let words = ["invalidate", "greetings", "--key", "de", "--expire", "--format", format]
                let stale = try await stage.run(words).output
                #expect(format == "json" ? stale.contains(#""outcome":"stale""#) : stale == "made 'de' stale\n")
            }
        }
    }

    @Test("damaged marks make a cache invalid until the next invalidation, and are said to be damaged")
    func damage() async throws {
        let stage = try await CacheStage()
        #expect(try await stage.run("set", "c", "k", "1").status == 0)
        _ = try stage.server.execute("SET", "hfc:{c}:m", "garbage")
        let get = try await stage.run("get", "c", "k")
        #expect(get.status == 1 && get.errors.contains("the marks of the cache are damaged"), "\(get.errors)")
        let json = try await stage.run("explain", "c", "k", "--format", "json").output
        #expect(json.contains(#""given":false"#) && json.contains(#""invalidated_by":{"scope":"damage""#), "\(json)")
        #expect(try await stage.run("stats", "c", "--format", "json").output.contains(#""foreign":1"#))
        #expect(try await stage.run("invalidate", "c", "--tag", "t").status == 0)
        #expect(try await stage.run("set", "c", "k", "2", "--tag", "t").status == 0)
        #expect(try await stage.run("get", "c", "k").output == "2\n")
        _ = try stage.server.execute("SET", "hfc:{c}:t:t", "garbage")
        let tagged = try await stage.run("explain", "c", "k")
        #expect(tagged.output.contains("the mark of the tag 't' is damaged, until that is invalidated"))
        #expect(try await stage.run("invalidate", "c", "--tag", "t").status == 0)
        #expect(try await stage.run("set", "c", "k", "3", "--tag", "t").status == 0)
        #expect(try await stage.run("get", "c", "k").output == "3\n")
    }

    @Test("errors are in words for people, and name the help of the subcommand")
    func words() async throws {
        let stage = try await CacheStage()
        let dead = try await stage.run("get", "c", "k", "--store", "redis://127.0.0.1:1?timeout=100ms")
        #expect(dead.errors.contains("Connection refused") && !dead.errors.contains("NIO"), "\(dead.errors)")
        let unknown = try await stage.run("get", "c", "k", "--store", "redis://no.such.host.invalid?timeout=2s")
        #expect(unknown.status == 69 && !unknown.errors.contains("NIO") && !unknown.errors.contains("(error"))
        #expect(try await stage.run("get", "c").errors.contains("(see holdfast cache get --help)"))
        #expect(try await stage.run("nonsense").errors.contains("(see holdfast cache --help)"))
        let error = try await stage.run("get", "c", "k", "--store", "\(stage.server.url)/99").errors
        #expect(error.contains("answered ERR: DB index is out of range"), "\(error)")
    }
}
