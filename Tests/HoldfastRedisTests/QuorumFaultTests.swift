// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import HoldfastRedis
import HoldfastTesting
import Synchronization
import Testing

/// What becomes of locks on a majority when servers go, forget, hang or have odd clocks: real servers, real faults.
@Suite("A majority of Redis servers", .timeLimit(.minutes(5)), .serialized)
struct QuorumFaultTests {
    private func servers(_ count: Int, hasOwnClock: Bool = false) async throws -> [RedisServer] {
        var servers: [RedisServer] = []
        for _ in 0..<count { servers.append(try await RedisServer(hasOwnClock: hasOwnClock)) }
        return servers
    }

    private func store(_ servers: [RedisServer], guard time: Duration? = nil) throws -> RedisQuorumLockStore {
        var configuration = RedisQuorumConfiguration(
            servers: servers.map { server in
                var configuration = RedisConfiguration(port: Int(server.port))
                configuration.timeout = .seconds(1)
                return configuration
            }
        )
        configuration.restartGuard = time
        return try RedisQuorumLockStore(configuration: configuration)
    }

    private func eventually(_ what: Comment, _ holds: () async throws -> Bool) async throws {
        for _ in 0..<1000 {
            if try await holds() { return }
            try await Task.sleep(for: .milliseconds(10))
        }
        Issue.record(what)
    }

    /// Asks until the servers have been up for long enough.
    private func takeFirst(_ request: LockRequest, _ store: RedisQuorumLockStore) async throws -> FencingToken {
        var token: FencingToken?
        try await self.eventually("the servers never count") {
            token = try? await store.acquire(request).token
            return token != nil
        }
        return try #require(token)
    }

    // MARK: - Forgetting

    @Test(arguments: [true, false])
    func `one server that forgets the holder lets nobody in, unless the guard is off (redsync 186)`(
        isGuarded: Bool
    ) async throws {
        let servers = try await self.servers(5)
        let (a, b) = try (
            self.store(servers, guard: .seconds(1)), self.store(servers, guard: isGuarded ? .seconds(1) : nil)
        )
        for round in 0..<(isGuarded ? 3 : 1) {
            // The holder has a bare majority: the other two were down.
            for server in servers.suffix(2) { server.kill() }
            let held = Make.request("x", lease: .seconds(1))
            let token = try await self.takeFirst(held, a)
            for server in servers.suffix(2) { try await server.start() }
            try await servers[2].restart()
            let lease = Renewal(key: held.key, lease: .seconds(1))
            var intruder: FencingToken?
            let deadline = ContinuousClock.now.advanced(by: .milliseconds(600))
            while intruder == nil, ContinuousClock.now < deadline {
                intruder = try? await b.acquire(Make.request("x", lease: .seconds(1), contention: .fail)).token
            }
            if isGuarded {
                #expect(intruder == nil, "round \(round): two hold the lock")
                // No majority has it any more, and its holder is told; nobody else had it meanwhile.
                let reply = try await a.renew([lease])
                #expect(reply != [.renewed(revokeRequested: false)], "round \(round)")
            } else {
                // The guard is needed: this is what happens without it. The token still tells who came later.
                #expect(try #require(intruder) > token)
            }
        }
    }

    @Test
    func `a server that came back empty gets the grant again at the next renewal`() async throws {
        let servers = try await self.servers(3)
        let store = try self.store(servers)
        let held = Make.request("x", lease: .seconds(20))
        let token = try #require(try await store.acquire(held).token)
        try await servers[0].restart()
        #expect(try servers[0].execute("EXISTS", "x") == "0")
        try await self.eventually("the grant was not healed") {
            _ = try await store.renew([Renewal(key: held.key, lease: .seconds(20))])
            return try servers[0].execute("EXISTS", "x") == "1"
        }
        // From now on another may go.
        servers[1].kill()
        #expect(
            try await store.renew([Renewal(key: held.key, lease: .seconds(20))]) == [.renewed(revokeRequested: false)]
        )
        #expect(try await store.acquire(held) == .granted(token), "the token stays what it was")
        #expect(try await store.release(held.key) == .released)
        #expect(try servers[0].execute("EXISTS", "x") == "0")
    }

    @Test
    func `a lock that was lost on a majority is lost, and never taken again silently`() async throws {
        let servers = try await self.servers(3)
        let store = try self.store(servers)
        let held = Make.request("x", lease: .seconds(20))
        _ = try #require(try await store.acquire(held).token)
        for server in servers.prefix(2) { try server.execute("FLUSHALL") }
        #expect(try await store.renew([Renewal(key: held.key, lease: .seconds(20))]) == [.lost(.expired)])
        try await Task.sleep(for: .milliseconds(50))
        #expect(try servers.prefix(2).allSatisfy { try $0.execute("EXISTS", "x") == "0" })
        #expect(try await store.release(held.key) == .alreadyLost)
    }

    // MARK: - Going

    @Test(arguments: ["killed", "paused"])
    func `with two of five gone, locks are granted all the same`(how: String) async throws {
        let servers = try await self.servers(5)
        let store = try self.store(servers)
        try await warm(store)
        for server in servers.prefix(2) { how == "killed" ? server.kill() : server.pause() }
        defer { for server in servers.prefix(2) { server.resume() } }
        var granted = 0
        for number in 0..<200 {
            let request = Make.request(try Resource("x/\(number)"), contention: .fail)
            guard (try? await store.acquire(request).token) != nil else { continue }
            granted += 1
            #expect(try await store.release(request.key) == .released)
        }
        #expect(granted >= 198)
    }

    @Test
    func `with three of five gone, nothing is granted and nothing is left; it goes on when they are back`() async throws
    {
        let servers = try await self.servers(5)
        let store = try self.store(servers)
        let held = Make.request("held")
        _ = try #require(try await store.acquire(held).token)
        for server in servers.prefix(3) { server.kill() }
        for _ in 0..<20 {
            let error = await #expect(throws: LockError.self) { try await store.acquire(Make.request("x")) }
            #expect(error?.code == .storeUnavailable)
            #expect(error?.message.contains("3 of 5") == true)
        }
        try await self.eventually("tries were not given up") {
            try servers.suffix(2).allSatisfy { try $0.execute("EXISTS", "x") == "0" }
        }
        for server in servers.prefix(3) { try await server.start() }
        try await self.eventually("it does not go on") {
            (try? await store.acquire(Make.request("y", contention: .fail)).token) != nil
        }
    }

    @Test
    func `a server that hangs keeps nobody waiting, and gives up what it took while it hung`() async throws {
        let servers = try await self.servers(3)
        let (a, b) = try (self.store(servers), self.store(servers))
        for store in [a, b] {
            let request = Make.request("warm")
            _ = try #require(try await store.acquire(request).token)
            _ = try await store.release(request.key)
        }
        for round in 0..<10 {
            let hung = servers[round % 3]
            hung.pause()
            let request = Make.request("x", lease: .seconds(30))
            _ = try #require(try await a.acquire(request).token, "round \(round)")
            #expect(try await a.release(request.key) == .released)
            let next = Make.request("x", lease: .seconds(30))
            _ = try #require(try await b.acquire(next).token, "round \(round)")
            #expect(try await b.release(next.key) == .released)
            hung.resume()
            try await self.eventually("an orphan is left, round \(round)") { try hung.execute("EXISTS", "x") == "0" }
            // Connected again, so that the next round finds three.
            try await self.eventually("no connection, round \(round)") {
                let probe = Make.request(try Resource("probe/\(round)"))
                for store in [a, b] { _ = try await store.acquire(probe) }
                let isThere = try hung.execute("EXISTS", "probe/\(round)") == "1"
                for store in [a, b] { _ = try await store.release(probe.key) }
                return isThere
            }
        }
    }

    @Test
    func `a request that was tried while servers were away is granted when they are back`() async throws {
        let servers = try await self.servers(5)
        let store = try self.store(servers)
        try await warm(store)
        for round in 0..<3 {
            // Those asked first fail at once, and decide before the others are asked.
            for server in servers.prefix(3) { server.kill() }
            let request = Make.request("x")
            for _ in 0..<20 {
                await #expect(throws: LockError.self) { try await store.acquire(request) }
                try await Task.sleep(for: .milliseconds(5))
            }
            try await servers[2].start()
            try await self.eventually("it is not granted, round \(round)") {
                (try? await store.acquire(request).token) != nil
            }
            #expect(try await store.release(request.key) == .released)
            for server in servers.prefix(2) { try await server.start() }
        }
    }

    // MARK: - Tokens

    @Test
    func `tokens rise over 300 grants while a minority comes and goes and forgets`() async throws {
        // Without the second round a majority without the fastest clock would go back.
        let servers = try await self.servers(5, hasOwnClock: true)
        func set(_ number: Int) throws { try servers[number].setClock(ahead: .milliseconds(number * 700)) }
        for number in 0..<5 { try set(number) }
        let stores = try (0..<3).map { _ in try self.store(servers) }
        var last = FencingToken.zero
        var down: [Int] = []
        for number in 0..<300 {
            if number.isMultiple(of: 10) {
                for number in down {
                    try await servers[number].start()
                    try set(number)
                }
                down = Array((0..<5).shuffled().prefix(2))
                for number in down { servers[number].kill() }
            }
            var token: FencingToken?
            let request = Make.request("x")
            try await self.eventually("grant \(number)") {
                token = try? await stores[number % 3].acquire(request).token
                return token != nil
            }
            let given = try #require(token)
            #expect(given > last, "grant \(number)")
            last = given
            try await self.eventually("release \(number)") {
                (try? await stores[number % 3].release(request.key)) != nil
            }
        }
    }

    @Test
    func `tokens go on rising after all servers lost everything`() async throws {
        let servers = try await self.servers(3)
        let store = try self.store(servers)
        let request = Make.request("x")
        let before = try #require(try await store.acquire(request).token)
        for server in servers { try await server.restart() }
        let after = try await self.takeFirst(Make.request("x"), store)
        #expect(after > before)
    }

    // MARK: - Clocks

    @Test
    func `R7 a clock that jumps is noticed, and one that jumps ahead frees nothing on the others`() async throws {
        let servers = try await self.servers(3, hasOwnClock: true)
        let (a, b) = try (self.store(servers), self.store(servers))
        let seen = Alarms()
        a.onClockAlarm { alarm in seen.append(alarm) }
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await a.run() }
            let held = Make.request("x", lease: .seconds(20))
            let token = try #require(try await a.acquire(held).token)
            try await Task.sleep(for: .milliseconds(300))
            try servers[2].setClock(ahead: .seconds(31))
            #expect(try await b.acquire(Make.request("x", contention: .fail)).isBusy)
            #expect(
                try await a.renew([Renewal(key: held.key, lease: .seconds(20))]) == [.renewed(revokeRequested: false)]
            )
            try await self.eventually("nobody noticed") { !seen.all.isEmpty }
            #expect(seen.all.first?.isJump == true && a.clockSkew > .seconds(30))
            #expect(try await a.release(held.key) == .released)
            // An hour back: leases there seem to last for an hour, on one server of three.
            try servers[2].setClock(ahead: .seconds(-3600))
            let next = Make.request("x")
            #expect(try #require(try await b.acquire(next).token) > token)
            #expect(try await b.release(next.key) == .released)
            group.cancelAll()
        }
    }

    // MARK: - Contending

    @Test
    func `services that contend while servers go one after the other never overlap, and lose no update`() async throws {
        let servers = try await self.servers(3)
        let counter = Tally()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<4 {
                let store = try self.store(servers)
                group.addTask {
                    try await withLockService(store: store) { locks in
                        for _ in 0..<25 {
                            try await locks.withLock("counter", lease: .seconds(5)) { lease in
                                let value = counter.enter()
                                await Task.yield()
                                counter.leave(writing: value + 1, lease.fencingToken)
                            }
                        }
                    }
                }
            }
            group.addTask {
                // One at a time, and none forgets within a lease what it knew: those that hang still know.
                for round in 0... {
                    let server = servers[round % 3]
                    server.pause()
                    try await Task.sleep(for: .milliseconds(300))
                    server.resume()
                    try await Task.sleep(for: .milliseconds(200))
                    if counter.isOver { return }
                }
            }
            for _ in 0..<4 { try await group.next() }
            counter.isOver = true
            try await group.waitForAll()
        }
        #expect(counter.overlaps == 0)
        #expect(counter.value == 100)
        #expect(counter.refused == 0)
        // A copy that came late may have left a place behind; who comes next is held up by it for an acceptance time at most.
        try await withLockService(store: try self.store(servers)) { locks in
            for _ in 0..<2 { try await locks.withLock("counter", waitingAtMost: .seconds(20)) { _ in } }
        }
        for server in servers {
            try await self.eventually("the lock is left on server \(server.port)") {
                try server.execute("EXISTS", "counter") == "0"
            }
        }
    }

    @Test
    func `a thousand tries that time out leave no place and no hold`() async throws {
        let servers = try await self.servers(3)
        let (a, b) = try (self.store(servers), self.store(servers))
        let held = Make.request("x", lease: .seconds(60))
        _ = try #require(try await a.acquire(held).token)
        try await withLockService(store: b) { locks in
            await withTaskGroup(of: Void.self) { group in
                for worker in 0..<10 {
                    group.addTask {
                        for number in 0..<100 {
                            let limit = Duration.milliseconds((worker * 7 + number * 13) % 50)
                            _ = try? await locks.withLock("x", waitingAtMost: limit) { _ in Issue.record("it is held") }
                        }
                    }
                }
            }
        }
        for server in servers {
            try await self.eventually("places are left") { try server.execute("EXISTS", "hf:{x}:q") == "0" }
        }
        #expect(try await a.release(held.key) == .released)
        let next = Make.request("x")
        #expect(try await b.acquire(next).token != nil)
    }

    @Test
    func `plain Redlock clients and ours exclude each other on a majority`() async throws {
        let servers = try await self.servers(3)
        let store = try self.store(servers)
        for server in servers.prefix(2) {
            #expect(try server.execute("SET", "x", "theirs", "NX", "PX", "60000") == "OK")
        }
        #expect(try await store.acquire(Make.request("x", contention: .fail)).isBusy)
        #expect(try await store.status(of: "x").holders.count == 1)
        try await self.eventually("the try was not given up") { try servers[2].execute("EXISTS", "x") == "0" }
        let mine = Make.request("y")
        #expect(try await store.acquire(mine).token != nil)
        try await self.eventually("all three have it") {
            try servers.allSatisfy { try $0.execute("EXISTS", "y") == "1" }
        }
        #expect(try servers.allSatisfy { try $0.execute("SET", "y", "theirs", "NX", "PX", "60000") == "(nil)" })
        #expect(try await store.release(mine.key) == .released)
    }

    // MARK: - Refusing

    @Test
    func `semaphores and leases beyond the guard are refused before anything is sent`() async throws {
        let store = try RedisQuorumLockStore(url: "redis://127.0.0.1:1,127.0.0.1:2,127.0.0.1:3?guard=5s")
        let permits = await #expect(throws: LockError.self) {
            try await store.acquire(Make.request("x", mode: .permit(of: 2), lease: .seconds(1)))
        }
        #expect(permits?.code == .unsupported && permits?.message.contains("semaphores") == true)
        let long = await #expect(throws: LockError.self) {
            try await store.acquire(Make.request("x", lease: .seconds(6)))
        }
        #expect(long?.code == .invalidArgument && long?.message.contains("guard=") == true)
        #expect(store.capabilities.maximumLease == .seconds(5))
    }

    @Test
    func `servers that evict keys are refused`() async throws {
        var servers: [RedisServer] = []
        for _ in 0..<3 {
            servers.append(
                try await RedisServer(arguments: ["--maxmemory", "8mb", "--maxmemory-policy", "allkeys-lru"])
            )
        }
        let store = try self.store(servers)
        let error = await #expect(throws: LockError.self) { try await store.acquire(Make.request("x")) }
        #expect(error?.code == .storeRefused && error?.message.contains("evict") == true)
        await #expect(throws: LockError.self) { try await store.run() }
    }
}

/// Collects alarms.
private final class Alarms: Sendable {
    private let alarms = Mutex<[RedisQuorumLockStore.ClockAlarm]>([])

    init() {}

    var all: [RedisQuorumLockStore.ClockAlarm] { self.alarms.withLock { $0 } }

    func append(_ alarm: RedisQuorumLockStore.ClockAlarm) { self.alarms.withLock { $0.append(alarm) } }
}
