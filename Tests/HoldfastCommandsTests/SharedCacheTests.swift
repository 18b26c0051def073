// SPDX-License-Identifier: Apache-2.0

import Glibc
import Holdfast
import HoldfastCache
import HoldfastCommands
import HoldfastCore
import HoldfastRedis
import HoldfastRedisCache
import HoldfastTesting
import Synchronization
import Testing

/// Real processes that share a cache on a real Redis.
@Suite("Processes that share a cache", .timeLimit(.minutes(5)))
struct SharedCacheTests {
    private let directory: TestDirectory
    private let server: RedisServer

    init() async throws {
        self.directory = try TestDirectory()
        self.server = try await RedisServer()
    }

    @Test("four processes with fifty getters each load a cold key once (spring-data-redis 1670, laravel 60920)")
    func cold() async throws {
        for _ in 0..<3 {
            let result = try await HoldfastProcess.run(
                ["bench", "--workload", "stampede", "--getters", "200", "--processes", "4", "--load-time", "300ms"],
                in: self.directory,
                variables: ["HOLDFAST_STORE": self.server.url]
            )
            #expect(result.status == 0, "\(result.errors)")
            #expect(result.output.contains(#""loads":1,"#) && !result.output.contains("failures"), "\(result.output)")
        }
    }

    @Test("while the key expires again and again, it is loaded at most once each time")
    func expiry() async throws {
        let result = try await HoldfastProcess.run(
            [
                "bench", "--workload", "stampede", "--getters", "64", "--processes", "4", "--load-time", "100ms",
                "--expiry", "3s", "--ttl", "500ms",
            ],
            in: self.directory,
            variables: ["HOLDFAST_STORE": self.server.url]
        )
        #expect(result.status == 0, "\(result.errors)")
        let loads = try #require(Self.number("loads", in: result.output))
        // A life is 450 to 550 ms and begins when a load has ended.
        #expect(loads >= 2 && loads <= 7, "\(result.output)")
    }

    @Test(
        "when the process that loads is killed, another loads within its lease (dogpile 261, groupcache 38)",
        .serialized,
        arguments: [0, 50, 700, 2000]
    )
    func killed(milliseconds: Int) async throws {
        try await self.withCache { cache in
            let leader = try self.loader("k", for: .seconds(60))
            try await eventually { try self.isLocked("k") }
            // At once, before its lease was renewed, and after.
            try await Task.sleep(for: .milliseconds(milliseconds))
            try await leader.signal(SIGKILL)
            let start = ContinuousClock.now
            let waiters = (0..<10).map { _ in Task { try await cache.value(for: "k") { "new" } } }
            for waiter in waiters { #expect(try await waiter.value == "new") }
            let time = start.duration(to: .now)
            // The lease, 100 ms, and what a busy machine needs.
            #expect(time < Self.fillLease + .milliseconds(100) + .seconds(3), "\(time)")
            #expect(cache.statistics().loads == 1)
        }
    }

    @Test(
        "a process that is killed around its write leaves its value or none, and the key usable",
        .serialized,
        arguments: [-40, -10, 0, 5, 10, 20, 40]
    )
    func killedNearItsWrite(milliseconds: Int) async throws {
        try await self.withCache { cache in
            let load = Duration.milliseconds(600)
            let leader = try self.loader("k", for: load)
            let pid = try await leader.pid
            // It may be over before a busy machine has looked.
            try await eventually { try self.isLocked("k") || self.isStored("k") }
            try await Task.sleep(for: load + .milliseconds(milliseconds))
            // Nothing happens to one that has ended just now.
            kill(pid, SIGKILL)
            let start = ContinuousClock.now
            let waiters = (0..<10).map { _ in Task { try await cache.value(for: "k") { "new" } } }
            var values: Set<String> = []
            for waiter in waiters { values.insert(try await waiter.value) }
            let time = start.duration(to: .now)
            #expect(time < Self.fillLease + .milliseconds(100) + .seconds(3), "\(time)")
            #expect(values.count == 1, "\(values)")
            #expect(cache.statistics().loads == (values == ["new"] ? 1 : 0))
            let kept = try await cache.get("k")
            #expect(kept == values.first)
        }
    }

    @Test("what a process loads that was stopped beyond its lease is refused (cache.md C10, laravel 26213)")
    func stopped() async throws {
        try await self.withCache { cache in
            let keys = (0..<5).map { "k\($0)" }
            let leaders = try keys.map { try self.loader($0, for: .seconds(4)) }
            try await eventually { try keys.allSatisfy { try self.isLocked($0) } }
            for leader in leaders { try await leader.signal(SIGSTOP) }
            let isLoading = Flag()
            let isAwake = Flag()
            try await withThrowingTaskGroup(of: String.self) { group in
                for key in keys {
                    group.addTask {
                        try await cache.value(for: key) {
                            // The first one wakes up while the second one holds the lock of this key.
                            if key == keys[0] { isLoading.raise() }
                            while key == keys[0], !isAwake.isUp {
                                try await Task.sleep(for: .milliseconds(5))
                            }
                            return "new"
                        }
                    }
                }
                for _ in keys.dropFirst() { #expect(try await group.next() == "new") }
                // Its lease may be the last one to end, and before that its first process may store.
                try await eventually { isLoading.isUp }
                for leader in leaders { try await leader.signal(SIGCONT) }
                for leader in leaders { #expect(await leader.end().status == 0) }
                #expect(try self.isLocked(keys[0]))
                isAwake.raise()
                #expect(try await group.next() == "new")
            }
            for key in keys { #expect(try await cache.get(key) == "new") }
        }
    }

    // MARK: - Help

    /// The default, which the worker has.
    private static let fillLease: Duration = .seconds(5)

    /// A process that asks for a key of the same cache and loads it for a while.
    private func loader(_ key: String, for time: Duration) throws -> HoldfastProcess {
        try HoldfastProcess(
            [
                "stampede-worker", key, "1", "\(time.nanoseconds)", "0", "\(Duration.seconds(60).nanoseconds)",
                "\(BootTime.now)", self.directory.fresh("log"),
            ],
            in: self.directory,
            variables: ["HOLDFAST_STORE": self.server.url]
        )
    }

    private func isLocked(_ key: String) throws -> Bool {
        try self.server.execute("EXISTS", "cache/bench/\(key)").contains("1")
    }

    private func isStored(_ key: String) throws -> Bool {
        try self.server.execute("EXISTS", "hfc:bench:\(key)").contains("1")
    }

    /// The cache that the workers have, in this process.
    private func withCache(_ body: @escaping @Sendable (SharedCache<String, String>) async throws -> Void) async throws
    {
        let store = try RedisLockStore(configuration: try RedisConfiguration(url: self.server.url))
        let redis = try RedisCacheConnection(configuration: try RedisConfiguration(url: self.server.url))
        try await withLockService(store: store) { locks in
            let caches = try CacheService(tier: RedisCacheTier(redis), bus: RedisCacheBus(redis), locks: locks)
            let cache = try caches.sharedCache("bench", of: String.self, keyedBy: String.self) {
                $0.options.timeToLive = .seconds(60)
                $0.fillLease = Self.fillLease
            }
            try await withCacheService(caches) { _ in try await body(cache) }
        }
    }

    private static func number(_ name: String, in line: String) -> Int? {
        guard let start = line.firstRange(of: "\"\(name)\":")?.upperBound else { return nil }
        return Int(line[start...].prefix { $0.isNumber })
    }
}

/// Says once that something has happened.
final class Flag: Sendable {
    private let state = Atomic(false)

    var isUp: Bool { self.state.load(ordering: .acquiring) }

    func raise() { self.state.store(true, ordering: .releasing) }
}
