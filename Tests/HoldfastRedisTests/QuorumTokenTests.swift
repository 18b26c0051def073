// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import HoldfastRedis
import HoldfastTesting
import Testing

/// Tokens of a majority of which one server's clock is far ahead.
@Suite("Tokens of a majority", .timeLimit(.minutes(5)), .serialized)
struct QuorumTokenTests {
    @Test
    func `a clock that is far ahead gives no tokens that restarts of the others take back`() async throws {
        let servers = [try await RedisServer(), try await RedisServer(), try await RedisServer(hasOwnClock: true)]
        try servers[2].setClock(ahead: .seconds(600))
        let hosts = servers.map { "127.0.0.1:\($0.port)" }.joined(separator: ",")
        let url = "redis://\(hosts)?guard=5s&timeout=2s"
        func counts() async throws {
            try await eventually("the servers never count", within: .seconds(40)) {
                let probe = Make.request("probe", lease: .milliseconds(500), contention: .fail)
                let store = try RedisQuorumLockStore(url: url)
                defer { withExtendedLifetime(store) {} }
                guard (try? await store.acquire(probe).token) != nil else { return false }
                return (try? await store.release(probe.key)) != nil
            }
        }
        try await counts()
        let first = try RedisQuorumLockStore(url: url)
        let one = Make.request("x", lease: .seconds(4), contention: .fail)
        servers[0].pause()
        var refusal: LockError?
        var before = FencingToken.zero
        do {
            before = try await first.acquire(one).token ?? .zero
        } catch {
            refusal = error as? LockError
        }
        _ = try? await first.release(one.key)
        servers[0].resume()
        #expect(refusal?.message.contains("clock") == true, "\(refusal?.message ?? "it was granted")")
        if before != .zero {
            // What it leads to: the two that knew the token of the third forget it, each while the others count.
            for server in servers.prefix(2) {
                try await server.restart()
                try await counts()
            }
            servers[2].pause()
        }
        let next = Make.request("x", lease: .seconds(4), contention: .fail)
        let store = try RedisQuorumLockStore(url: url)
        let token = try #require(try await store.acquire(next).token)
        #expect(token > before, "the token went back")
        let now = try #require(try servers[0].execute("TIME").split(separator: "\n").first.flatMap { UInt64($0) })
        #expect(token.rawValue < (now + 2) * 1_000_000, "a token of the clock that is ahead")
        servers[2].resume()
        _ = try await store.release(next.key)
    }

    @Test
    func `a clock that is far ahead does not count either where its server is the first to answer`() async throws {
        let servers = [try await RedisServer(), try await RedisServer(), try await RedisServer(hasOwnClock: true)]
        try servers[2].setClock(ahead: .seconds(600))
        let way = try FaultProxy(to: servers[1].port, isFramed: false)
        let hosts = [servers[0].port, way.port, servers[2].port].map { "127.0.0.1:\($0)" }.joined(separator: ",")
        let url = "redis://\(hosts)?guard=5s&timeout=10s"
        try await eventually("the servers never count", within: .seconds(40)) {
            let probe = Make.request("probe", lease: .milliseconds(500), contention: .fail)
            let store = try RedisQuorumLockStore(url: url)
            return (try? await store.acquire(probe).token) != nil
        }
        // What the others' clocks say comes after its word, and they are needed for a majority.
        way.slow(by: .milliseconds(100) ... .milliseconds(100))
        servers[0].kill()
        let store = try RedisQuorumLockStore(url: url)
        let request = Make.request("x", lease: .seconds(4), contention: .fail)
        let refusal = await #expect(throws: LockError.self) { try await store.acquire(request) }
        #expect(refusal?.message.contains("clock") == true, "\(refusal?.message ?? "it was granted")")
        try await eventually("it is kept", within: .seconds(2)) { try servers[1].execute("EXISTS", "x") == "0" }
    }
}
