// SPDX-License-Identifier: Apache-2.0

import Glibc
import HoldfastCore
import HoldfastRedis
import HoldfastTesting
import Testing

/// What real servers answer when they cannot or will not, and what callers get of it.
@Suite("Refusals", .timeLimit(.minutes(5)))
struct RefusalTests {
    private func refusal(_ server: RedisServer, _ settings: String = "") async throws -> LockError? {
        let store = try RedisLockStore(url: "\(server.url)?timeout=500ms&\(settings)")
        return await #expect(throws: LockError.self) { try await store.acquire(Make.request("x")) }
    }

    @Test
    func `a server that loads its data is waited for, within the call's time`() async throws {
        // 12,000 keys of half a millisecond each.
        let server = try await RedisServer(arguments: [
            "--dbfilename", "locks.rdb", "--key-load-delay", "500", "--loading-process-events-interval-bytes", "1024",
        ])
        try server.execute("DEBUG", "POPULATE", "12000")
        #expect(try server.execute("SAVE") == "OK")
        try await server.restart()
        #expect(try server.execute("GET", "x").hasPrefix("LOADING"))
        let hasty = try await self.refusal(server)
        #expect(hasty?.code == .storeUnavailable, "\(hasty as Any)")
        let store = try RedisLockStore(url: server.url + "?timeout=45s")
        #expect(try await store.acquire(Make.request("x")).token != nil)
    }

    @Test
    func `a server that is busy with somebody's script is waited for`() async throws {
        let server = try await RedisServer(arguments: ["--busy-reply-threshold", "50"])
        let store = try RedisLockStore(url: server.url + "?timeout=10s")
        #expect(try await store.acquire(Make.request("before")).token != nil)
        // Who sent it gives up after five seconds; the script goes on.
        let script = Task.detached { try? server.execute("EVAL", "while true do end", "0") }
        try await eventually("it is not busy") { try server.execute("PING").hasPrefix("BUSY") }
        let busy = try await self.refusal(server)
        #expect(busy?.code == .storeUnavailable, "\(busy as Any)")
        let reply = Task { try await store.acquire(Make.request("x")) }
        try await Task.sleep(for: .milliseconds(200))
        #expect(try server.execute("SCRIPT", "KILL") == "OK")
        #expect(try await reply.value.token != nil)
        _ = await script.value
    }

    @Test
    func `a server without memory, replicas or a master says so, and takes nothing`() async throws {
        let full = try await RedisServer(arguments: ["--maxmemory-policy", "noeviction"])
        try full.execute("CONFIG", "SET", "maxmemory", "1")
        #expect(try await self.refusal(full)?.message.contains("OOM") == true)
        try full.execute("CONFIG", "SET", "maxmemory", "0")
        #expect(try full.execute("EXISTS", "x", "hf:{x}:h") == "0")

        let alone = try await RedisServer(arguments: ["--min-replicas-to-write", "1"])
        #expect(try await self.refusal(alone)?.message.contains("NOREPLICAS") == true)

        let replica = try await RedisServer(arguments: ["--replicaof", "127.0.0.1", "\(alone.port)"])
        let readOnly = try await self.refusal(replica)
        #expect(readOnly?.message.contains("READONLY") == true || readOnly?.message.contains("LOADING") == true)
        alone.kill()
        try replica.execute("CONFIG", "SET", "replica-serve-stale-data", "no")
        for _ in 0..<200 where try replica.execute("INFO", "replication").contains("master_link_status:up") {
            try await Task.sleep(for: .milliseconds(10))
        }
        #expect(try await self.refusal(replica)?.message.contains("MASTERDOWN") == true)
    }

    @Test
    func `a server that cannot save says so, and takes locks again when it can`() async throws {
        let server = try await RedisServer()
        let store = try RedisLockStore(url: server.url)
        let held = Make.request("held", lease: .seconds(60))
        #expect(try await store.acquire(held).token != nil)
        // No file can take the place of a directory.
        let place = "\(server.directory)/dump.rdb"
        #expect(mkdir(place, 0o700) == 0)
        try server.execute("CONFIG", "SET", "save", "3600 1")
        try server.execute("BGSAVE")
        try await eventually("saving does not fail") {
            try server.execute("INFO", "persistence").contains("rdb_last_bgsave_status:err")
        }
        let error = try await self.refusal(server)
        #expect(error?.code == .storeRefused, "\(error as Any)")
        #expect(error?.message.contains("MISCONF") == true && error?.message.contains("disk") == true)
        // What is held is neither kept nor lost by that: the holder is told of the error, not of a loss.
        let renewal = Renewal(key: held.key, lease: .seconds(60))
        let told = await #expect(throws: LockError.self) { try await store.renew([renewal]) }
        #expect(told?.message.contains("MISCONF") == true)
        #expect(rmdir(place) == 0)
        try server.execute("BGSAVE")
        try await eventually("it takes no locks again") {
            (try? await store.acquire(Make.request("x", contention: .fail)).token) != nil
        }
        #expect(try await store.renew([renewal]) == [.renewed(revokeRequested: false)])
    }

    @Test
    func `keys in different slots are what a node of a cluster says they are`() async throws {
        let bus = try RedisServer.freePort()
        let node = try await RedisServer(arguments: ["--cluster-enabled", "yes", "--cluster-port", "\(bus)"])
        #expect(try node.execute("CLUSTER", "ADDSLOTSRANGE", "0", "16383") == "OK")
        let line = RedisErrorLine(try node.execute("EVAL", "return 1", "2", "a", "b"))
        #expect(line.kind == "CROSSSLOT" && line.retry == .never && line.error.code == .storeRefused)
        #expect(line.error.message.contains("different slots"))
        // Those of one lock never are, whatever its name.
        try await eventually("the node does not serve") { try node.execute("SET", "y", "1") == "OK" }
        let store = try RedisLockStore(url: node.url)
        for name in ["x", "a/b", "a b", "ä"] {
            let request = Make.request(try Resource(name))
            #expect(try await store.acquire(request).token != nil)
            #expect(try await store.release(request.key) == .released)
        }
    }
}
