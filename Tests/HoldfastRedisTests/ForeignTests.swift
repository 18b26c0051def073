// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import HoldfastRedis
import HoldfastTesting
import Testing

/// Waiting for holders that tell nobody when they let go: other programs on the same names.
@Suite("Foreign holders", .timeLimit(.minutes(5)))
struct ForeignTests {
    private func listening(_ store: RedisLockStore) async throws {
        // Messages are on their way once somebody has waited.
        let (held, waiter) = (Make.request("warm"), Make.request("warm"))
        _ = try await store.acquire(held)
        _ = try await store.acquire(waiter)
        _ = try await store.withdraw(waiter.key)
        _ = try await store.release(held.key)
    }

    private func calls(_ server: RedisServer) throws -> Int {
        let lines = try server.execute("INFO", "commandstats").split(whereSeparator: \.isNewline)
        let line = lines.first { $0.hasPrefix("cmdstat_evalsha:") }
        return line.flatMap { Int($0.split(separator: "=")[1].prefix(while: \.isNumber)) } ?? 0
    }

    @Test
    func `a foreign release wakes who waits, without polling`() async throws {
        let server = try await RedisServer()
        let store = try RedisLockStore(url: server.calm)
        try await self.listening(store)
        try server.execute("SET", "x", "theirs", "NX", "PX", "60000")
        let signals = Signals(of: store)
        let request = Make.request("x")
        let place = try #require(try await store.acquire(request).place)
        #expect(place.checkAfter > .seconds(50), "the server tells")
        let before = try self.calls(server)
        try await Task.sleep(for: .milliseconds(500))
        #expect(try self.calls(server) == before, "nobody asks meanwhile")
        try server.execute("DEL", "x")
        let woken = try #require(await signals.first { $0 == .check(request.id, after: .zero) })
        #expect(woken < .seconds(4))
        #expect(try await store.acquire(request).token != nil)
        #expect(try await store.release(request.key) == .released)
    }

    @Test
    func `a foreign release on a majority wakes who waits, without polling`() async throws {
        var servers: [RedisServer] = []
        for _ in 0..<3 { servers.append(try await RedisServer()) }
        let hosts = servers.map { "127.0.0.1:\($0.port)" }.joined(separator: ",")
        let store = try RedisQuorumLockStore(url: "redis://\(hosts)?guard=off")
        for server in servers { try server.execute("SET", "x", "theirs", "NX", "PX", "60000") }
        let signals = Signals(of: store)
        let request = Make.request("x")
        var place = try #require(try await store.acquire(request).place)
        // The first answers may come before the messages do.
        try await eventually("the servers do not tell") {
            place = try #require(try await store.acquire(request).place)
            return place.checkAfter > .seconds(50)
        }
        let before = try servers.map(self.calls)
        try await Task.sleep(for: .milliseconds(500))
        #expect(try servers.map(self.calls) == before, "somebody asks meanwhile")
        for server in servers { try server.execute("DEL", "x") }
        let woken = try #require(await signals.first { $0 == .check(request.id, after: .zero) })
        #expect(woken < .seconds(4))
        try await eventually("it never gets the lock") { try await store.acquire(request).token != nil }
        #expect(try await store.release(request.key) == .released)
    }

    @Test
    func `a foreign lease that ends, and a foreign holder after another, are noticed`() async throws {
        let server = try await RedisServer()
        let store = try RedisLockStore(url: server.calm)
        try await self.listening(store)
        let start = ContinuousClock.now
        try server.execute("SET", "x", "theirs", "NX", "PX", "300")
        try await withLockService(store: store) { locks in
            try await locks.withLock("x", waitingAtMost: .seconds(5)) { _ in
                #expect(start.duration(to: .now) >= .milliseconds(290))
            }
            try server.execute("SET", "y", "first", "NX")
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    try await locks.withLock("y", waitingAtMost: .seconds(5)) { _ in
                        let value = try server.execute("GET", "y")
                        #expect(value != "second")
                    }
                }
                try await Task.sleep(for: .milliseconds(100))
                try server.execute("SET", "y", "second")
                try await Task.sleep(for: .milliseconds(100))
                try server.execute("DEL", "y")
                try await group.waitForAll()
            }
        }
        #expect(try await store.status(of: "y").isFree)
    }

    @Test
    func `a foreign holder that lets go between the look and the watch is noticed at once`() async throws {
        let server = try await RedisServer()
        let store = try RedisLockStore(url: server.calm)
        try await self.listening(store)
        for round in 0..<100 {
            try server.execute("SET", "x", "theirs", "NX", "PX", "60000")
            let request = Make.request("x")
            async let gone = Task.detached { try server.execute("DEL", "x") }.value
            var reply = try await store.acquire(request)
            _ = try await gone
            let end = ContinuousClock.now.advanced(by: .seconds(2))
            let signals = Signals(of: store)
            if let place = reply.place, place.checkAfter > .seconds(1) {
                // Told before or after we listened here; the engine listens always.
                _ = await signals.first(within: .milliseconds(200)) { $0 == .check(request.id, after: .zero) }
            }
            while reply.token == nil, ContinuousClock.now < end { reply = try await store.acquire(request) }
            #expect(reply.token != nil, "round \(round)")
            #expect(try await store.release(request.key) == .released)
        }
    }

    @Test(arguments: ["-client|tracking", "-client|id", "resetchannels &hf:c:*"])
    func `who may not be told asks ten times a second`(rule: String) async throws {
        let server = try await RedisServer()
        let rules = RedisPermissions.rules(prefix: "") + rule.split(separator: " ").map(String.init)
        #expect(try server.execute(["ACL", "SETUSER", "locks", "on", ">pw"] + rules) == "OK")
        let store = try RedisLockStore(url: "redis://locks:pw@127.0.0.1:\(server.port)")
        try await self.listening(store)
        try server.execute("SET", "x", "theirs", "NX", "PX", "60000")
        let request = Make.request("x")
        let place = try #require(try await store.acquire(request).place)
        #expect(place.checkAfter < .milliseconds(200))
        try server.execute("DEL", "x")
        #expect(try await store.acquire(request).token != nil)
    }
}
