// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
import HoldfastRedis
import HoldfastRedisCache
import HoldfastTesting
import Synchronization
import Testing

/// On a cluster: real nodes, real failovers, slots that move.
@Suite("A cache on a cluster", .timeLimit(.minutes(5)), .serialized)
struct ClusterCacheTests {
    @Test
    func `what is not ours reads as absent, also in a batch, and is overwritten only where that is said`() async throws
    {
        try await LayoutTests.leavesOthersAlone(try await .cluster())
    }

    @Test
    func `marks that cannot be read make everything invalid, and invalidations make new ones`() async throws {
        try await LayoutTests.doubtsMarks(try await .cluster())
        try await LayoutTests.doubtsTags(try await .cluster())
    }

    @Test
    func `expiring entries with tags leave nothing behind on any node (laravel 43850)`() async throws {
        try await ChurnTests.leavesNothing(try await .cluster(), entries: 10_000)
    }

    @Test
    func `versions that no clock has given are damage, and the next write makes it good`() async throws {
        try await LayoutTests.doubtsVersions(try await .cluster())
    }

    @Test
    func `each entry is in the slot that its whole key says, or its user's tag, and marks are in one`() async throws {
        let servers = try await SharedCluster.shared.servers
        let tier = try Make.tier(servers.url + "?timeout=5s", prefix: "slots:")
        let keys = [
            "a", "{a}", "{}a", "{}{a}", "}{a}", "{a", "a}", "{{a}}", "\0{\0}", "x{tag}1", "y{tag}2", "ä{ö}", "",
        ]
        for name in ["n", "a{b}c:d", "{}", "}"] {
            let escaped = name.map {
                ":%{}".contains($0) ? "%\(String($0.asciiValue ?? 0, radix: 16).uppercased())" : "\($0)"
            }
            .joined()
            _ = try await tier.write(keys.map { Make.write($0, $0) }, in: name)
            #expect(try await tier.read(keys, in: name).entries.map(\.payload) == keys.map { Array($0.utf8) })
            for key in keys {
                let place = "slots:\(escaped):\(key)"
                #expect(try #require(try servers.owner(of: place)).execute("EXISTS", place) == "1", "\(place)")
                let slot = try servers.servers[0].execute("CLUSTER", "KEYSLOT", place)
                #expect(RedisSlot(of: place).description == slot)
            }
            for tag in ["t", "{x}", "}"] { _ = try await tier.invalidate(.tag(tag), in: name, keepFor: .seconds(60)) }
            let slots = try ["m", "t:t", "t:{x}", "t:}"].map { end in
                let place = "slots:{\(escaped)}:\(end)"
                #expect(try #require(try servers.owner(of: place)).execute("EXISTS", place) == "1", "\(place)")
                return try servers.servers[0].execute("CLUSTER", "KEYSLOT", place)
            }
            #expect(Set(slots).count == 1)
        }
        // Entries without a tag are spread, those with one are together.
        let many = (0..<60).map { "\($0)" }
        #expect(Set(try many.map { try #require(try servers.owner(of: "slots:n:\($0)")).port }).count == 3)
        let tagged = try ["x{tag}1", "y{tag}2"].map {
            try servers.servers[0].execute("CLUSTER", "KEYSLOT", "slots:n:\($0)")
        }
        #expect(tagged[0] == tagged[1])
    }

    @Test
    func `entries and marks are read in one round, and once more after an invalidation`() async throws {
        let servers = try await RedisClusterServers()
        let tier = try Make.tier(servers.url + "?timeout=5s")
        let keys = (0..<30).map { "\($0)" }
        _ = try await tier.write(keys.map { Make.write($0) }, in: "n")
        _ = try await tier.read(keys, in: "n")
        func calls(_ pattern: String) throws -> Int {
            try servers.servers.prefix(3).reduce(0) { sum, server in
                let lines = try server.execute("INFO", "commandstats").split(whereSeparator: \.isNewline)
                let line = lines.first { $0.hasPrefix("cmdstat_\(pattern):calls=") } ?? ""
                return sum + (Int(line.drop { $0 != "=" }.dropFirst().prefix { $0 != "," }) ?? 0)
            }
        }
        for server in servers.servers.prefix(3) { _ = try server.execute("CONFIG", "RESETSTAT") }
        _ = try await tier.read(keys, in: "n")
        #expect(try calls("getrange") == 30)
        #expect(try calls("get") == 1)
        let mark = try await Make.tier(servers.url + "?timeout=5s").invalidate(.all, in: "n", keepFor: .seconds(60))
        for server in servers.servers.prefix(3) { _ = try server.execute("CONFIG", "RESETSTAT") }
        #expect(try await tier.read(keys, in: "n").marks.all == mark)
        #expect(try calls("getrange") == 60)
        #expect(try calls("get") == 1)
        for server in servers.servers.prefix(3) { _ = try server.execute("CONFIG", "RESETSTAT") }
        _ = try await tier.read(keys, in: "n")
        #expect(try calls("getrange") == 30)
        for server in servers.servers.prefix(3) {
            #expect(try !server.execute("INFO", "errorstats").contains("MOVED"), "somebody was asked in vain")
        }
    }

    @Test
    func `what a slot's new master has is found, and nobody fails meanwhile`() async throws {
        let servers = try await RedisClusterServers()
        let tier = try Make.tier(servers.url + "?timeout=10s")
        let version = try #require(try await tier.put(Make.write("k", "1")).version)
        let mark = try await tier.invalidate(.tag("t"), in: "n", keepFor: .seconds(60))
        for place in ["hfc:n:k", "hfc:{n}:m"] {
            let old = try #require(try servers.owner(of: place))
            let target = try #require(servers.servers.prefix(3).first { $0 !== old })
            let during = Mutex(Task<(TierEntry, [UInt64]), any Error>?.none)
            try await servers.move(slotOf: place, to: target) {
                during.withLock {
                    $0 = Task { (try await tier.get("k"), try await tier.marks(of: ["t", "never"], in: "n")) }
                }
                try await Task.sleep(for: .milliseconds(100))
            }
            let (entry, marks) = try await #require(during.withLock { $0 }).value
            #expect(entry.payload == Array("1".utf8))
            #expect(marks == [mark, 0])
        }
        #expect(try await tier.get("k").version == version)
        #expect(try await tier.put(Make.write("k", "2", if: .version(version))).version != nil)
        #expect(try await tier.invalidate(.tag("t"), in: "n", keepFor: .seconds(60)) > mark)
        #expect(try await tier.keys(in: "n", prefix: "", after: "2:0").next == nil)
    }

    @Test
    func `after the failover of any master, tier and bus go on`() async throws {
        let servers = try await RedisClusterServers()
        let connection = try RedisCacheConnection(url: servers.url + "?timeout=3s")
        let (tier, bus) = (try RedisCacheTier(connection), RedisCacheBus(connection))
        let keys = (0..<30).map { "\($0)" }
        let versions = try await tier.write(keys.map { Make.write($0) }, in: "n").compactMap(\.version)
        _ = try await tier.invalidate(.all, in: "n", keepFor: .seconds(600))
        let log = BusLog(bus)
        try await running([bus]) {
            try await log.wait("for messages") { $0.last == .listening }
            try await eventually("the replicas do not follow") {
                try servers.servers.reduce(0) { try $0 + (Int($1.execute("DBSIZE")) ?? 0) } == 2 * 31
            }
            // Whoever listens is among them.
            for master in servers.servers.prefix(3) {
                let before = log.events.count
                let isListener = try master.execute("CLIENT", "LIST", "TYPE", "PUBSUB").contains("name=holdfast")
                master.kill()
                if isListener { try await log.wait("the loss") { $0.dropFirst(before).contains(.interrupted) } }
                try await eventually("it does not work again", within: .seconds(40)) {
                    (try? await tier.read(keys, in: "n").entries.map(\.version)) == versions
                }
                try await eventually("no messages come", within: .seconds(40)) {
                    guard log.events.last(where: { $0 == .listening || $0 == .interrupted }) == .listening else {
                        return false
                    }
                    let count = BusLog.messages(log.events).count
                    guard (try? await bus.publish([7])) != nil else { return false }
                    try await Task.sleep(for: .milliseconds(200))
                    return BusLog.messages(log.events).count > count
                }
                // It comes back as a replica, so that the next can go.
                try await master.start()
                try await eventually("the cluster is not whole again", within: .seconds(40)) {
                    try servers.servers.allSatisfy {
                        let info = try $0.execute("INFO", "replication")
                        return info.contains("role:master") || info.contains("master_link_status:up")
                    } && servers.servers.count { (try? $0.execute("ROLE").hasPrefix("master")) == true } == 3
                }
            }
        }
        let more = try await tier.write(zip(keys, versions).map { Make.write($0, "2", if: .version($1)) }, in: "n")
        for (old, new) in zip(versions, more) { #expect(try #require(new.version) > old) }
    }

    @Test
    func `the least permissions suffice on a cluster`() async throws {
        let servers = try await RedisClusterServers()
        for server in servers.servers {
            // A channel for each case: nodes may still pass on what another published.
            let more = TierContract.busCases.indices.map { "&c:bus-\($0)" }
            let rules = RedisCachePermissions.rules(prefix: "c:", channel: "c:bus-0", isCluster: true) + more
            #expect(try server.execute(["ACL", "SETUSER", "cache", "on", ">secret"] + rules) == "OK")
            try server.execute("ACL", "LOG", "RESET")
        }
        let url = servers.url.replacing("://", with: "://cache:secret@") + "?timeout=5s"
        for promise in TierContract.cases {
            try await promise.check(TierContract.Subject(shortLife: .seconds(1)) { try Make.tier(url, prefix: "c:") })
        }
        for (number, promise) in TierContract.busCases.enumerated() {
            try await promise.check { RedisCacheBus(try RedisCacheConnection(url: url, channel: "c:bus-\(number)")) }
        }
        let tier = try Make.tier(url, prefix: "c:")
        let old = try servers.owner(of: "c:n:k")
        try await servers.move(slotOf: "c:n:k", to: try #require(servers.servers.prefix(3).first { $0 !== old })) {
            // The old master says ASK.
            _ = try await tier.put(Make.write("k"))
        }
        #expect(try await tier.get("k", in: "n").payload != nil)
        for server in servers.servers { #expect(try server.execute("ACL", "LOG") == "", "something was refused") }
    }

    @Test
    func `a node of a cluster is no server for one`() async throws {
        let servers = try await SharedCluster.shared.servers
        let tier = try Make.tier("redis://127.0.0.1:\(servers.servers[0].port)")
        var refusal: CacheError?
        for key in 0..<20 where refusal == nil {
            do { _ = try await tier.put(Make.write("\(key)")) } catch { refusal = error as? CacheError }
        }
        let error = try #require(refusal)
        #expect(error.code == .tierRefused && error.message.contains("redis+cluster://"), "\(error)")
    }
}
