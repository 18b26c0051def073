// SPDX-License-Identifier: Apache-2.0

import Glibc
import Holdfast
import HoldfastCache
import HoldfastCore
import HoldfastRedis
import HoldfastRedisCache
import HoldfastTesting
import Synchronization
import Testing

/// Caches, locks and bus on one real server that fails.
@Suite("Faults of a shared cache", .timeLimit(.minutes(5)))
struct SharedCacheFaultTests {
    private typealias Texts = SharedCache<String, String>

    /// Runs services with a cache each, as if each were a process.
    private func withCaches(
        _ count: Int,
        url: String,
        locks lockURL: String? = nil,
        fillLease: Duration = .seconds(5),
        channel: String = Make.channel(),
        _ body: @escaping @Sendable ([Texts]) async throws -> Void
    ) async throws {
        // The first may have a way of its own to the locks.
        let locks = try (0..<count).map { number in
            try LockService(store: RedisLockStore(url: number == 0 ? lockURL ?? url : url))
        }
        let services = try locks.map { locks in
            let redis = try RedisCacheConnection(url: url, channel: channel)
            return try CacheService(tier: RedisCacheTier(redis), bus: RedisCacheBus(redis), locks: locks)
        }
        let caches = try services.map { service in
            try service.sharedCache("faults", of: String.self, keyedBy: String.self) {
                $0.options.timeToLive = .seconds(600)
                $0.fillLease = fillLease
            }
        }
        try await withThrowingTaskGroup(of: Bool.self) { group in
            for one in locks {
                group.addTask {
                    try await one.run()
                    return false
                }
            }
            for one in services {
                group.addTask {
                    try await one.run()
                    return false
                }
            }
            group.addTask {
                try await eventually("no news come") { services.allSatisfy(\.isListening) }
                try await body(caches)
                return true
            }
            defer { group.cancelAll() }
            while try await group.next() == false {}
        }
    }

    @Test
    func `news that were cut off are made up for: nothing old is given once they come again`() async throws {
        let server = try await RedisServer()
        try await self.withCaches(3, url: server.url + "?timeout=5s") { caches in
            for round in 1...10 {
                let key = "k\(round % 3)"
                for cache in caches { #expect(try await cache.value(for: key) { "old" } == "old") }
                try server.execute("CLIENT", "KILL", "TYPE", "pubsub")
                // The message goes to whoever is subscribed at that moment: perhaps nobody.
                try await caches[0].set("new", for: key)
                for cache in caches {
                    try await eventually("it gives what was replaced", within: .seconds(5)) {
                        try await cache.value(for: key) { "other" } == "new"
                    }
                }
                try await caches[round % 3].remove(key)
                for cache in caches {
                    try await eventually("it gives what was removed", within: .seconds(5)) {
                        try await cache.value(for: key) { "old" } == "old"
                    }
                }
            }
        }
    }

    /// How a server fails.
    enum Outage: CaseIterable {
        case hangs, isGone

        func begin(_ server: RedisServer) { if self == .hangs { server.pause() } else { server.kill() } }

        func end(_ server: RedisServer) async throws {
            if self == .hangs { server.resume() } else { try await server.start() }
        }
    }

    /// What a busy machine may add to a load, beside what it is seen to take from everybody.
    private static let slack: Duration = .milliseconds(700)

    /// Loads keys one after the other for a while.
    ///
    /// - Returns: How long each took, and how much time the machine took meanwhile from a task that only sleeps: other tests
    ///   and other processes have work too.
    private func loadTimes(
        _ cache: Texts,
        _ name: String,
        for time: Duration
    ) async throws -> (loads: [Duration], stolen: Duration) {
        let end = ContinuousClock.now.advanced(by: time)
        async let stolen = Self.stolenTime(until: end)
        var times: [Duration] = []
        while ContinuousClock.now < end {
            let start = ContinuousClock.now
            let value = try await cache.value(for: "\(name) \(times.count)") { "v" }
            #expect(value == "v")
            times.append(start.duration(to: .now))
        }
        return (times, try await stolen)
    }

    private static func stolenTime(until end: ContinuousClock.Instant) async throws -> Duration {
        var stolen = Duration.zero
        while ContinuousClock.now < end {
            let start = ContinuousClock.now
            try await Task.sleep(for: .milliseconds(5))
            let time = start.duration(to: .now)
            if time > .milliseconds(30) { stolen += time }
        }
        return stolen
    }

    @Test(arguments: Outage.allCases, [300, 1000])
    func `a server that fails costs one load its timeout, once, and the others next to nothing`(
        outage: Outage,
        milliseconds: Int
    ) async throws {
        let server = try await RedisServer()
        let timeout = Duration.milliseconds(milliseconds)
        try await self.withCaches(1, url: server.url + "?timeout=\(milliseconds)ms") { caches in
            let cache = caches[0]
            #expect(try await cache.value(for: "before") { "1" } == "1")
            for round in 1...2 {
                outage.begin(server)
                let (times, stolen) = try await self.loadTimes(cache, "\(round)", for: timeout + .seconds(3))
                let limit = timeout + Self.slack + stolen
                // Tier, locks and the write have failed together, in the time of one of them.
                #expect(times.allSatisfy { $0 < limit }, "\(times.max() ?? .zero), \(stolen) of it stolen")
                // From then on nobody waits: only now and then a moment, for whether it works again.
                let lost = times.filter { $0 > .milliseconds(100) }.reduce(.zero, +)
                #expect(lost < limit + Self.slack, "\(lost), \(stolen) of it stolen")
                #expect(times.sorted()[times.count / 2] < .milliseconds(20))
                // What is only doubted, since no news come, is given and not loaded.
                #expect(try await cache.value(for: "before") { "2" } == "1")
                try await outage.end(server)
                let back = ContinuousClock.now
                try await eventually("it does not come back") {
                    let text = "after \(round) \(UInt64.random(in: 0...UInt64.max))"
                    _ = try await cache.value(for: text) { "v" }
                    return try server.execute("EXISTS", "hfc:faults:\(text)").contains("1")
                }
                #expect(back.duration(to: .now) < .seconds(3) + Self.slack)
            }
            #expect(cache.statistics().unlockedFills > 0 && cache.statistics().tierFailures > 0)
        }
    }

    @Test
    func `a server that hangs while a loader runs holds its caller up for one timeout`() async throws {
        let bar = Duration.milliseconds(500) + Self.slack
        let time = try await atBest(within: bar) {
            let server = try await RedisServer()
            let time = Mutex(Duration.zero)
            try await self.withCaches(1, url: server.url + "?timeout=500ms") { caches in
                #expect(try await caches[0].value(for: "before") { "1" } == "1")
                let start = ContinuousClock.now
                let value = try await caches[0].value(for: "k") { _ in
                    server.pause()
                    return "v"
                }
                #expect(value == "v")
                time.withLock { $0 = start.duration(to: .now) }
                server.resume()
            }
            return time.withLock { $0 }
        }
        #expect(time < bar)
    }

    @Test
    func `who waits for another's load does not wait for a server that hangs meanwhile`() async throws {
        // Until it asks whether there is still anybody to wait for, and one timeout.
        let bar = Duration.milliseconds(500) * 2 + Self.slack
        let time = try await atBest(within: bar) { try await self.timeBesideALoad() }
        #expect(time < bar)
    }

    /// How long who waits for another's load is held up by a server that hangs, with a timeout of half a second.
    private func timeBesideALoad() async throws -> Duration {
        let server = try await RedisServer()
        let time = Mutex(Duration.zero)
        try await self.withCaches(2, url: server.url + "?timeout=500ms") { caches in
            let (isLoading, loading) = AsyncStream<Void>.makeStream()
            let (isOver, over) = AsyncStream<Void>.makeStream()
            try await withThrowingTaskGroup(of: String.self) { group in
                group.addTask {
                    try await caches[0].value(for: "k") {
                        loading.finish()
                        for await _ in isOver {}
                        return "first"
                    }
                }
                for await _ in isLoading {}
                group.addTask { try await caches[1].value(for: "k") { "second" } }
                // Long enough to stand in the queue.
                try await Task.sleep(for: .milliseconds(200))
                let start = ContinuousClock.now
                server.pause()
                let second = try await group.next()
                #expect(second == "second")
                time.withLock { $0 = start.duration(to: .now) }
                server.resume()
                over.finish()
                let first = try await group.next()
                #expect(first == "first")
            }
        }
        return time.withLock { $0 }
    }

    @Test
    func `of a hundred values that come late none takes the place of a newer one or of a removal`() async throws {
        let server = try await RedisServer()
        let proxy = try FaultProxy(to: server.port, isFramed: false)
        let way = "redis://127.0.0.1:\(proxy.port)?timeout=1s"
        try await self.withCaches(2, url: server.url + "?timeout=5s", locks: way, fillLease: .seconds(1)) { caches in
            let keys = (0..<100).map { "k\($0)" }
            let isOver = Flag()
            let (isLoading, loading) = AsyncStream<Void>.makeStream()
            try await withThrowingTaskGroup(of: Void.self) { group in
                for key in keys {
                    group.addTask {
                        let old = try await caches[0].value(for: key) {
                            loading.yield()
                            while !isOver.isUp { try await Task.sleep(for: .milliseconds(10)) }
                            return "old"
                        }
                        #expect(old == "old")
                    }
                }
                for await _ in isLoading.prefix(keys.count) {}
                // Asleep as far as its locks are concerned, so that they end while it loads.
                proxy.refuse()
                proxy.cut()
                for (number, key) in keys.enumerated() {
                    if number % 2 == 0 {
                        try await caches[1].remove(key)
                    } else {
                        let new = try await caches[1].value(for: key) { "new" }
                        #expect(new == "new")
                    }
                }
                isOver.raise()
                try await group.waitForAll()
            }
            for (number, key) in keys.enumerated() {
                let kept = number % 2 == 0 ? nil : "new"
                for cache in caches {
                    let got = try await cache.get(key)
                    #expect(got == kept, "\(key)")
                }
            }
            proxy.pass()
        }
    }

    /// Uses up all file descriptors of this process.
    private static func useUpDescriptors() -> [Int32] {
        var limit = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        limit.rlim_cur = min(limit.rlim_cur, 256)
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        var used: [Int32] = []
        while case let file = open("/dev/null", O_RDONLY), file >= 0 { used.append(file) }
        return used
    }

    @Test
    func `without file descriptors a cache goes on by itself, says why, and comes back`() async {
        await #expect(processExitsWith: .success) {
            let server = try await RedisServer()
            try await Self().withCaches(1, url: server.url + "?timeout=500ms") { caches in
                let cache = caches[0]
                let before = try await cache.value(for: "before") { "1" }
                #expect(before == "1")
                // The server closes what is idle; to connect anew takes a descriptor.
                _ = try server.execute("CONFIG", "SET", "timeout", "1")
                var used = Self.useUpDescriptors()
                #expect(!used.isEmpty)
                try await Task.sleep(for: .seconds(3))
                // Those of the connections that were closed.
                used += Self.useUpDescriptors()
                for number in 0..<20 {
                    let value = try await cache.value(for: "during \(number)") { "v" }
                    #expect(value == "v")
                }
                #expect(cache.cached("before") == "1")
                do {
                    _ = try await cache.get("absent")
                    Issue.record("it was asked")
                } catch let error as CacheError {
                    #expect(error.code == .tierUnavailable)
                }
                #expect(cache.statistics().tierFailures > 0 && cache.statistics().unlockedFills > 0)
                for file in used { close(file) }
                try await eventually("it does not come back") {
                    let text = "after \(UInt64.random(in: 0...UInt64.max))"
                    _ = try await cache.value(for: text) { "v" }
                    return try server.execute("EXISTS", "hfc:faults:\(text)").contains("1")
                }
            }
        }
    }

    @Test
    func `the least user of locks and caches together is enough for a shared cache`() async throws {
        let server = try await RedisServer()
        // Each begins with taking everything away.
        let locks = RedisPermissions.rules(prefix: "").filter { !$0.hasPrefix("reset") && $0 != "-@all" }
        let rules = RedisCachePermissions.rules() + locks
        try server.execute(["ACL", "SETUSER", "cache", "reset", "on", ">secret"] + rules)
        let url = "redis://cache:secret@127.0.0.1:\(server.port)?timeout=5s"
        try await self.withCaches(2, url: url, channel: RedisCacheConnection.defaultChannel) { caches in
            #expect(try await caches[0].value(for: "k") { "1" } == "1")
            #expect(try await caches[1].value(for: "k") { "2" } == "1")
            try await caches[1].remove("k")
            try await eventually("news do not come") { caches[0].cached("k") == nil }
            try await caches[0].invalidate(tag: "t")
        }
        #expect(try server.execute("ACL", "LOG") == "")
    }
}
