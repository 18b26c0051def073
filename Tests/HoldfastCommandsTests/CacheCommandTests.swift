// SPDX-License-Identifier: Apache-2.0

import Glibc
import HoldfastCache
import HoldfastCommands
import HoldfastCore
import HoldfastRedisCache
import HoldfastTesting
import Testing

/// A server, and `holdfast cache` on it.
struct CacheStage: Sendable {
    let server: RedisServer
    let directory: TestDirectory

    init(password: String? = nil) async throws {
        self.server = try await RedisServer(arguments: password.map { ["--requirepass", $0] } ?? [])
        self.directory = try TestDirectory()
    }

    func run(_ arguments: String..., variables: [String: String] = [:]) async throws -> HoldfastProcess.Result {
        try await self.run(arguments, variables: variables)
    }

    func run(_ arguments: [String], variables: [String: String] = [:]) async throws -> HoldfastProcess.Result {
        try await HoldfastProcess.run(
            ["cache"] + arguments,
            in: self.directory,
            variables: ["HOLDFAST_STORE": self.server.url].merging(variables) { $1 }
        )
    }

    /// Runs a command with a file of this text in the place of `@`.
    func run(_ arguments: [String], input: String) async throws -> HoldfastProcess.Result {
        let file = try self.file(input)
        return try await self.run(arguments.map { $0 == "@" ? file : $0 })
    }

    /// A file with a text.
    func file(_ text: String) throws -> String {
        let file = self.directory.fresh("input")
        try SecretFile.write(text, to: file)
        return file
    }

    /// Runs a service beside some work, with a cache that hears what others change.
    func withCache<Result: Sendable>(
        _ name: String,
        _ work: @escaping @Sendable (SharedCache<String, String>) async throws -> Result
    ) async throws -> Result {
        // Others keep the machine busy.
        let redis = try RedisCacheConnection(url: "\(self.server.url)?timeout=20s")
        let caches = try CacheService(tier: RedisCacheTier(redis), bus: RedisCacheBus(redis))
        let cache = try caches.sharedCache(name, of: String.self, keyedBy: String.self) {
            $0.options.timeToLive = .seconds(3600)
            $0.options.staleIfError = .seconds(3600)
            $0.options.tags = ["all-of-them"]
        }
        return try await withCacheService(caches) { caches in
            try await eventually { caches.isListening }
            return try await work(cache)
        }
    }
}

@Suite("Entries of a cache on the command line", .timeLimit(.minutes(5)))
struct CacheCommandTests {
    @Test("a value that was set is got as it was written, with what is known of it")
    func setAndGet() async throws {
        let stage = try await CacheStage()
        let value = #"{"name":"anvil","price":12345678901234567890.10}"#
        let set = try await stage.run("set", "products", "42", " \(value)\n", "--ttl", "5m", "--tag", "shop/7")
        #expect(set.status == 0, "\(set.errors)")
        #expect(try await stage.run("get", "products", "42").output == value + "\n")
        #expect(try await stage.run("get", "products", "42", "--raw").output == value)
        let json = try await stage.run("get", "products", "42", "--format", "json").output
        #expect(json.hasPrefix(#"{"key":"42","state":"fresh","version":"#))
        #expect(json.contains(#""tags":["shop/7"],"size":\#(value.utf8.count),"codec":"json""#))
        #expect(json.contains(#","value":\#(value)}"#))
        let left = try #require(json.firstMatch(of: /"ttl_left_s":([0-9.]+)/)?.output.1)
        // Nothing of it is left to chance: no jitter.
        #expect(try #require(Double(left)) > 290 && Double(left) ?? 0 <= 300)

        let none = try await stage.run("get", "products", "43")
        #expect(none.status == 1 && none.output.isEmpty && none.errors.contains("'43' is not there"))
        let other = try await stage.run("get", "products", "43", "--format", "json")
        #expect(other.status == 1 && other.output.hasPrefix(#"{"key":"43","state":"absent","version":null"#))
    }

    @Test("services read what was set, and what services wrote is read")
    func services() async throws {
        let stage = try await CacheStage()
        try await stage.withCache("greetings") { cache in
            try await cache.set("moin", for: "de")
            #expect(try await stage.run("get", "greetings", "de").output == "\"moin\"\n")
            #expect(try await stage.run("set", "greetings", "en", "hi \"there\"", "--raw").status == 0)
            #expect(try await cache.get("en") == "hi \"there\"")
        }
    }

    @Test("running services drop at once what is set, removed, invalidated or expired")
    func bus() async throws {
        let stage = try await CacheStage()
        try await stage.withCache("greetings") { cache in
            let commands: [(words: [String], after: String?)] = [
                (["set", "greetings", "eu/de", "\"new\""], "new"), (["rm", "greetings", "eu/de"], nil),
                (["invalidate", "greetings", "--key", "eu/de"], nil),
                (["invalidate", "greetings", "--key", "eu/de", "--expire"], nil),
                (["invalidate", "greetings", "--tag", "all-of-them"], nil),
                (["invalidate", "greetings", "--prefix", "eu/"], nil),
                (["invalidate", "greetings", "--all", "--yes"], nil),
            ]
            for (words, after) in commands {
                try await cache.set("old", for: "eu/de")
                #expect(cache.cached("eu/de") == "old")
                let result = try await stage.run(words)
                #expect(result.status == 0, "\(words): \(result.errors)")
                // Without the bus memory would keep it for an hour.
                try await eventually { cache.cached("eu/de") == nil }
                #expect(try await cache.get("eu/de") == after, "\(words)")
            }
        }
    }

    @Test("an expired entry is what a service falls back to")
    func expired() async throws {
        let stage = try await CacheStage()
        try await stage.withCache("greetings") { cache in
            try await cache.set("old", for: "de")
            #expect(try await stage.run("invalidate", "greetings", "--key", "de", "--expire").status == 0)
            try await eventually { cache.cached("de") == nil }
            struct Outage: Error {}
            #expect(try await cache.value(for: "de") { () async throws -> String in throw Outage() } == "old")
            let got = try await stage.run("get", "greetings", "de")
            #expect(got.status == 0 && got.output == "\"old\"\n" && got.errors.contains("stale since"))
            #expect(try await stage.run("explain", "greetings", "de").output.contains("only if that fails"))
        }
        #expect(try await stage.run("invalidate", "greetings", "--key", "none", "--expire").status == 1)
    }

    @Test("why a key is given or not is said")
    func explain() async throws {
        let stage = try await CacheStage()
        func explain(_ key: String) async throws -> String {
            let result = try await stage.run("explain", "products", key)
            #expect(result.status == 0, "\(result.errors)")
            return result.output
        }
        for key in ["eu/1", "eu/2", "us/1", "us/2"] {
            #expect(
                try await stage.run("set", "products", key, "1", "--ttl", "1h", "--tag", "t\(key.last!)").status == 0
            )
        }
        #expect(try await explain("eu/1").contains("is fresh for 59m"))
        #expect(try await explain("eu/1").contains("A service that asks gets it."))
        #expect(try await stage.run("invalidate", "products", "--prefix", "eu/").status == 0)
        #expect(try await explain("eu/1").contains("since the prefix 'eu/' was invalidated"))
        #expect(try await stage.run("invalidate", "products", "--tag", "t1").status == 0)
        #expect(try await explain("us/1").contains("since the tag 't1' was invalidated"))
        #expect(try await explain("us/2").contains("is fresh for"))
        #expect(try await stage.run("rm", "products", "us/2").status == 0)
        let removed = try await explain("us/2")
        #expect(removed.contains("was removed") && removed.contains("is refused for 1h00m more"))
        #expect(try await explain("none").hasPrefix("'none' is not there.\nA service that asks loads it.\n"))
        _ = try stage.server.execute("SET", "hfc:products:foreign", "x")
        #expect(try await explain("foreign").contains("holds something that is not an entry"))
        #expect(try await stage.run("set", "products", "broken", "[1,2]").status == 0)
        _ = try stage.server.execute("SETRANGE", "hfc:products:broken", "80", "#")
        #expect(try await explain("broken").contains("is damaged"))
        #expect(try await stage.run("get", "products", "broken").status == 1)
        #expect(try await stage.run("invalidate", "products", "--all", "--yes").status == 0)
        let json = try await stage.run("explain", "products", "eu/1", "--format", "json").output
        #expect(json.contains(#""given":false"#) && json.contains(#""invalidated_by":{"scope":"all","name":null,"#))
    }

    @Test("who loads a key, and how many wait for it, is said")
    func loading() async throws {
        let stage = try await CacheStage()
        let variables = ["HOLDFAST_STORE": stage.server.url]
        let holder = try HoldfastProcess(
            ["run", "cache/products/42", "--label", "cache fill", "--", "sleep", "20"],
            in: stage.directory,
            variables: variables
        )
        var said = ""
        for _ in 0..<200 where !said.contains("loads it, for") {
            said = try await stage.run("explain", "products", "42").output
        }
        #expect(said.contains("A service that asks waits for the load that is under way."))
        #expect(said.contains("holdfast[") && said.contains("its lease ends in"))
        try await holder.signal(SIGTERM)
        #expect(await holder.end().status == 143)
    }

    @Test("escape sequences of keys, tags and values do not reach the output")
    func escapes() async throws {
        let stage = try await CacheStage()
        let key = "k\u{1B}[2J\u{202E}\u{9B}31m"
        // Written as another language may write it: only what JSON demands is written as a number.
        let value = "\"v\\u001b[2J\u{9B}31m\u{202E}\u{7F}\""
        #expect(try await stage.run("set", "products", key, value, "--tag", "t\u{1B}c\u{9B}").status == 0)
        for arguments in [
            ["get", "products", key], ["get", "products", key, "--format", "json"], ["ls", "products"],
            ["ls", "products", "--format", "json"], ["ls", "products", "--format", "jsonl"],
            ["explain", "products", key], ["explain", "products", key, "--format", "json"],
            ["get", "products", "none\(key)"], ["invalidate", "products", "--tag", "t\u{1B}c\u{9B}"],
            ["get", "products", key], ["explain", "products", key], ["rm", "products", key],
            ["invalidate", "products", "--prefix", key], ["get", "pro\u{1B}[2Jducts", key],
        ] {
            let result = try await stage.run(arguments)
            for scalar in (result.output + result.errors).unicodeScalars where scalar != "\n" {
                #expect(!TerminalText.isUnsafe(scalar), "\(arguments): \(scalar.value)")
            }
        }
        #expect(try await stage.run("set", "products", "k", value).status == 0)
        #expect(try await stage.run("get", "products", "k").output == "\"v\\u001b[2J\\u009b31m\\u202e\\u007f\"\n")
        #expect(try await stage.run("get", "products", "k", "--raw").output == value)
    }

    @Test("ten thousand keys are listed in full or in part, in little memory")
    func manyKeys() async throws {
        let stage = try await CacheStage()
        let redis = try RedisCacheConnection(url: "\(stage.server.url)?timeout=20s")
        let editor = TierEditor(
            try TierInspector(RedisCacheTier(redis), namespace: "many"),
            bus: RedisCacheBus(redis)
        )
        let value = JSONText(string: String(repeating: "x", count: 3000)).bytes
        for start in stride(from: 0, to: 10_000, by: 500) {
            _ = try await editor.write((start..<start + 500).map { TierEditor.Draft(key: "k\($0)", value: value) })
        }
        let table = try await stage.run("ls", "many")
        #expect(table.output.split(separator: "\n").count == 1001)
        #expect(table.errors.contains("there are more than the 1000 shown"))
        let some = try await stage.run("ls", "many", "k99", "--limit", "5", "--format", "json")
        #expect(some.output.matches(of: /"key":"k99/).count == 5)
        #expect(try await stage.run("ls", "many", "k99", "--limit", "0").output.split(separator: "\n").count == 112)
        // The values are 30 MB, and are not held: all of them take little more memory than one page.
        let (page, pageMemory) = try await Self.memory(of: ["--limit", "10"], stage)
        let (all, memory) = try await Self.memory(of: [], stage)
        #expect(page.status == 0 && all.status == 0)
        let keys = all.output.split(separator: "\n").compactMap { $0.firstMatch(of: /^{"key":"(k\d+)"/)?.output.1 }
        #expect(Set(keys).count == 10_000)
        #expect(pageMemory > 0 && memory < pageMemory + 15_000, "\(pageMemory) kB, \(memory) kB")
        #expect(try await stage.run("ls", "none", "--format", "json").output == "[]\n")
        #expect(try await stage.run("ls", "none").errors.contains("there are no entries"))
    }

    /// How much memory a list of many entries takes at most, in kB.
    private static func memory(
        of arguments: [String],
        _ stage: CacheStage
    ) async throws -> (result: HoldfastProcess.Result, peak: Int) {
        let list = try HoldfastProcess(
            ["cache", "ls", "many", "--format", "jsonl"] + arguments,
            in: stage.directory,
            variables: ["HOLDFAST_STORE": stage.server.url]
        )
        let pid = try await list.pid
        var peak = 0
        while isAlive(pid) {
            let status = TestDirectory.proc("/proc/\(pid)/status")
            if let most = status.firstMatch(of: /VmHWM:\s+(\d+) kB/)?.output.1 { peak = max(peak, Int(most) ?? 0) }
            try await Task.sleep(for: .milliseconds(1))
        }
        return (await list.end(), peak)
    }

    @Test("what cannot be done is refused in one line, and changes nothing")
    func refusals() async throws {
        let stage = try await CacheStage()
        #expect(try await stage.run("set", "products", "42", "1").status == 0)
        let long = String(repeating: "k", count: 1025)
        let refusals: [(words: [String], status: Int32)] = [
            (["set", "products", "42", "{\"a\":"], 65), (["set", "products", "42", ""], 65),
            (["set", "products", "42", "1 2"], 65), (["set", "products", "42", "2", "--ttl", "0"], 78),
            (["set", "products", "42", "2", "--ttl", "5"], 64), (["set", "products", "42", "2", "--tag", ""], 78),
            (["set", "products", long, "2"], 78), (["set", "pro ducts", "42", "2"], 78), (["get", "a:b", "42"], 78),
            (["invalidate", "products"], 64), (["invalidate", "products", "--tag", "a", "--key", "42"], 64),
            (["invalidate", "products", "--prefix", ""], 64), (["invalidate", "products", "--all"], 78),
            (["invalidate", "products", "--tag", "a", "--expire"], 64), (["ls", "products", "--limit=-1"], 78),
            (["get", "products", "42", "--store", "sqlite:/tmp/none.db"], 78),
            (["get", "products", "42", "--store", "redis://a,b,c"], 78), (["stats", "a:b"], 78),
            (["get", "products", "42", "--store", "redis://127.0.0.1:1?timeout=100ms"], 69), (["nonsense"], 64),
        ]
        for (words, status) in refusals {
            let result = try await stage.run(words)
            #expect(result.status == status, "\(words): \(result.errors)")
            #expect(result.output.isEmpty && result.errors.split(separator: "\n").count == 1, "\(words)")
        }
        #expect(try await stage.run("get", "products", "42").output == "1\n")
    }

    @Test("no command shows the password of the store")
    func secrets() async throws {
        let canary = "canary-9c21"
        let stage = try await CacheStage(password: canary)
        let address = stage.server.url.dropFirst("redis://".count)
        let commands = [
            ["set", "products", "42", "1"], ["get", "products", "42"], ["get", "products", "42", "--format", "json"],
            ["ls", "products"], ["explain", "products", "42"], ["explain", "products", "42", "--format", "json"],
            ["invalidate", "products", "--tag", "a", "--format", "json"], ["rm", "products", "42"], ["stats"],
            ["stats", "--format", "json"], ["warm", "products", try stage.file(#"{"key":"a","value":1}"#)],
        ]
        let stores = [
            "redis://:\(canary)@\(address)/0", "redis://\(canary):\(canary)x@\(address)/0",
            "redis://:\(canary)@127.0.0.1:1/0?timeout=100ms", "redis://:\(canary)@a,b,c",
        ]
        for (index, store) in stores.enumerated() {
            for arguments in commands {
                let result = try await stage.run(arguments, variables: ["HOLDFAST_STORE": store])
                #expect((result.status == 0) == (index == 0), "\(arguments): \(result.errors)")
                #expect(!(result.output + result.errors).contains(canary), "\(arguments)")
            }
        }
    }
}
