// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
import HoldfastCore
import HoldfastRedis
import HoldfastRedisCache
import HoldfastTesting
import Testing

/// What lies on the server, and what others have put there.
@Suite("Layout of a cache on Redis", .timeLimit(.minutes(5)))
struct LayoutTests {
    /// A tier, and a way to ask the server that has a key.
    struct Bench: Sendable {
        let tier: RedisCacheTier
        let ask: @Sendable (String, [String]) throws -> String

        static func single() async throws -> Bench {
            let server = try await RedisServer()
            return Bench(tier: try Make.tier(server.url + "?timeout=5s")) { _, command in try server.execute(command) }
        }

        static func cluster() async throws -> Bench {
            let servers = try await SharedCluster.shared.servers
            var generator = SystemRandomNumberGenerator()
            let prefix = "l\(generator.next() as UInt32):"
            return Bench(tier: try Make.tier(servers.url + "?timeout=5s", prefix: prefix)) { key, command in
                try #require(try servers.owner(of: key)).execute(command)
            }
        }

        func at(_ key: String) -> String { self.tier.prefix + key }
    }

    @Test
    func `what redis-cli shows is what the page of the architecture says`() async throws {
        let bench = try await Bench.single()
        let version = try #require(try await bench.tier.put(Make.write("k", "envelope", token: 42)).version)
        let digits = String(version)
        #expect(digits.count == 16)
        let token = "00000000000000000042"
        let entry = Self.sealed("HFC2V \(digits) \(token) \(digits)") + "envelope"
        #expect(try bench.ask("", ["GET", "hfc:n:k"]) == entry)
        let life = try #require(Int(try bench.ask("", ["PTTL", "hfc:n:k"])))
        #expect((55_000...60_000).contains(life))

        let removed = try await bench.tier.remove(["k"], in: "n", keepFor: .seconds(30))[0]
        let tombstone = Self.sealed("HFC2T \(removed) 00000000000000000000 \(removed)")
        #expect(try bench.ask("", ["GET", "hfc:n:k"]) == tombstone)
        let last = try #require(try await bench.tier.put(Make.write("k", "e", life: .seconds(9), token: 42)).version)
        let ending = try bench.ask("", ["GET", "hfc:n:k"])
        #expect(ending.hasPrefix("HFC2G \(last) \(token) \(last) "))
        #expect(ending.hasSuffix("\ne") && ending.utf8.count == 88)
        #expect(try #require(Int(try bench.ask("", ["PTTL", "hfc:n:k"]))) > 20_000)

        let tag = try await bench.tier.invalidate(.tag("t"), in: "a:b{c}%", keepFor: .seconds(60))
        #expect(try bench.ask("", ["GET", "hfc:{a%3Ab%7Bc%7D%25}:t:t"]) == "\(tag)")
        let all = try await bench.tier.invalidate(.all, in: "a:b{c}%", keepFor: .seconds(60))
        let prefix = try await bench.tier.invalidate(.prefix("users/"), in: "a:b{c}%", keepFor: .seconds(60))
        let marks = try bench.ask("", ["GET", "hfc:{a%3Ab%7Bc%7D%25}:m"])
        #expect(marks.hasPrefix("HFC1M \(prefix) \(all)\n\(prefix) "))
        #expect(marks.hasSuffix(" 0006 users/\n"))
        // Nothing stays for ever.
        for key in try bench.ask("", ["KEYS", "*"]).split(separator: "\n") {
            #expect(try #require(Int(try bench.ask("", ["PTTL", String(key)]))) > 0, "\(key)")
        }
    }

    /// A head with its checksum.
    private static func sealed(_ head: String) -> String { "\(head) \(SHA1.hex(head).prefix(8))\n" }

    @Test
    func `a head of which any single bit changed is no entry, for readers and for writers (C3)`() async throws {
        let bench = try await Bench.single()
        let version = try #require(try await bench.tier.put(Make.write("k", "envelope", token: 42)).version)
        let bits = 8 * Self.sealed("HFC2V \(version) 00000000000000000042 \(version)").utf8.count
        let flip = """
            local value = redis.call('GET', KEYS[1])
            for number = 0, tonumber(ARGV[1]) - 1 do
              local at = math.floor(number / 8) + 1
              local byte = bit.bxor(string.byte(value, at), bit.lshift(1, number % 8))
              local damaged = string.sub(value, 1, at - 1) .. string.char(byte) .. string.sub(value, at + 1)
              redis.call('SET', KEYS[1] .. number, damaged, 'PX', 60000)
            end
            """
        _ = try bench.ask("", ["EVAL", flip, "1", "hfc:n:k", String(bits)])
        let keys = (0..<bits).map { "k\($0)" }
        for start in stride(from: 0, to: bits, by: CacheLimits.maximumBatch) {
            let some = Array(keys[start..<min(bits, start + CacheLimits.maximumBatch)])
            let entries = try await bench.tier.read(some, in: "n").entries
            let writes = some.map { Make.write($0, "late", if: .version(version), token: 43) }
            for ((key, entry), reply) in zip(zip(some, entries), try await bench.tier.write(writes, in: "n")) {
                #expect(entry == .absent, "bit \(key)")
                #expect(reply == .refused(version: 0), "bit \(key)")
            }
        }
        #expect(try await bench.tier.get("k").payload == Array("envelope".utf8))
    }

    @Test
    func `what is not ours reads as absent, also in a batch, and is overwritten only where that is said`() async throws
    {
        try await Self.leavesOthersAlone(try await .single())
    }

    static func leavesOthersAlone(_ bench: Bench) async throws {
        let (version, token) = ("0000000000000009", "00000000000000000007")
        let heads = [
            "HFC2V", "HFC2V \(version) \(token)", "HFC2X \(version) \(token) \(version)",
            "HFC1V \(version) \(token) \(version)", "HFC2V 000000000000000x \(token) \(version)",
            "HFC2V \(version) 0000000000000000000x \(version)", "HFC2V \(version) \(token) 000000000000000x",
            "HFC2V 9999999999999999 \(token) \(version)", "HFC2G \(version) \(token) \(version)",
            "HFC2G \(version) \(token) \(version) 000000000000000x",
        ]
        let seal = String(Self.sealed("HFC2V \(version) \(token) \(version)").suffix(9).dropLast())
        let unsealed = [
            "", " ", " \(seal)", " \(seal.uppercased())x", " \(seal)0", " \(seal.dropLast())", " 00000000", "  \(seal)",
        ]
        let foreign: [[String]] =
            heads.map { ["SET", Self.sealed($0) + "x"] }
            + unsealed.map { ["SET", "HFC2V \(version) \(token) \(version)\($0)\nx"] }.filter {
                $0[1] != Self.sealed("HFC2V \(version) \(token) \(version)") + "x"
            } + [
                ["SET", "plain text"], ["SET", "HFC2V \(version) \(token) \(version)"], ["SET", "\0\0\0\0"],
                ["LPUSH", "a"], ["HSET", "a", "b"], ["SADD", "a"], ["ZADD", "1", "a"], ["XADD", "*", "a", "b"],
            ]
        func key(_ number: Int) -> String { "foreign \(number)" }
        func place(_ number: Int) -> String { bench.at("n:\(key(number))") }
        func plant(_ number: Int) throws {
            _ = try bench.ask(place(number), ["DEL", place(number)])
            let command = foreign[number]
            let reply = try bench.ask(place(number), [command[0], place(number)] + command.dropFirst())
            #expect(!reply.hasPrefix("ERR"), "\(command)")
        }
        _ = try await bench.tier.put(Make.write("ours", "1"))
        for number in foreign.indices { try plant(number) }
        let keys = foreign.indices.map(key) + ["ours", "none"]
        let entries = try await bench.tier.read(keys, in: "n").entries
        for number in foreign.indices { #expect(entries[number] == .absent, "\(foreign[number])") }
        #expect(entries[foreign.count].payload == Array("1".utf8))
        #expect(entries[foreign.count + 1] == .absent)
        // An operator's list has entries only.
        var listed: [String] = []
        var cursor: String?
        repeat {
            let page = try await bench.tier.keys(in: "n", prefix: "", after: cursor)
            listed += page.keys
            cursor = page.next
        } while cursor != nil
        #expect(listed == ["ours"])

        // Nothing is at risk of a writer who saw something of ours.
        let before = try foreign.indices.map { try bench.ask(place($0), ["TYPE", place($0)]) }
        let writes = foreign.indices.map { Make.write(key($0), "stale", if: .version(9)) }
        let refused = try await bench.tier.write(writes, in: "n")
        #expect(refused == foreign.map { _ in .refused(version: 0) })
        #expect(try foreign.indices.map { try bench.ask(place($0), ["TYPE", place($0)]) } == before)
        for condition in [.version(0), .always] as [TierWrite.Condition] {
            for number in foreign.indices { try plant(number) }
            let replies = try await bench.tier.write(
                foreign.indices.map { Make.write(key($0), "new", if: condition) },
                in: "n"
            )
            for (number, reply) in replies.enumerated() { #expect(reply.version != nil, "\(foreign[number])") }
            let entries = try await bench.tier.read(keys, in: "n").entries
            #expect(entries.dropLast(2).allSatisfy { $0.payload == Array("new".utf8) })
        }
        for number in foreign.indices { try plant(number) }
        let versions = try await bench.tier.remove(foreign.indices.map(key), in: "n", keepFor: .seconds(60))
        #expect(try await bench.tier.read(keys, in: "n").entries.dropLast(2).map(\.version) == versions)
    }

    @Test
    func `marks that cannot be read make everything invalid, and invalidations make new ones`() async throws {
        try await Self.doubtsMarks(try await .single())
        try await Self.doubtsTags(try await .single())
    }

    /// What there is for a key when everything else is well.
    private static func envelope(_ key: String, under mark: UInt64, tags: [String] = []) -> [UInt8] {
        var envelope = Envelope(codec: 1)
        (envelope.mark, envelope.tags, envelope.payload) = (mark, tags, [0x31])
        return envelope.encoded(for: key, in: "n")
    }

    /// Whether an entry is valid, by what an operator sees and by what services go by.
    private static func isValid(_ key: String, _ bench: Bench) async throws -> Bool {
        let seen = try await TierInspector(bench.tier, namespace: "n").inspect([key])[0]
        let reading = try await bench.tier.read([key], in: "n")
        guard case .entry(let envelope, _) = seen.content else { return false }
        let tags = try await bench.tier.marks(of: envelope.tags, in: "n")
        let isAdmitted =
            reading.marks.admits(key, since: envelope.mark) && tags.allSatisfy { envelope.mark >= $0 }
        #expect(isAdmitted == (seen.valid != nil))
        return isAdmitted
    }

    static func doubtsMarks(_ bench: Bench) async throws {
        let key = bench.at("{n}:m")
        let (some, more) = ("1763914407000000", "1763914407000001")
        let foreign: [[String]] = [
            ["SET", "text"], ["SET", ""], ["SET", "HFC1M x"], ["LPUSH", "a"], ["HSET", "a", "b"],
            // Cut off, or with a bit that is another.
            ["SET", "HFC1M \(more) \(some)"], ["SET", "HFC1M \(more)x\(some)\n"], ["SET", "HFC1M \(some) \(more)\n"],
            ["SET", "HFC1M \(more) \(some)\nx"], ["SET", "HFC1M \(more) \(some)\n\(some) \(some) 0006 users"],
            ["SET", "HFC1M \(more) \(some)\n\(some) \(some) 0003 users/\n"],
            ["SET", "HFC1M \(more) \(some)\n9763914407000000 \(some) 0006 users/\n"],
            ["SET", "HFC1M \(more) \(some)\n\(some) \(some) 00x6 users/\n"],
            ["SET", "HFC1M 9763914407000000 \(some)\n"], ["SET", "HFC1M 9007199254740990 \(some)\n"],
            ["SET", "HFC1M 9007199254740991 9007199254740991\n"],
        ]
        for (number, command) in foreign.enumerated() {
            let scope: InvalidationScope = [.tag("t"), .prefix("other/"), .all][number % 3]
            _ = try bench.ask(key, ["DEL", key])
            let before = try await bench.tier.invalidate(.all, in: "n", keepFor: .seconds(60))
            func put(_ name: String, under mark: UInt64) async throws {
                let write = TierWrite(key: name, payload: envelope(name, under: mark), timeToLive: .seconds(60))
                _ = try await bench.tier.write([write], in: "n")
            }
            try await put("old", under: before - 1)
            try await put("new", under: before)
            #expect(try await Self.isValid("new", bench))
            _ = try bench.ask(key, ["DEL", key])
            _ = try bench.ask(key, [command[0], key] + command.dropFirst())
            let marks = try await bench.tier.read([], in: "n").marks
            #expect(marks == TierMarks(current: 0, all: .max), "\(command)")
            for name in ["old", "new"] { #expect(try await !Self.isValid(name, bench), "\(name): \(command)") }
            // What is loaded meanwhile is invalid too: nobody knows against what it would be valid.
            try await put("later", under: marks.current)
            #expect(try await !Self.isValid("later", bench), "\(command)")
            let first = try await bench.tier.invalidate(scope, in: "n", keepFor: .seconds(60))
            for name in ["old", "new", "later"] { #expect(try await !Self.isValid(name, bench), "\(command)") }
            let repaired = try await bench.tier.read([], in: "n").marks
            #expect(repaired.current == first && repaired.all == first, "\(command)")
            try await put("after", under: first)
            #expect(try await Self.isValid("after", bench), "\(command)")
            #expect(try await bench.tier.invalidate(.all, in: "n", keepFor: .seconds(60)) > first)
            #expect(try await !Self.isValid("after", bench), "\(command)")
        }
        // An entry under a mark that none can be above is none.
        let write = TierWrite(key: "k", payload: envelope("k", under: .max), timeToLive: .seconds(60))
        _ = try await bench.tier.write([write], in: "n")
        #expect(try await bench.tier.read(["k"], in: "n").entries[0].payload == nil)
    }

    static func doubtsTags(_ bench: Bench) async throws {
        let (marks, tag) = (bench.at("{n}:m"), bench.at("{n}:t:t"))
        let foreign: [[String]] = [
            ["SET", "text"], ["SET", ""], ["SET", "1763914407"], ["SET", "17639144070000001"], ["LPUSH", "a"],
            ["SET", "9763914407000000"], ["SET", "9007199254740990"], ["SET", "176391440700000x"], ["SADD", "a"],
        ]
        for command in foreign {
            _ = try bench.ask(tag, ["DEL", tag])
            let current = try await bench.tier.invalidate(.prefix("x/"), in: "n", keepFor: .seconds(60))
            let tagged = TierWrite(
                key: "k",
                payload: envelope("k", under: current, tags: ["t"]),
                timeToLive: .seconds(60)
            )
            _ = try await bench.tier.write([tagged], in: "n")
            #expect(try await Self.isValid("k", bench))
            _ = try bench.ask(tag, [command[0], tag] + command.dropFirst())
            #expect(try await bench.tier.marks(of: ["t", "never"], in: "n") == [.max, 0], "\(command)")
            #expect(try await !Self.isValid("k", bench), "\(command)")
            let first = try await bench.tier.invalidate(.tag("t"), in: "n", keepFor: .seconds(60))
            #expect(try await bench.tier.marks(of: ["t"], in: "n") == [first])
        }
        // A tag's mark counts where the others are lost.
        _ = try bench.ask(tag, ["SET", tag, "8000000000000000"])
        _ = try bench.ask(marks, ["DEL", marks])
        #expect(try await bench.tier.invalidate(.tag("t"), in: "n", keepFor: .seconds(60)) == 8_000_000_000_000_001)
        #expect(try await bench.tier.invalidate(.all, in: "n", keepFor: .seconds(60)) == 8_000_000_000_000_002)
    }

    @Test
    func `versions that no clock has given are damage, and the next write makes it good`() async throws {
        try await Self.doubtsVersions(try await .single())
    }

    static func doubtsVersions(_ bench: Bench) async throws {
        let key = bench.at("n:k")
        let token = "00000000000000000007"
        let now = try #require(try await bench.tier.put(Make.write("k")).version)
        let week: UInt64 = 7 * 24 * 60 * 60 * 1_000_000
        for version in [now + week, 8_000_000_000_000_000, 9_007_199_254_740_990, 9_007_199_254_740_991] {
            for head in [
                Self.sealed("HFC2V \(version) \(token) \(version)") + "x",
                Self.sealed("HFC2T \(version) \(token) \(version)"),
            ] {
                func plant() throws { _ = try bench.ask(key, ["SET", key, head, "PX", "60000"]) }
                try plant()
                #expect(try await bench.tier.read(["k"], in: "n").entries == [.absent], "\(head)")
                #expect(try await bench.tier.put(Make.write("k", "late", if: .version(now))) == .refused(version: 0))
                for condition in [.version(0), .always] as [TierWrite.Condition] {
                    try plant()
                    let written = try #require(try await bench.tier.put(Make.write("k", "2", if: condition)).version)
                    #expect(written > now && written < now + week, "\(head)")
                    #expect(try await bench.tier.get("k").payload == Array("2".utf8))
                }
                try plant()
                let removed = try await bench.tier.remove(["k"], in: "n", keepFor: .seconds(60))[0]
                #expect(removed > now && removed < now + week)
                #expect(try await bench.tier.get("k").version == removed)
            }
        }
        // Within what clocks may differ by, versions go on from where they are.
        let ahead = now + 60 * 60 * 1_000_000
        _ = try bench.ask(key, ["SET", key, Self.sealed("HFC2V \(ahead) \(token) \(ahead)") + "x", "PX", "60000"])
        #expect(try await bench.tier.read(["k"], in: "n").entries[0].age == .zero)
        #expect(try await bench.tier.put(Make.write("k", "2")).version == ahead + 1)
        #expect(try await bench.tier.remove(["k"], in: "n", keepFor: .seconds(60)) == [ahead + 2])
    }

    @Test
    func `an entry that is larger than any of ours takes nobody's connection away`() async throws {
        let bench = try await Bench.single()
        let size = RedisCacheTier.maximumPayload
        let largest = TierWrite(key: "largest", payload: Array(repeating: 7, count: size), timeToLive: .seconds(60))
        #expect(try await bench.tier.put(largest).version != nil)
        let error = await #expect(throws: CacheError.self) {
            try await bench.tier.put(
                TierWrite(key: "k", payload: Array(repeating: 7, count: size + 1), timeToLive: .seconds(60))
            )
        }
        #expect(error?.code == .invalidArgument && error?.message.contains("\(size)") == true)
        _ = try bench.ask("", ["SETRANGE", "hfc:n:foreign", "40000000", "x"])
        let version = try #require(try await bench.tier.put(Make.write("grown")).version)
        _ = try bench.ask("", ["SETRANGE", "hfc:n:grown", "40000000", "x"])
        let entries = try await bench.tier.read(["foreign", "largest", "grown", "largest"], in: "n").entries
        #expect(entries[0] == .absent)
        #expect(entries[1].payload == largest.payload && entries[3].payload == largest.payload)
        #expect(entries[2].payload == nil && entries[2].version == version)
    }

    @Test
    func `a thousand tags cost a key each, and entries cost nothing for the tags they have`() async throws {
        let bench = try await Bench.single()
        let keys = (0..<500).map { "\($0)" }
        _ = try await bench.tier.write(keys.map { Make.write($0) }, in: "n")
        #expect(try bench.ask("", ["DBSIZE"]) == "500")
        for number in 0..<1000 {
            _ = try await bench.tier.invalidate(.tag("tag \(number)"), in: "n", keepFor: .seconds(600))
        }
        #expect(try bench.ask("", ["DBSIZE"]) == "1501")
        // The common marks do not grow with tags.
        #expect(try bench.ask("", ["STRLEN", "hfc:{n}:m"]) == "40")
        #expect(try #require(Int(try bench.ask("", ["MEMORY", "USAGE", "hfc:{n}:t:tag 7"]))) < 200)
        // A prefix is never more than its place.
        for number in 0..<200 {
            _ = try await bench.tier.invalidate(.prefix("prefix \(number)/"), in: "n", keepFor: .seconds(600))
        }
        #expect(try #require(Int(try bench.ask("", ["STRLEN", "hfc:{n}:m"]))) < 64 * 60)
        #expect(try bench.ask("", ["DBSIZE"]) == "1501")
        // And it all goes.
        for number in 0..<1000 {
            let life = try #require(Int(try bench.ask("", ["PTTL", "hfc:{n}:t:tag \(number)"])))
            #expect(life > 0 && life <= 600_000)
        }
    }

    @Test
    func `one round trip reads a batch, and one writes it`() async throws {
        let bench = try await Bench.single()
        let keys = (0..<200).map { "\($0)" }
        _ = try await bench.tier.write(keys.map { Make.write($0) }, in: "n")
        func calls(_ command: String) throws -> Int {
            let lines = try bench.ask("", ["INFO", "commandstats"]).split(whereSeparator: \.isNewline)
            let line = lines.first { $0.hasPrefix("cmdstat_\(command):calls=") } ?? ""
            return Int(line.drop { $0 != "=" }.dropFirst().prefix { $0 != "," }) ?? 0
        }
        _ = try bench.ask("", ["CONFIG", "RESETSTAT"])
        _ = try await bench.tier.read(keys, in: "n")
        #expect(try calls("getrange") == 200)
        #expect(try calls("get") == 1)
        #expect(try calls("evalsha") == 0)
        _ = try await bench.tier.write(keys.map { Make.write($0) }, in: "n")
        #expect(try calls("evalsha") == 200)
        #expect(try calls("eval") == 0)
    }

    @Test
    func `marks are asked for before the entries`() async throws {
        let bench = try await Bench.single()
        _ = try await bench.tier.put(Make.write("k"))
        _ = try bench.ask("", ["CONFIG", "SET", "slowlog-log-slower-than", "0"])
        _ = try await bench.tier.get("k")
        let log = try bench.ask("", ["SLOWLOG", "GET", "10"])
        let marks = try #require(log.firstRange(of: "GET\nhfc:{n}:m"))
        let entries = try #require(log.firstRange(of: "GETRANGE\nhfc:n:k"))
        // The latest comes first.
        #expect(entries.lowerBound < marks.lowerBound)
    }

    @Test(arguments: ["", "other:", "odd*[x]^-:", "%:"])
    func `a prefix keeps caches on one server apart`(prefix: String) async throws {
        let server = try await SharedRedis.shared.server
        // Other tests keep the machine busy.
        let url = server.url + "?timeout=20s"
        let (ours, usual) = (try Make.tier(url, prefix: prefix), try Make.tier(url, prefix: "usual:"))
        let name = Make.channel()
        _ = try await ours.put(Make.write("k", "ours"), in: name)
        _ = try await usual.put(Make.write("k", "usual"), in: name)
        #expect(try await ours.get("k", in: name).payload == Array("ours".utf8))
        #expect(try await usual.get("k", in: name).payload == Array("usual".utf8))
        #expect(try await ours.keys(in: name, prefix: "", after: nil).keys.count <= 1)
        var (cursor, found) = (String?.none, [String]())
        repeat {
            let page = try await ours.keys(in: name, prefix: "k", after: cursor)
            found += page.keys
            cursor = page.next
        } while cursor != nil
        #expect(found == ["k"])
    }
}
