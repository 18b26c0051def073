// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import HoldfastRedis
import HoldfastTesting
import Testing

/// Calls of one script for several locks in one command: each is answered as if it had come alone.
@Suite(.timeLimit(.minutes(5)))
struct JoinedCallTests {
    private static let description = "|10000|0|hf:c:test|somebody"

    /// Asks for locks in one command, with these ids, without waiting.
    private static func acquire(
        _ locks: KeyValuePairs<String, String>,
        manner: String = "f0|300|0|fx:",
        on server: RedisServer
    ) throws -> [String] {
        let keys = locks.flatMap { [$0.key, "hf:{\($0.key)}:h"] }
        let arguments = locks.flatMap { [$0.value, "10000", Self.description, manner] }
        let command = ["EVAL", LockScripts.acquire.source, String(keys.count)] + keys + arguments
        return try server.execute(command).split(whereSeparator: \.isNewline).map(String.init)
    }

    private static func release(
        _ locks: KeyValuePairs<String, String>,
        on server: RedisServer
    ) throws -> [String] {
        let keys = locks.flatMap { [$0.key, "hf:{\($0.key)}:h"] }
        let command = ["EVAL", LockScripts.release.source, String(keys.count)] + keys + locks.map(\.value)
        return try server.execute(command).split(whereSeparator: \.isNewline).map(String.init)
    }

    private static func id(_ letter: Character) -> String { String(repeating: letter, count: 32) }

    @Test
    func `locks of one command are held by those who asked, and given back by them`() async throws {
        let server = try await RedisServer()
        let (a, b) = (Self.id("a"), Self.id("b"))
        let tokens = try Self.acquire(["x": a, "y": b], on: server).compactMap { Int($0) }
        #expect(tokens.count == 2 && tokens.allSatisfy { $0 > 1_000_000_000_000_000 })
        #expect(try server.execute("MGET", "x", "y").split(whereSeparator: \.isNewline) == [a[...], b[...]])
        let store = try RedisLockStore(url: server.calm)
        #expect(try await store.status(of: "y").holders.first?.fencingToken?.rawValue == UInt64(tokens[1]))
        #expect(try Self.release(["x": a, "y": a], on: server) == ["1", "0"])
        #expect(try server.execute("EXISTS", "x", "y") == "1")
        #expect(try Self.release(["y": b, "x": a], on: server) == ["1", "2"])
        // Tokens go on from where they were, for each lock.
        let later = try Self.acquire(["y": Self.id("c"), "x": Self.id("d")], on: server).compactMap { Int($0) }
        #expect(later.count == 2 && later[0] > tokens[1] && later[1] > tokens[0])
    }

    @Test
    func `one lock asked for twice in a command is held once`() async throws {
        let server = try await RedisServer()
        let replies = try Self.acquire(["x": Self.id("a"), "x": Self.id("b")], on: server)
        #expect(Int(replies[0]).map { $0 > 0 } == true)
        #expect(replies[1] == "2")
        #expect(try server.execute("GET", "x") == Self.id("a"))
        #expect(try Self.release(["x": Self.id("a"), "x": Self.id("a")], on: server) == ["1", "2"])
    }

    @Test
    func `one odd key among several is one error, and the others are held`() async throws {
        let server = try await RedisServer()
        try server.execute("LPUSH", "hf:{y}:h", "1")
        try server.execute("LPUSH", "z", "1")
        let store = try RedisLockStore(url: server.calm)
        // Those that come before the connection is there are one command.
        let names: [Resource] = ["w", "x", "y", "z", "after"]
        let requests = names.map { Make.request($0, contention: .fail) }
        let tokens = await withTaskGroup(of: (Resource, FencingToken?).self) { group in
            for request in requests {
                group.addTask { (request.resource, try? await store.acquire(request).token) }
            }
            return await group.reduce(into: [:]) { $0[$1.0] = $1.1 }
        }
        #expect(Set(tokens.keys) == ["w", "x", "after"])
        await #expect(throws: LockError.self) { try await store.acquire(requests[2]) }
        #expect(try server.execute("EXISTS", "w", "x", "after") == "3")
    }

    @Test
    func `many locks at once take few commands`() async throws {
        let server = try await RedisServer()
        let store = try RedisLockStore(url: server.calm)
        let requests = try (0..<64).map { Make.request(try Resource("lock\($0)")) }
        // The scripts are known, and messages on their way.
        let first = Make.request("first")
        _ = try await store.acquire(first)
        _ = try await store.release(first.key)
        try server.execute("CONFIG", "RESETSTAT")
        let tokens = try await withThrowingTaskGroup(of: FencingToken?.self) { group in
            for request in requests { group.addTask { try await store.acquire(request).token } }
            return try await group.reduce(into: []) { if let token = $1 { $0.append(token) } }
        }
        #expect(tokens.count == 64)
        try await withThrowingTaskGroup(of: ReleaseReply.self) { group in
            for request in requests { group.addTask { try await store.release(request.key) } }
            for try await reply in group { #expect(reply == .released) }
        }
        let calls = try server.execute("INFO", "commandstats").split(whereSeparator: \.isNewline)
            .first { $0.hasPrefix("cmdstat_evalsha:calls=") }?.dropFirst(22).prefix { $0 != "," }
        let count = try #require(calls.flatMap { Int($0) })
        #expect(count < 128, "each lock took commands of its own")
    }

    @Test
    func `a server that forgot its scripts is told them again, for all who asked`() async throws {
        let server = try await RedisServer()
        let store = try RedisLockStore(url: server.url + "?timeout=20s")
        for round in 0..<10 {
            try server.execute("SCRIPT", "FLUSH")
            let requests = try (0..<20).map { Make.request(try Resource("lock\(round)-\($0)")) }
            try await withThrowingTaskGroup(of: AcquireReply.self) { group in
                for request in requests { group.addTask { try await store.acquire(request) } }
                for try await reply in group { #expect(reply.token != nil) }
            }
        }
    }
}
