// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
import HoldfastCore
import HoldfastRedis
import HoldfastRedisCache
import HoldfastTesting
import Testing

/// Servers that go away, replies that do not come.
@Suite("Faults of a cache's server", .timeLimit(.minutes(5)))
struct FaultTests {
    /// A server, and a way to it on which replies can be lost.
    private struct LossyWay {
        let server: RedisServer
        let proxy: FaultProxy
        let tier: RedisCacheTier

        init() async throws {
            self.server = try await RedisServer()
            self.proxy = try FaultProxy(to: self.server.port, isFramed: false)
            self.tier = try Make.tier("redis://127.0.0.1:\(self.proxy.port)?timeout=10s")
        }

        /// Has a call's first copy arrive and its reply get lost.
        ///
        /// - Parameters:
        ///   - text: What the server shows when the copy arrived.
        ///   - meanwhile: What others do before the second copy is sent.
        func losing<Reply: Sendable>(
            until text: String,
            _ call: @escaping @Sendable () async throws -> Reply,
            meanwhile: () async throws -> Void = {}
        ) async throws -> Reply {
            self.proxy.dropReplies()
            let reply = Task { try await call() }
            try await eventually("the first copy did not arrive") {
                try self.server.execute("GET", "hfc:n:k").contains(text)
            }
            try await meanwhile()
            self.proxy.pass()
            self.proxy.cut()
            return try await reply.value
        }
    }

    @Test
    func `a write whose reply was lost is not refused on its own account`() async throws {
        let way = try await LossyWay()
        let tier = way.tier
        for token in [0, 7] as [UInt64] {
            let seen = try #require(try await tier.put(Make.write("k", "first")).version)
            let reply = try await way.losing(until: "second") {
                try await tier.put(Make.write("k", "second", if: .version(seen), token: token))
            }
            #expect(reply == .written(version: try await tier.get("k").version))
            #expect(try #require(reply.version) > seen)
        }
        // What was only refused stays refused.
        let seen = try await tier.get("k").version
        let refused = Task { try await tier.put(Make.write("k", "third", if: .version(1))) }
        #expect(try await refused.value == .refused(version: seen))
    }

    @Test
    func `a write whose reply was lost is refused when somebody wrote or removed since`() async throws {
        let way = try await LossyWay()
        let (tier, other) = (way.tier, try Make.tier(way.server.url))
        let seen = try #require(try await tier.put(Make.write("k", "first")).version)
        var latest: UInt64 = 0
        let reply = try await way.losing(until: "second") {
            try await tier.put(Make.write("k", "second", if: .version(seen), token: 7))
        } meanwhile: {
            latest = try #require(try await other.put(Make.write("k", "newer", token: 8)).version)
        }
        #expect(reply == .refused(version: latest))

        let newer = latest
        let removed = try await way.losing(until: "third") {
            try await tier.put(Make.write("k", "third", if: .version(newer), token: 9))
        } meanwhile: {
            latest = try await other.remove(["k"], in: "n", keepFor: .seconds(60))[0]
        }
        #expect(removed == .refused(version: latest))
        #expect(try await tier.get("k") == TierEntry(payload: nil, version: latest))
    }

    @Test
    func `a removal whose reply was lost happens twice, and gives the version that is there`() async throws {
        let way = try await LossyWay()
        let tier = way.tier
        // The server knows the script.
        _ = try await tier.remove(["other"], in: "n", keepFor: .seconds(60))
        _ = try await tier.put(Make.write("k", "first"))
        let versions = try await way.losing(until: "HFC2T") {
            try await tier.remove(["k"], in: "n", keepFor: .seconds(60))
        }
        #expect(try await tier.get("k").version == versions[0])
    }

    @Test
    func `a server that is gone costs a caller no more than its time, and works when it is back`() async throws {
        let server = try await RedisServer()
        let tier = try Make.tier(server.url + "?timeout=500ms")
        let first = try #require(try await tier.put(Make.write("k")).version)
        server.kill()
        let calls: [@Sendable () async throws -> Void] = [
            { _ = try await tier.get("k") }, { _ = try await tier.put(Make.write("k")) },
            { _ = try await tier.remove(["k"], in: "n", keepFor: .seconds(1)) },
            { _ = try await tier.invalidate(.all, in: "n", keepFor: .seconds(1)) },
            { _ = try await tier.marks(of: ["t"], in: "n") },
            { _ = try await tier.keys(in: "n", prefix: "", after: nil) },
            { try await RedisCacheBus(tier.connection).publish([1]) },
            { _ = try await tier.write((0..<100).map { Make.write("\($0)") }, in: "n") },
        ]
        for (number, call) in calls.enumerated() {
            let start = ContinuousClock.now
            let error = await #expect(throws: CacheError.self) { try await call() }
            #expect(error?.code == .tierUnavailable, "call \(number): \(error as Any)")
            #expect(start.duration(to: .now) < .seconds(2), "call \(number)")
        }
        // It may be back any moment, so that is no error of run().
        try await tier.run()
        try await server.start()
        try await eventually("it does not work again", within: .seconds(5)) { (try? await tier.get("k")) == .absent }
        let second = try #require(try await tier.put(Make.write("k", if: .version(first))).version)
        #expect(second > first)
    }

    @Test
    func `a restart within a call's time is not seen by the caller, and lost scripts are sent again`() async throws {
        let server = try await RedisServer()
        let tier = try Make.tier(server.url + "?timeout=10s")
        _ = try await tier.put(Make.write("k"))
        server.kill()
        let (read, written) = (Task { try await tier.get("k") }, Task { try await tier.put(Make.write("l", "2")) })
        try await Task.sleep(for: .milliseconds(200))
        try await server.start()
        #expect(try await read.value == .absent)
        #expect(try await written.value.version != nil)
        try server.execute("SCRIPT", "FLUSH")
        let replies = try await tier.write((0..<50).map { Make.write("\($0)") }, in: "n")
        #expect(replies.allSatisfy { $0.version != nil })
        #expect(try await tier.invalidate(.all, in: "n", keepFor: .seconds(1)) > 0)
    }

    @Test
    func `a silent server costs a caller its timeout, and the next call gets its own answer`() async throws {
        let server = try await RedisServer()
        let tier = try Make.tier(server.url + "?timeout=300ms")
        for key in ["a", "b"] { _ = try await tier.put(Make.write(key, key)) }
        server.pause()
        let start = ContinuousClock.now
        let error = await #expect(throws: CacheError.self) { try await tier.get("a") }
        #expect(error?.code == .tierUnavailable)
        #expect(start.duration(to: .now) < .seconds(2))
        server.resume()
        try await eventually("it does not work again", within: .seconds(5)) { (try? await tier.get("b")) != nil }
        for key in ["a", "b"] { #expect(try await tier.get(key).payload == Array(key.utf8)) }
    }

    // MARK: - The bus

    @Test
    func `a subscription that is cut says so, and comes back`() async throws {
        let server = try await RedisServer()
        let buses = try (0..<2).map { _ in RedisCacheBus(try RedisCacheConnection(url: server.url)) }
        try await running(buses) {
            let log = BusLog(buses[0])
            try await log.wait("for messages") { $0 == [.listening] }
            for round in 1...3 {
                try server.execute("CLIENT", "KILL", "TYPE", "pubsub")
                try await log.wait("the cut") { events in
                    events.count { $0 == .interrupted } == round && events.count { $0 == .listening } == round + 1
                }
                try await buses[1].publish([UInt8(round)])
                try await log.wait("the message") { $0.last == .message([UInt8(round)]) }
            }
            // Never twice the same.
            let states = log.events.filter { $0 == .interrupted || $0 == .listening }
            #expect(states == [.listening] + (1...3).flatMap { _ in [.interrupted, .listening] as [CacheBusEvent] })
        }
    }

    @Test
    func `a bus waits for a server that is not there yet, and for one that comes back`() async throws {
        let server = try await RedisServer()
        server.kill()
        let bus = RedisCacheBus(try RedisCacheConnection(url: server.url + "?timeout=300ms"))
        let log = BusLog(bus)
        try await running([bus]) {
            try await Task.sleep(for: .milliseconds(600))
            #expect(log.events == [])
            try await server.start()
            try await log.wait("the start") { $0 == [.listening] }
            server.kill()
            try await log.wait("the end") { $0 == [.listening, .interrupted] }
            try await server.start()
            try await log.wait("the return") { $0 == [.listening, .interrupted, .listening] }
            try await bus.publish([1])
            try await log.wait("a message") { $0.last == .message([1]) }
        }
    }

    @Test
    func `tier and bus of one process have a connection for each, and none when they are gone`() async throws {
        let server = try await RedisServer()
        @Sendable func clients() throws -> Int {
            try server.execute("CLIENT", "LIST").split(separator: "\n").count { $0.contains("name=holdfast") }
        }
        weak var gone: RedisCacheConnection?
        do {
            let connection = try RedisCacheConnection(url: server.url)
            gone = connection
            let (tier, bus) = (try RedisCacheTier(connection), RedisCacheBus(connection))
            _ = try await tier.put(Make.write("k"))
            #expect(try clients() == 1)
            let log = BusLog(bus)
            try await running([bus]) {
                try await log.wait("for messages") { $0 == [.listening] }
                try await bus.publish([1])
                let count = try clients()
                #expect(count == 2)
            }
        }
        // Other tests start programs, which may inherit the sockets: what counts is that nobody keeps them here.
        #expect(gone == nil)
    }

    @Test
    func `a bus that is cancelled ends at once`() async throws {
        let server = try await RedisServer()
        let bus = RedisCacheBus(try RedisCacheConnection(url: server.url))
        let log = BusLog(bus)
        let start = ContinuousClock.now
        try await running([bus]) { try await log.wait("for messages") { $0 == [.listening] } }
        #expect(start.duration(to: .now) < .seconds(5))
    }

    // MARK: - Other ways to a server

    @Test
    func `TLS, a password, a database and a Unix socket are ways to a cache`() async throws {
        let certificates = try await TestCertificates()
        let port = try RedisServer.freePort()
        let arguments = certificates.redisArguments(port: port) + ["--unixsocket", "redis.sock", "--requirepass", "pw"]
        let server = try await RedisServer(arguments: arguments)
        let urls = [
            "rediss://:pw@127.0.0.1:\(port)?timeout=5s&ca=\(certificates.path("ca.crt"))",
            "redis://:pw@127.0.0.1:\(server.port)/0?timeout=5s",
            "redis+unix://:pw@\(server.directory)/redis.sock?db=0&timeout=5s",
        ]
        for (number, url) in urls.enumerated() {
            let connection = try RedisCacheConnection(url: url)
            let (tier, bus) = (try RedisCacheTier(connection), RedisCacheBus(connection))
            if number == 0 { _ = try await tier.put(Make.write("k", "by TLS")) }
            #expect(try await tier.get("k").payload == Array("by TLS".utf8))
            let log = BusLog(bus)
            try await running([bus]) {
                try await log.wait("for messages") { $0 == [.listening] }
                try await bus.publish([1])
                try await log.wait("a message") { $0 == [.listening, .message([1])] }
            }
        }
        let other = try Make.tier("redis://:pw@127.0.0.1:\(server.port)/1?timeout=5s")
        #expect(try await other.get("k") == .absent)
    }
}
