// SPDX-License-Identifier: Apache-2.0

import Glibc
import Holdfast
import HoldfastCore
import HoldfastRedis
import HoldfastTesting
import Testing

/// Callers on the thread of the store's connections.
@Suite("Executor", .timeLimit(.minutes(5)))
struct ExecutorTests {
    @Test
    func `there is none unless it is asked for`() throws {
        #expect(try RedisLockStore(url: "redis://h").executor == nil)
        #expect(try RedisLockStore(url: "redis://h?executor=pool").executor == nil)
        #expect(try RedisLockStore(url: "redis://h?executor=loop").executor != nil)
        for url in ["redis://h?executor=fast", "redis://a,b,c?executor=loop"] {
            let error = #expect(throws: LockError.self) { try RedisQuorumConfiguration(url: url) }
            #expect(error?.code == .invalidArgument)
        }
    }

    @Test
    func `tasks there lock and wait as anywhere`() async throws {
        let server = try await RedisServer()
        let store = try RedisLockStore(url: server.url + "/0?executor=loop")
        try await withLockService(store: store) { locks in
            try await withTaskExecutorPreference(store.executor) {
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for _ in 0..<8 {
                        group.addTask { for _ in 0..<50 { try await locks.withLock("x") { _ in } } }
                    }
                    try await group.waitForAll()
                }
            }
        }
    }

    @Test
    func `whoever occupies the thread of the connections loses no lease`() async throws {
        let server = try await RedisServer()
        let store = try RedisLockStore(url: server.url + "/0?executor=loop")
        try await withLockService(store: store) { locks in
            let lease = try await locks.acquire("x", lease: .seconds(5))
            await withTaskExecutorPreference(store.executor) {
                await withTaskGroup(of: Void.self) { group in
                    group.addTask {
                        let end = ContinuousClock.now + .seconds(7)
                        while ContinuousClock.now < end { usleep(10_000) }
                    }
                }
            }
            try lease.checkValid()
            #expect(try server.execute("EXISTS", "x") == "1")
            #expect(await lease.release() == .released)
        }
    }

    @Test
    func `whoever occupies the thread of the connections loses no lease on a cluster either`() async throws {
        let servers = try await RedisClusterServers()
        let store = try RedisLockStore(url: servers.url + "?executor=loop&timeout=10s")
        try await withLockService(store: store) { locks in
            // Several slots, so that renewals are several commands.
            var leases: [Lease] = []
            for name in ["a", "b", "c", "d"] {
                leases.append(try await locks.acquire(try Resource(name), lease: .seconds(4)))
            }
            await withTaskExecutorPreference(store.executor) {
                await withTaskGroup(of: Void.self) { group in
                    group.addTask {
                        let end = ContinuousClock.now + .seconds(9)
                        while ContinuousClock.now < end { usleep(10_000) }
                    }
                }
            }
            for lease in leases { try lease.checkValid() }
        }
    }
}
