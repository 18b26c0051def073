// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import HoldfastRedis
import HoldfastTesting
import Synchronization
import Testing

/// On a cluster: real nodes, real failovers, slots that move.
@Suite("Cluster", .timeLimit(.minutes(5)), .serialized)
struct ClusterTests {
    private func eventually(_ what: Comment, within limit: Duration, _ holds: () async throws -> Bool) async throws {
        let end = ContinuousClock.now.advanced(by: limit)
        while ContinuousClock.now < end {
            if try await holds() { return }
            try await Task.sleep(for: .milliseconds(10))
        }
        Issue.record(what)
    }

    private func store(_ servers: RedisClusterServers, _ settings: String = "") throws -> RedisLockStore {
        try RedisLockStore(url: "\(servers.url)?timeout=3s&\(settings)")
    }

    private func another(than server: RedisServer, _ servers: RedisClusterServers) throws -> RedisServer {
        // Their slots do not move.
        try #require(["0", "1", "2", "3"].compactMap { try servers.owner(of: $0) }.first { $0 !== server })
    }

    // MARK: - Whole clusters

    @Test
    func `locks are spread over all masters, listed, renewed in one call, and their waiters told`() async throws {
        let servers = try await RedisClusterServers()
        let (a, b) = (try self.store(servers), try self.store(servers))
        let names = (0..<60).map { "many/\($0)" }
        var held: [LockRequest] = []
        for name in names {
            let request = Make.request(try Resource(name), lease: .seconds(60))
            #expect(try await a.acquire(request).token != nil)
            held.append(request)
        }
        let owners = try names.map { try #require(try servers.owner(of: $0)).port }
        #expect(Set(owners).count == 3)
        // Keys of one lock are in one slot.
        for (name, port) in zip(names, owners) {
            let owner = try #require(servers.servers.first { $0.port == port })
            #expect(try owner.execute("EXISTS", name, "hf:{\(name)}:h") == "2")
        }
        let renewals = held.map { Renewal(key: $0.key, lease: .seconds(50)) }
        let replies = try await a.renew(renewals)
        #expect(replies == Array(repeating: .renewed(revokeRequested: false), count: 60))

        var found: Set<String> = []
        var cursor: SurveyPage.Cursor?
        repeat {
            let page = try await b.survey("many/*", after: cursor)
            found.formUnion(page.resources.map(\.resource.name))
            cursor = page.next
        } while cursor != nil
        #expect(found == Set(names))

        let signals = Signals(of: b)
        let waiters = held.map { Make.request($0.resource, lease: .seconds(60)) }
        for waiter in waiters { #expect(try await b.acquire(waiter).place != nil) }
        for request in held { #expect(try await a.release(request.key) == .released) }
        let missing = Mutex(Set(waiters.map(\.id)))
        _ = await signals.first { signal in
            missing.withLock { missing in
                if case .granted(let id) = signal { missing.remove(id) }
                return missing.isEmpty
            }
        }
        #expect(missing.withLock { $0.count } == 0, "were not told")
    }

    @Test
    func `what a slot's new master says is followed, and nobody fails meanwhile`() async throws {
        let servers = try await RedisClusterServers()
        let (a, b) = (try self.store(servers), try self.store(servers))
        let held = Make.request("x", lease: .seconds(60))
        let token = try #require(try await a.acquire(held).token)
        let waiter = Make.request("x", lease: .seconds(60))
        #expect(try await b.acquire(waiter).place != nil)
        let signals = Signals(of: b)
        let old = try #require(try servers.owner(of: "x"))
        let target = try self.another(than: old, servers)
        let renewing = Mutex(Task<[RenewReply], any Error>?.none)
        try await servers.move(slotOf: "x", to: target) {
            // Asked while the slot is on its way, answered when it has arrived.
            renewing.withLock { $0 = Task { try await a.renew([Renewal(key: held.key, lease: .seconds(60))]) } }
            try await Task.sleep(for: .milliseconds(100))
        }
        #expect(try await #require(renewing.withLock { $0 }).value == [.renewed(revokeRequested: false)])
        #expect(try old.execute("GET", "x").hasPrefix("MOVED"))
        #expect(try await a.renew([Renewal(key: held.key, lease: .seconds(60))]) == [.renewed(revokeRequested: false)])
        #expect(try await a.release(held.key) == .released)
        // The waiter's place came along, and the message finds it.
        let told = await signals.first(within: .seconds(5)) { signal in
            if case .granted(let id) = signal { id == waiter.id } else { false }
        }
        #expect(told != nil)
        #expect(try #require(try await b.acquire(waiter).token) > token)
    }

    @Test
    func `a request for a slot that is on its way waits for it, within the call's time`() async throws {
        let servers = try await RedisClusterServers()
        let store = try self.store(servers)
        // It knows the map.
        #expect(try await store.acquire(Make.request("other")).token != nil)
        let old = try #require(try servers.owner(of: "x"))
        let target = try self.another(than: old, servers)
        let request = Make.request("x", lease: .seconds(60))
        let asked = Mutex(Task<AcquireReply, any Error>?.none)
        try await servers.move(slotOf: "x", to: target) {
            // The old master says ASK, the new one TRYAGAIN, since scripts have several keys.
            asked.withLock { $0 = Task { try await store.acquire(request) } }
            try await Task.sleep(for: .milliseconds(300))
        }
        let reply = try await #require(asked.withLock { $0 }).value
        #expect(reply.token != nil)
        #expect(try target.execute("EXISTS", "x") == "1")
        #expect(try await store.release(request.key) == .released)
    }

    @Test
    func `R12 services contend while slots move, and nobody meets another`() async throws {
        let servers = try await RedisClusterServers()
        let counted = Counted()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<3 {
                let store = try self.store(servers)
                group.addTask {
                    try await withLockService(store: store) { locks in
                        try await withThrowingTaskGroup(of: Void.self) { inner in
                            for name in ["x", "a", "b"] {
                                inner.addTask {
                                    for _ in 0..<150 {
                                        try await locks.withLock(try Resource(name), lease: .seconds(20)) { lease in
                                            try await counted.visit(name, lease.fencingToken)
                                        }
                                    }
                                }
                            }
                            try await inner.waitForAll()
                        }
                    }
                }
            }
            group.addTask {
                for number in 0..<12 {
                    let key = ["x", "a", "b"][number % 3]
                    let owner = try #require(try servers.owner(of: key))
                    try await servers.move(slotOf: key, to: try self.another(than: owner, servers))
                    try await Task.sleep(for: .milliseconds(50))
                }
            }
            try await group.waitForAll()
        }
        #expect(counted.visits == 3 * 3 * 150)
        #expect(counted.overlaps == 0)
        #expect(counted.wentBack == 0)
    }

    // MARK: - Failovers

    @Test
    func `R11 a master that dies: locks of its slots go on with its replica within twice the node timeout and 2 s`()
        async throws
    {
        let nodeTimeout = Duration.seconds(1)
        let limit = nodeTimeout * 2 + .seconds(2)
        let time = try await atBest(within: limit) { try await self.timeUntilReplaced(nodeTimeout) }
        #expect(time < limit)
    }

    /// How long after a master's death two clients can lock in its slots again.
    private func timeUntilReplaced(_ nodeTimeout: Duration) async throws -> Duration {
        let servers = try await RedisClusterServers(nodeTimeout: nodeTimeout)
        let (a, b) = (try self.store(servers), try self.store(servers))
        let held = Make.request("x", lease: .seconds(60))
        let token = try #require(try await a.acquire(held).token)
        let waiter = Make.request("x", lease: .seconds(60))
        #expect(try await b.acquire(waiter).place != nil)
        let old = try #require(try servers.owner(of: "x"))
        let elsewhere = try #require(["a", "b", "c"].first { try servers.owner(of: $0) !== old })
        try await Task.sleep(for: .milliseconds(100))
        let start = ContinuousClock.now
        old.kill()
        // Others are not held up.
        let other = Make.request(try Resource(elsewhere))
        #expect(try await a.acquire(other).token != nil)
        let heldUp = start.duration(to: .now)
        for store in [a, b] {
            try await self.eventually("it does not go on", within: .seconds(20)) {
                let request = Make.request("x", contention: .fail)
                return (try? await store.acquire(request)) != nil
            }
        }
        // Those who lock elsewhere wait for nothing, and have a second for it.
        let time = max(start.duration(to: .now), heldUp * 4)
        #expect(try servers.owner(of: "x") !== old)
        #expect(try await a.renew([Renewal(key: held.key, lease: .seconds(60))]) == [.renewed(revokeRequested: false)])
        #expect(try await a.release(held.key) == .released)
        try await self.eventually("the waiter waits for ever", within: .seconds(5)) {
            guard let next = try? await b.acquire(waiter).token else { return false }
            #expect(next > token)
            return true
        }
        return time
    }

    @Test
    func `those who wait hear of a release on the replica that took over`() async throws {
        let bar = Duration.seconds(2)
        let time = try await atBest(within: bar) { try await self.timeUntilServed() }
        #expect(time < bar)
    }

    /// How long after a release, just after a replica's promotion, three waiters of that time are served.
    private func timeUntilServed() async throws -> Duration {
        let servers = try await RedisClusterServers()
        let holder = try self.store(servers)
        let held = Make.request("x", lease: .seconds(60))
        #expect(try await holder.acquire(held).token != nil)
        let old = try #require(try servers.owner(of: "x"))
        var configuration = LockServiceConfiguration()
        configuration.outageLimit = .seconds(40)
        return try await withThrowingTaskGroup(of: ContinuousClock.Instant.self) { group in
            for number in 0..<3 {
                let store = try self.store(servers)
                group.addTask { [configuration] in
                    try await withLockService(store: store, configuration: configuration) { locks in
                        try await locks.withLock("x", waitingAtMost: .seconds(40)) { _ in ContinuousClock.now }
                    }
                }
                try await self.eventually("waiter \(number) does not wait", within: .seconds(10)) {
                    try old.execute("ZCARD", "hf:{x}:q") == "\(number + 1)"
                }
            }
            try await Task.sleep(for: .milliseconds(100))
            old.kill()
            try await self.eventually("no failover", within: .seconds(20)) {
                guard let owner = try? servers.owner(of: "x") else { return false }
                return owner !== old
            }
            // They wait there too, and have nothing to ask.
            try await Task.sleep(for: .milliseconds(1500))
            try await self.eventually("it cannot be given back", within: .seconds(10)) {
                (try? await holder.release(held.key)) == .released
            }
            let released = ContinuousClock.now
            var served: [ContinuousClock.Instant] = []
            for try await instant in group { served.append(instant) }
            return try #require(served.map { released.duration(to: $0) }.max())
        }
    }

    @Test
    func `a failover that was asked for loses nothing, and a waiter is told on the new master`() async throws {
        let servers = try await RedisClusterServers()
        let (a, b) = (try self.store(servers), try self.store(servers))
        let held = Make.request("x", lease: .seconds(60))
        #expect(try await a.acquire(held).token != nil)
        let waiter = Make.request("x", lease: .seconds(60), acceptance: .seconds(5))
        #expect(try await b.acquire(waiter).place != nil)
        let signals = Signals(of: b)
        let old = try #require(try servers.owner(of: "x"))
        let replica = try #require(servers.replica(of: old))
        #expect(try replica.execute("CLUSTER", "FAILOVER") == "OK")
        try await self.eventually("no failover", within: .seconds(10)) { try servers.owner(of: "x") === replica }
        #expect(try await a.release(held.key) == .released)
        let told = await signals.first(within: .seconds(10)) { signal in
            if case .granted(let id) = signal { id == waiter.id } else { false }
        }
        #expect(told != nil)
        #expect(try await b.acquire(waiter).token != nil)
    }

    @Test
    func `when no node answers it says so, and goes on when they are back`() async throws {
        let servers = try await RedisClusterServers()
        let store = try RedisLockStore(url: servers.url + "?timeout=500ms")
        let request = Make.request("x")
        #expect(try await store.acquire(request).token != nil)
        for server in servers.servers { server.pause() }
        let error = await #expect(throws: LockError.self) { try await store.acquire(Make.request("y")) }
        #expect(error?.code == .storeUnavailable)
        for server in servers.servers { server.resume() }
        try await self.eventually("it does not go on", within: .seconds(10)) {
            (try? await store.release(request.key)) == .released
        }
    }

    @Test
    func `a service that starts before its cluster waits for it`() async throws {
        let servers = try await RedisClusterServers()
        let port = try await RedisServer().port
        // Nobody listens there any more.
        let none = try RedisLockStore(url: "redis+cluster://127.0.0.1:\(port)?timeout=300ms")
        try await withLockService(store: none) { locks in
            await #expect(throws: LockError.self) { _ = try await locks.tryAcquire("x") }
            try await Task.sleep(for: .milliseconds(200))
        }
        let alone = try await RedisServer()
        let url = alone.url.replacing("redis://", with: "redis+cluster://")
        let wrong = try RedisLockStore(url: url + "?timeout=300ms")
        let error = await #expect(throws: LockError.self) {
            try await withLockService(store: wrong) { locks in
                try await Task.sleep(for: .milliseconds(500))
                _ = try await locks.tryAcquire("x")
            }
        }
        #expect(error?.code == .storeRefused)
        // As often as it is planned, and not as often as it can be.
        let connections = try alone.execute("INFO", "stats").split(whereSeparator: \.isNewline)
            .first { $0.hasPrefix("total_commands_processed:") }
        let count = try #require(connections?.split(separator: ":").last.flatMap { Int($0.filter(\.isNumber)) })
        #expect(count < 200)
        for server in servers.servers { server.pause() }
        let store = try RedisLockStore(url: servers.url + "?timeout=300ms")
        try await withLockService(store: store) { locks in
            await #expect(throws: LockError.self) { _ = try await locks.tryAcquire("x") }
            for server in servers.servers { server.resume() }
            try await self.eventually("it does not go on", within: .seconds(10)) {
                (try? await locks.tryAcquire("x")) != nil
            }
        }
    }

    @Test
    func `a master that hangs holds up no renewals at the others`() async throws {
        let servers = try await RedisClusterServers(nodeTimeout: .seconds(60))
        let store = try RedisLockStore(url: servers.url + "?timeout=10s")
        try await withLockService(store: store) { locks in
            // Names of all masters.
            var leases: [(lease: Lease, port: Int)] = []
            for name in (0..<12).map({ "r\($0)" }) {
                let lease = try await locks.acquire(try Resource(name), lease: .seconds(4))
                leases.append((lease, Int(try #require(try servers.owner(of: name)).port)))
            }
            let hanging = try #require(try servers.owner(of: "r0"))
            #expect(Set(leases.map(\.port)).count > 1)
            hanging.pause()
            try await Task.sleep(for: .seconds(8))
            for (lease, port) in leases where port != Int(hanging.port) { try lease.checkValid() }
            hanging.resume()
        }
    }

    // MARK: - What is said

    @Test
    func `the least permissions suffice on a cluster`() async throws {
        let servers = try await RedisClusterServers()
        for server in servers.servers {
            let rules = RedisPermissions.rules(prefix: "lk:", isCluster: true)
            #expect(try server.execute(["ACL", "SETUSER", "locks", "on", ">secret"] + rules) == "OK")
            try server.execute("ACL", "LOG", "RESET")
        }
        let url = servers.url.replacing("://", with: "://locks:secret@") + "?prefix=lk:&timeout=5s"
        for promise in StoreContract.cases where !promise.description.contains("lease") {
            let name = "\(promise.description.utf8.reduce(0) { ($0 &* 31 &+ Int($1)) & 0xFFFF_FFFF })/"
            var subject = StoreContract.Subject(namePrefix: name) { try RedisLockStore(url: url) }
            subject.agreesOnAges = false
            try await promise.check(subject)
        }
        for server in servers.servers { #expect(try server.execute("ACL", "LOG") == "", "something was refused") }
        for server in servers.servers.prefix(3) {
            let calls = try server.execute("INFO", "commandstats").split(whereSeparator: \.isNewline)
            for command in ["ssubscribe", "spublish"] {
                let line = calls.first { $0.hasPrefix("cmdstat_\(command):") } ?? ""
                // In shards, too: on Redis 7 and later nothing goes to nodes that do not care.
                #expect(line.contains("rejected_calls=0,failed_calls=0"), "\(command): \(line)")
            }
        }
    }

    @Test
    func `masters that would grant on without replicas are named, or refused where that is asked for`() async throws {
        let servers = try await RedisClusterServers()
        let store = try self.store(servers)
        let said = Mutex<Set<String>>([])
        store.onCaution { caution in said.withLock { _ = $0.insert(caution.server) } }
        #expect(try await store.acquire(Make.request("x")).token != nil)
        let owner = try #require(try servers.owner(of: "x"))
        #expect(said.withLock { $0.contains("127.0.0.1:\(owner.port)") })
        #expect(said.withLock { $0.count } <= 3, "replicas were named")
        let strict = try self.store(servers, "lone-master=refuse")
        let error = await #expect(throws: LockError.self) { try await strict.acquire(Make.request("y")) }
        #expect(error?.code == .storeRefused && error?.message.contains("min-replicas-to-write") == true)
        let findings = await store.diagnose().filter { $0.name.hasSuffix("min-replicas-to-write") }
        #expect(findings.count == 3 && findings.allSatisfy { $0.severity == .warning })
    }

    @Test
    func `a server for one is not a cluster, and a node of a cluster no server for one`() async throws {
        let single = try await RedisServer()
        let no = try RedisLockStore(url: "redis+cluster://127.0.0.1:\(single.port)")
        let error = await #expect(throws: LockError.self) { try await no.acquire(Make.request("x")) }
        #expect(error?.code == .storeRefused)
        #expect(error?.message.contains("write redis://127.0.0.1:\(single.port)") == true, "\(error?.message ?? "")")

        let servers = try await RedisClusterServers()
        let owner = try servers.owner(of: "x")
        let wrong = try #require(servers.servers.first { $0 !== owner })
        let node = try RedisLockStore(url: wrong.url)
        let moved = await #expect(throws: LockError.self) { try await node.acquire(Make.request("x")) }
        #expect(moved?.code == .storeRefused && moved?.message.contains("redis+cluster://") == true)

        // Doctor tells of the whole and of each.
        let findings = await (try self.store(servers)).diagnose()
        #expect(findings.first?.value == "3 masters, 16384 of 16384 slots")
        #expect(findings.count { $0.name.hasSuffix(" round trip") } == 3)
        #expect(findings.count { $0.name == "least permissions" && $0.value.contains("+asking") } == 1)
        #expect(findings.allSatisfy { $0.severity != .problem }, "\(findings)")
    }
}

/// Counts who is in a room at once, and tokens that went back.
private final class Counted: Sendable {
    private struct State {
        var inside: [String: Int] = [:]
        var last: [String: FencingToken] = [:]
        var visits = 0
        var overlaps = 0
        var wentBack = 0
    }

    private let state = Mutex(State())

    var visits: Int { self.state.withLock { $0.visits } }
    var overlaps: Int { self.state.withLock { $0.overlaps } }
    var wentBack: Int { self.state.withLock { $0.wentBack } }

    func visit(_ room: String, _ token: FencingToken) async throws {
        self.state.withLock { state in
            state.visits += 1
            state.inside[room, default: 0] += 1
            if state.inside[room] != 1 { state.overlaps += 1 }
            if let last = state.last[room], token <= last { state.wentBack += 1 }
            state.last[room] = token
        }
        await Task.yield()
        self.state.withLock { $0.inside[room, default: 0] -= 1 }
    }
}
