// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import HoldfastRedis
import HoldfastTesting
import Testing

/// What a majority stands, in numbers: how fast it decides and comes back, and what clocks can do to it.
@Suite("A majority, in numbers", .timeLimit(.minutes(5)), .serialized)
struct QuorumRowTests {
    private func store(_ servers: [RedisServer], timeout: Duration = .seconds(1)) throws -> RedisQuorumLockStore {
        var configuration = RedisQuorumConfiguration(
            servers: servers.map { server in
                var configuration = RedisConfiguration(port: Int(server.port))
                configuration.timeout = timeout
                return configuration
            }
        )
        configuration.restartGuard = nil
        return try RedisQuorumLockStore(configuration: configuration)
    }

    private func servers(_ count: Int, arguments: [String] = [], hasOwnClock: Bool = false) async throws
        -> [RedisServer]
    {
        var servers: [RedisServer] = []
        for _ in 0..<count { servers.append(try await RedisServer(arguments: arguments, hasOwnClock: hasOwnClock)) }
        return servers
    }

    @Test(arguments: ["killed", "paused"])
    func `R4 with two of five gone 99 of 100 grants come within twice a server's time`(how: String) async throws {
        let servers = try await self.servers(5)
        let timeout = Duration.milliseconds(250)
        let store = try self.store(servers, timeout: timeout)
        try await warm(store)
        for server in servers.prefix(2) { how == "killed" ? server.kill() : server.pause() }
        defer { for server in servers.prefix(2) { server.resume() } }
        var times: [Duration] = []
        for number in 0..<200 {
            let request = Make.request(try Resource("x/\(number)"), contention: .fail)
            let start = ContinuousClock.now
            if (try? await store.acquire(request).token) != nil { times.append(start.duration(to: .now)) }
            _ = try? await store.release(request.key)
        }
        #expect(times.count >= 198)
        #expect(times.sorted()[times.count * 99 / 100 - 1] <= timeout * 2)
    }

    @Test(arguments: ["killed", "paused"])
    func `R5 with three of five gone errors come in time, nothing stays, and it goes on within a second`(
        how: String
    ) async throws {
        let servers = try await self.servers(5)
        let timeout = Duration.milliseconds(500)
        let store = try self.store(servers, timeout: timeout)
        try await warm(store)
        for server in servers.prefix(3) { how == "killed" ? server.kill() : server.pause() }
        var times: [Duration] = []
        for number in 0..<5 {
            let start = ContinuousClock.now
            let request = Make.request(try Resource("x/\(number)"), contention: .fail)
            let error = await #expect(throws: LockError.self) { try await store.acquire(request) }
            #expect(error?.code == .storeUnavailable)
            times.append(start.duration(to: .now))
        }
        #expect(times.sorted()[2] < timeout + .milliseconds(100), "\(times)")
        try await eventually("tries were not given up") {
            try servers.suffix(2).allSatisfy { server in
                try (0..<5).allSatisfy { try server.execute("EXISTS", "x/\($0)") == "0" }
            }
        }
        for server in servers.prefix(3) { if how == "killed" { try await server.start() } else { server.resume() } }
        let back = ContinuousClock.now
        try await eventually("it does not go on") {
            (try? await store.acquire(Make.request("y", contention: .fail)).token) != nil
        }
        #expect(back.duration(to: .now) < .seconds(4), "a second, and three for a busy machine")
    }

    @Test
    func `R13 a server that loads its data counts as lost, and counts again when it has`() async throws {
        let servers = try await self.servers(
            3,
            arguments: ["--key-load-delay", "500", "--loading-process-events-interval-bytes", "1024"]
        )
        let store = try self.store(servers, timeout: .milliseconds(500))
        try await warm(store)
        try servers[0].execute("DEBUG", "POPULATE", "12000")
        #expect(try servers[0].execute("SAVE") == "OK")
        servers[0].kill()
        try await servers[0].start()
        #expect(try servers[0].execute("GET", "x").hasPrefix("LOADING"))
        let held = Make.request("x", lease: .seconds(30))
        #expect(try await store.acquire(held).token != nil)
        #expect(try servers[0].execute("GET", "x").hasPrefix("LOADING"), "it was too quick for this test")
        try await eventually("it never counts again", within: .seconds(30)) {
            _ = try? await store.renew([Renewal(key: held.key, lease: .seconds(30))])
            return try servers[0].execute("GET", "x") == held.id.secret
        }
        #expect(try await store.release(held.key) == .released)
    }

    @Test(arguments: [3, 5])
    func
        `R6 one clock that jumps ahead takes a bare majority, not one of more; the fence tells, and somebody is alarmed`(
            holding: Int
        ) async throws
    {
        let servers = try await self.servers(5, hasOwnClock: true)
        let (a, b) = (try self.store(servers), try self.store(servers))
        let alarms = Tally()
        b.onClockAlarm { _ in alarms.isOver = true }
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await b.run() }
            for server in servers.dropFirst(holding) { server.kill() }
            let held = Make.request("x", lease: .seconds(30))
            var token: FencingToken?
            try await eventually("nobody grants") {
                token = try? await a.acquire(held).token
                return token != nil
            }
            // Those asked last may be late.
            try await eventually("not all hold") {
                try servers.prefix(holding).allSatisfy { try $0.execute("EXISTS", "x") == "1" }
            }
            for server in servers.dropFirst(holding) { try await server.start() }
            try await eventually("their clocks are not watched") {
                try servers.allSatisfy {
                    try $0.execute("INFO", "commandstats").contains("cmdstat_time:")
                }
            }
            try await Task.sleep(for: .milliseconds(100))
            try servers[2].setClock(ahead: .seconds(31))
            let jumped = ContinuousClock.now
            var second: FencingToken?
            while second == nil, jumped.duration(to: .now) < .seconds(2) {
                second = try? await b.acquire(Make.request("x", lease: .seconds(30), contention: .fail)).token
            }
            if holding == 3 {
                // What Redlock cannot keep: seen, and the token tells who came later.
                #expect(try #require(second) > #require(token))
            } else {
                #expect(second == nil, "two hold the lock")
            }
            try await eventually("nobody is alarmed") { alarms.isOver }
            #expect(jumped.duration(to: .now) < .seconds(5))
            #expect(b.clockSkew > .seconds(29))
            group.cancelAll()
        }
    }
}
