// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import HoldfastRedis
import HoldfastTesting
import Synchronization
import Testing

/// Behind Sentinel: what is confirmed, what is tried again, and who the master has to be.
@Suite("Sentinel, its limits", .timeLimit(.minutes(5)), .serialized)
struct SentinelLimitTests {
    @Test
    func `a master that became a replica for a moment is found again, and no waiter fails`() async throws {
        let servers = try await RedisSentinelServers()
        let store = try RedisLockStore(url: servers.url + "?timeout=5s")
        let request = Make.request("x")
        #expect(try await store.acquire(request).token != nil)
        let master = try #require(try servers.master())
        #expect(try master.execute("REPLICAOF", "127.0.0.1", "1") == "OK")
        async let reply = store.acquire(Make.request("y"))
        try await Task.sleep(for: .milliseconds(500))
        #expect(try master.execute("REPLICAOF", "NO", "ONE") == "OK")
        #expect(try await reply.token != nil)
        #expect(try await store.release(request.key) == .released)
    }

    @Test
    func `while the only server is a replica it is unavailable, and not the caller's mistake`() async throws {
        let servers = try await RedisSentinelServers()
        let store = try RedisLockStore(url: servers.url + "?timeout=500ms")
        #expect(try await store.acquire(Make.request("x")).token != nil)
        let master = try #require(try servers.master())
        #expect(try master.execute("REPLICAOF", "127.0.0.1", "1") == "OK")
        let error = await #expect(throws: LockError.self) { try await store.acquire(Make.request("y")) }
        #expect(error?.code == .storeUnavailable, "\(error?.message ?? "")")
    }

    @Test
    func `a master that would grant on without replicas is named, once, when it is connected`() async throws {
        let servers = try await RedisSentinelServers()
        let store = try RedisLockStore(url: servers.url)
        let said = Mutex<[RedisCaution]>([])
        store.onCaution { caution in said.withLock { $0.append(caution) } }
        for _ in 0..<3 {
            let (request, waiter) = (Make.request("x"), Make.request("x"))
            #expect(try await store.acquire(request).token != nil)
            #expect(try await store.acquire(waiter).place != nil)
            #expect(try await store.withdraw(waiter.key) == .withdrawn)
            #expect(try await store.release(request.key) == .released)
        }
        let master = try #require(try servers.master())
        let cautions = said.withLock { $0 }
        #expect(cautions.map(\.server) == ["127.0.0.1:\(master.port)"])
        #expect(cautions.first?.message.contains("min-replicas-to-write") == true)
        #expect(try master.execute("CONFIG", "SET", "min-replicas-to-write", "1") == "OK")
        let calm = try RedisLockStore(url: servers.url)
        calm.onCaution { _ in Issue.record("there is nothing to say") }
        #expect(try await calm.acquire(Make.request("y")).token != nil)
    }

    @Test
    func `an upgrade that too few replicas have does not count`() async throws {
        let servers = try await RedisSentinelServers()
        let store = try RedisLockStore(url: servers.url + "?replicas=2&replica-timeout=200ms&timeout=3s")
        let request = Make.request("x", mode: .update, lease: .seconds(60))
        #expect(try await store.acquire(request).token != nil)
        let master = try #require(try servers.master())
        let replica = try #require(servers.servers.first { $0.port != master.port })
        replica.pause()
        defer { replica.resume() }
        let upgrade = Conversion(request.key, to: .exclusive)
        let error = await #expect(throws: LockError.self) { try await store.convert(upgrade) }
        #expect(error?.code == .storeUnavailable && error?.message.contains("1 of 2 replicas") == true)
        #expect(try await store.status(of: "x").holders.map(\.mode) == [.update])
        replica.resume()
        try await eventually("it does not go on") {
            if case .converted = try? await store.convert(upgrade) { true } else { false }
        }
        #expect(try await store.release(request.key) == .released)
    }

    @Test
    func `the certificate of a master is checked against the name that Sentinels give`() async throws {
        // Neither has an address in it, only the name.
        let certificates = try await TestCertificates(names: "DNS:localhost")
        let (port, own) = (try RedisServer.freePort(), try RedisServer.freePort())
        let server = try await RedisServer(arguments: certificates.redisArguments(port: port))
        let directory = try TemporaryDirectory.make(prefix: "holdfast-sentinel-")
        defer { TemporaryDirectory.remove(directory) }
        let program = try #require(ChildProcess.find("redis-server"))
        let sentinel = try ChildProcess(
            "/bin/sh",
            [
                "-c",
                """
                cat > \(directory)/sentinel.conf <<END
                port 0
                bind 127.0.0.1
                dir \(directory)
                tls-replication yes
                sentinel resolve-hostnames yes
                sentinel announce-hostnames yes
                sentinel monitor main localhost \(port) 1
                END
                exec \(program) \(directory)/sentinel.conf --sentinel \
                \(certificates.redisArguments(port: own).joined(separator: " "))
                """,
            ]
        )
        let ca = certificates.path("ca.crt")
        let url = "rediss+sentinel://localhost:\(own)/main?ca=\(ca)&timeout=5s"
        try await eventually("Sentinel does not answer") {
            (try? await RedisLockStore(url: url + "&verify=none").acquire(Make.request("up")).token) != nil
        }
        #expect(try await RedisLockStore(url: url).acquire(Make.request("x")).token != nil)
        let wrong = try RedisLockStore(url: url + "&sni=example.org")
        await #expect(throws: LockError.self) { try await wrong.acquire(Make.request("z")) }
        sentinel.kill()
        withExtendedLifetime(server) {}
    }
}
