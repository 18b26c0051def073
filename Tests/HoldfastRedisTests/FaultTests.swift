// SPDX-License-Identifier: Apache-2.0

import Glibc
import HoldfastCore
import HoldfastRedis
import HoldfastTesting
import NIOCore
import NIOPosix
import Testing

@Suite(.timeLimit(.minutes(5)))
struct FaultTests {
    private static let compareAndDelete =
        "if redis.call('get',KEYS[1])==ARGV[1] then return redis.call('del',KEYS[1]) else return 0 end"

    private func code(_ body: () async throws -> Void) async -> LockError.Code? {
        do {
            try await body()
            return nil
        } catch {
            return (error as? LockError)?.code
        }
    }

    @Test
    func `plain Redlock clients and ours exclude each other, with or without a lease`() async throws {
        let server = try await RedisServer()
        let store = try RedisLockStore(url: server.calm)
        #expect(try server.execute("SET", "x", "theirs", "NX", "PX", "60000") == "OK")
        let place = try #require(try await store.acquire(Make.request("x")).place)
        #expect(place.blockers.first?.owner == nil && place.blockers.first?.reference == nil)
        #expect(try #require(place.blockers.first?.remaining) > .seconds(50))
        #expect(place.checkAfter > .seconds(50))
        #expect(try server.execute("EVAL", Self.compareAndDelete, "1", "x", "ours") == "0")
        #expect(try server.execute("EVAL", Self.compareAndDelete, "1", "x", "theirs") == "1")
        let mine = Make.request("y")
        #expect(try await store.acquire(mine).token != nil)
        #expect(try server.execute("SET", "y", "theirs", "NX", "PX", "60000") == "(nil)")
        #expect(try await store.release(mine.key) == .released)

        #expect(try server.execute("SET", "z", "for ever", "NX") == "OK")
        guard case .busy(let blockers) = try await store.acquire(Make.request("z", contention: .fail)) else {
            Issue.record("a foreign lock without a lease was not respected")
            return
        }
        #expect(blockers.first?.remaining == nil)
        #expect(try await store.status(of: "z").holders.count == 1)
        #expect(try await store.revoke("z").reached == 0)
        #expect(try await store.forceRelease("z").count == 1)
        #expect(try await store.acquire(Make.request("z")).token != nil)
    }

    @Test
    func `a key of another type is a clear error`() async throws {
        let server = try await RedisServer()
        let store = try RedisLockStore(url: server.calm)
        try server.execute("HSET", "x", "a", "1")
        #expect(await self.code { _ = try await store.acquire(Make.request("x")) } == .storeCorrupted)
        try server.execute("SET", "hf:{y}:h", "G what|is this|")
        #expect(try await store.acquire(Make.request("y")).token != nil)
    }

    @Test
    func `after the server was killed and came back, the same name is locked and renewed again`() async throws {
        let server = try await RedisServer()
        let store = try RedisLockStore(url: server.calm)
        let first = Make.request("x")
        let token = try #require(try await store.acquire(first).token)
        server.kill()
        let renewal = Renewal(key: first.key, lease: .seconds(10))
        #expect(await self.code { _ = try await store.renew([renewal]) } == .storeUnavailable)
        try await server.start()
        #expect(try await store.renew([renewal]) == [.lost(.expired)])
        let again = Make.request("x")
        #expect(try #require(try await store.acquire(again).token) > token)
        for _ in 0..<3 {
            let replies = try await store.renew([Renewal(key: again.key, lease: .seconds(10))])
            #expect(replies == [.renewed(revokeRequested: false)])
        }
    }

    @Test
    func `a restart within a call's time is not seen by the caller`() async throws {
        let server = try await RedisServer()
        let store = try RedisLockStore(url: server.url + "?timeout=5s")
        #expect(try await store.acquire(Make.request("x")).token != nil)
        server.kill()
        async let reply = store.acquire(Make.request("x"))
        try await server.start()
        #expect(try await reply.token != nil)
    }

    @Test
    func `R19 lost scripts and lost data are noticed at once`() async throws {
        let server = try await RedisServer()
        let store = try RedisLockStore(url: server.calm)
        let request = Make.request("x")
        #expect(try await store.acquire(request).token != nil)
        try server.execute("SCRIPT", "FLUSH")
        let renewal = Renewal(key: request.key, lease: .seconds(10))
        #expect(try await store.renew([renewal]) == [.renewed(revokeRequested: false)])
        try server.execute("FLUSHALL")
        #expect(try await store.renew([renewal]) == [.lost(.expired)])
        #expect(try await store.release(request.key) == .alreadyLost)
    }

    @Test
    func `a waiter hears of a cut message connection within a second and takes the free lock`() async throws {
        let server = try await RedisServer()
        let store = try RedisLockStore(url: server.calm)
        let signals = Signals(of: store)
        let holder = Make.request("x")
        let waiter = Make.request("x")
        #expect(try await store.acquire(holder).token != nil)
        #expect(try await store.acquire(waiter).place != nil)
        try server.execute("CLIENT", "KILL", "TYPE", "pubsub")
        // The hand-over finds nobody listening, and the lock stays free for whoever asks first.
        #expect(try await store.release(holder.key) == .released)
        let woken = try #require(await signals.first { $0 == .interrupted })
        #expect(woken < .seconds(1))
        #expect(try await store.acquire(waiter).token != nil)
    }

    @Test
    func `commands that belong together are taken all or none`() async throws {
        let server = try await RedisServer()
        var configuration = RedisConfiguration(port: Int(server.port))
        configuration.maximumPending = 3
        let loop = MultiThreadedEventLoopGroup.singleton.any()
        let connection = CommandConnection(try Connector(configuration, loop: loop))
        defer { connection.close() }
        let deadline = NIODeadline.now() + .seconds(20)
        // Neither is answered before there was no room.
        server.pause()
        defer { server.resume() }
        let (answers, answered) = AsyncStream<Bool>.makeStream()
        for _ in 0..<2 {
            connection.submit(by: deadline, .texts(["ECHO", "a"])) { outcome in
                answered.yield((try? outcome.get()) != nil)
            }
        }
        let outcomes = await connection.send(
            by: deadline,
            all: [.texts(["INCR", "n"]), .texts(["INCR", "n"])]
        )
        #expect(outcomes.count == 2)
        for outcome in outcomes {
            guard case .failure(let error) = outcome else {
                Issue.record("a command was taken without room for those that belong to it")
                continue
            }
            #expect(error.code == .limitReached)
        }
        server.resume()
        for await isAnswered in answers.prefix(2) { #expect(isAnswered) }
        #expect(try server.execute("EXISTS", "n") == "0")
    }

    @Test
    func `R20 ten thousand echoes with random deadlines never cross`() async throws {
        let server = try await RedisServer()
        let configuration = RedisConfiguration(port: Int(server.port))
        let loop = MultiThreadedEventLoopGroup.singleton.any()
        let connection = CommandConnection(try Connector(configuration, loop: loop))
        defer { connection.close() }
        var right = 0
        var failed = 0
        for batch in 0..<100 {
            await withTaskGroup(of: Bool?.self) { group in
                for index in 0..<100 {
                    let text = "\(batch)-\(index)"
                    // One batch in four is impatient with a server that stalls; the others must all be answered.
                    let isHasty = batch % 4 == 0
                    let patience = isHasty ? TimeAmount.microseconds(.random(in: 50...25_000)) : .seconds(20)
                    group.addTask {
                        let stall = index == 0 && isHasty
                        let command = stall ? ["DEBUG", "SLEEP", "0.03"] : ["ECHO", text]
                        switch await connection.send(by: .now() + patience, { $0.command(command) }) {
                        case .success(let reply): return reply.text == (stall ? "OK" : text)
                        case .failure: return nil
                        }
                    }
                }
                for await outcome in group {
                    if let outcome {
                        #expect(outcome)
                        right += 1
                    } else {
                        failed += 1
                    }
                }
            }
        }
        #expect(right + failed == 10_000)
        #expect(right >= 7500 && failed > 100)
    }

    @Test
    func `a silent server costs a caller its timeout, and the next call gets its own answer`() async throws {
        let server = try await RedisServer()
        let store = try RedisLockStore(url: server.url + "?timeout=1s")
        let request = Make.request("x")
        #expect(try await store.acquire(request).token != nil)
        server.pause()
        let start = ContinuousClock.now
        #expect(await self.code { _ = try await store.status(of: "x") } == .storeUnavailable)
        #expect(start.duration(to: .now) < .seconds(3))
        server.resume()
        #expect(try await store.acquire(request).token != nil)
        #expect(try await store.status(of: "x").holders.first?.reference == request.id.reference)
    }

    @Test
    func `R15 a server that evicts keys is refused unless the URL allows it`() async throws {
        let server = try await RedisServer(arguments: ["--maxmemory", "8mb", "--maxmemory-policy", "allkeys-lru"])
        let store = try RedisLockStore(url: server.calm)
        #expect(await self.code { _ = try await store.acquire(Make.request("x")) } == .storeRefused)
        #expect(await self.code { try await store.run() } == .storeRefused)
        let bold = try RedisLockStore(url: server.url + "?eviction=allow")
        #expect(try await bold.acquire(Make.request("x")).token != nil)
        #expect(await bold.diagnose().contains { $0.name == "eviction" && $0.severity == .warning })
    }

    @Test
    func `a wrong password is refused at once, by one try, and is never shown`() async throws {
        let server = try await RedisServer()
        try server.execute("ACL", "SETUSER", "locks", "on", ">right", "~*", "&*", "+@all")
        let address = "127.0.0.1:\(server.port)"
        let wrong = try RedisLockStore(url: "redis://locks:canary@\(address)?timeout=10s")
        let start = ContinuousClock.now
        for _ in 0..<50 {
            let error = await #expect(throws: LockError.self) { try await wrong.acquire(Make.request("x")) }
            #expect(error?.code == .storeRefused)
            #expect(error?.description.contains("canary") == false)
        }
        // One try each, which waited for nothing.
        #expect(start.duration(to: .now) < .seconds(10))
        let log = try server.execute("ACL", "LOG").split(separator: "\n")
        let tries = zip(log, log.dropFirst()).filter { $0.0 == "count" }.compactMap { Int($0.1) }
        #expect(tries.count == 1 && tries.allSatisfy { $0 <= 50 }, "\(log)")
        let right = try RedisLockStore(url: "redis://locks:right@\(address)?timeout=10s")
        #expect(try await right.acquire(Make.request("x")).token != nil)
        try server.execute("CONFIG", "SET", "requirepass", "right")
        let none = try RedisLockStore(url: "redis://\(address)")
        #expect(await self.code { _ = try await none.acquire(Make.request("x")) } == .storeRefused)
        #expect(await self.code { try await none.run() } == .storeRefused)
    }

    @Test
    func `a user with the least rights can do everything, and the server logs no refusal`() async throws {
        let server = try await RedisServer()
        let rules = RedisPermissions.rules(prefix: "jobs/")
        try server.execute(["ACL", "SETUSER", "locks", "on", ">pass"] + rules)
        let store = try RedisLockStore(url: "redis://locks:pass@127.0.0.1:\(server.port)?timeout=10s")
        let signals = Signals(of: store)
        let holder = Make.request("jobs/1")
        let waiter = Make.request("jobs/1", waitLimit: .seconds(3))
        let next = Make.request("jobs/1", acceptance: .seconds(30))
        #expect(try await store.acquire(holder).token != nil)
        #expect(try await store.acquire(waiter).place != nil)
        #expect(try await store.acquire(next).place?.position == 1)
        #expect(try await store.renew([Renewal(key: holder.key, lease: .seconds(9))]) != [.lost(.expired)])
        #expect(try await store.revoke("jobs/1").reached == 1)
        #expect(try await store.survey("jobs/*", after: nil).resources.count == 1)
        try await eventually("it waits on") { try await store.acquire(next).place?.position == 0 }
        #expect(try await store.release(holder.key) == .released)
        #expect(await signals.first { $0 == .granted(next.id) } != nil)
        #expect(try await store.forceRelease("jobs/1").count == 1)
        #expect(try await store.withdraw(waiter.key) == .notFound)
        try await self.shareAndUpgrade(store)
        #expect(try server.execute("ACL", "LOG") == "")
        let other = await self.code { _ = try await store.acquire(Make.request("other")) }
        #expect(other == .storeRefused)
    }

    private func shareAndUpgrade(_ store: RedisLockStore) async throws {
        let reader = Make.request("jobs/2", mode: .shared)
        let updater = Make.request("jobs/2", mode: .update)
        #expect(try await store.acquire(reader).token != nil)
        #expect(try await store.acquire(updater).token != nil)
        let upgrade = Conversion(updater.key, to: .exclusive, contention: .queue)
        guard case .waiting = try await store.convert(upgrade) else {
            Issue.record("an upgrade beside a reader does not wait")
            return
        }
        #expect(try await store.waits(of: updater.owner, for: "jobs/2").map(\.resource) == ["jobs/2"])
        #expect(try await store.revoke("jobs/2").asked.count == 2)
        #expect(try await store.release(reader.key) == .released)
        #expect(try await store.status(of: "jobs/2").holders.map(\.mode) == [.exclusive])
        #expect(try await store.waits(of: updater.owner, for: "jobs/2").isEmpty)
        #expect(try await store.convert(Conversion(updater.key, to: .shared)) != .lost)
        #expect(try await store.forceRelease("jobs/2").count == 1)
    }

    @Test
    func `where messages are not permitted a waiter asks often and is served`() async throws {
        let server = try await RedisServer()
        let rules = RedisPermissions.rules(prefix: "") + ["-subscribe"]
        try server.execute(["ACL", "SETUSER", "locks", "on", ">pass"] + rules)
        let store = try RedisLockStore(url: "redis://locks:pass@127.0.0.1:\(server.port)?timeout=10s")
        let holder = Make.request("x")
        let waiter = Make.request("x", acceptance: .seconds(30))
        #expect(try await store.acquire(holder).token != nil)
        for _ in 0..<2 { #expect(try #require(try await store.acquire(waiter).place).checkAfter < .milliseconds(200)) }
        #expect(try await store.release(holder.key) == .released)
        #expect(try server.execute("GET", "x") == waiter.id.secret)
        #expect(try await store.acquire(waiter).token != nil)
        #expect(await store.diagnose().contains { $0.name == "messages" && $0.severity == .warning })
    }

    @Test
    func `an unreachable server and one that is not Redis are clear errors in time`() async throws {
        let nobody = try RedisLockStore(url: "redis://127.0.0.1:1?timeout=100ms")
        #expect(await self.code { _ = try await nobody.acquire(Make.request("x")) } == .storeUnavailable)
        #expect(await nobody.diagnose().first?.severity == .problem)

        let liar = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .childChannelInitializer { channel in
                channel.writeAndFlush(ByteBuffer(string: "HTTP/1.1 400 Bad Request\r\n\r\n"))
            }
            .bind(host: "127.0.0.1", port: 0).get()
        let port = try #require(liar.localAddress?.port)
        let misled = try RedisLockStore(url: "redis://127.0.0.1:\(port)?timeout=200ms")
        let start = ContinuousClock.now
        #expect(await self.code { _ = try await misled.acquire(Make.request("x")) } == .storeUnavailable)
        #expect(start.duration(to: .now) < .seconds(3))
        try await liar.close()
    }

    @Test(arguments: [
        ("-DENIED Redis is running in protected mode because protected mode is enabled", "protected mode"),
        ("-ERR max number of clients reached", "max number of clients"),
    ])
    func `a server that refuses a connection at once is quoted`(line: String, words: String) async throws {
        let server = try await FakeServer(refusingWith: line)
        let store = try RedisLockStore(url: "redis://127.0.0.1:\(server.port)?timeout=500ms")
        let error = await #expect(throws: LockError.self) {
            try await store.acquire(Make.request("x", contention: .fail))
        }
        #expect(error?.message.contains(words) == true, "\(error?.message ?? "")")
    }

    @Test
    func `a silent connection is asked for long before its server is given up`() async throws {
        let server = try await RedisServer()
        let store = try RedisLockStore(url: server.calm)
        #expect(try await store.acquire(Make.request("x")).token != nil)
        // Of each socket: number, local and remote address, state (01 connected), queues, kind of timer (02 keep-alive)
        // and how long it still runs, in hundredths of a second.
        let remote = ":" + String(server.port, radix: 16, uppercase: true)
        let sockets = try self.lines(of: "/proc/net/tcp").map { $0.split(separator: " ") }
        let ours = sockets.filter { $0.count > 5 && $0[2].hasSuffix(remote) && $0[3] == "01" }
        let timers = ours.map { $0[5].split(separator: ":") }
        let pauses = timers.compactMap { $0[0] == "02" ? Int($0[1], radix: 16) : nil }
        #expect(!pauses.isEmpty && pauses.allSatisfy { $0 <= 60 * 100 }, "\(pauses)")
        #expect(try await store.acquire(Make.request("y")).token != nil)
    }

    private func lines(of path: String) throws -> [Substring] {
        let file = try #require(fopen(path, "r"))
        defer { fclose(file) }
        var bytes: [UInt8] = []
        while case let byte = fgetc(file), byte != EOF { bytes.append(UInt8(byte)) }
        return String(decoding: bytes, as: UTF8.self).split(separator: "\n")
    }

    @Test
    func `a look at a healthy server finds no problem, and nothing secret`() async throws {
        let server = try await RedisServer(arguments: ["--requirepass", "canary"])
        let store = try RedisLockStore(url: "redis://:canary@127.0.0.1:\(server.port)")
        let findings = await store.diagnose()
        #expect(findings.count == 10)
        #expect(findings.allSatisfy { $0.severity != .problem })
        #expect(!"\(findings)".contains("canary"))
    }
}
