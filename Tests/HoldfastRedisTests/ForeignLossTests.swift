// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import HoldfastRedis
import HoldfastTesting
import Testing

/// Foreign holders, while those who wait for them go, or lose connections.
@Suite("Foreign holders, and losses meanwhile", .timeLimit(.minutes(5)))
struct ForeignLossTests {
    /// The connections by which the server was asked to tell of keys.
    private func tracked(_ server: RedisServer) throws -> [String] {
        try server.execute("CLIENT", "LIST").split(separator: "\n").compactMap { line in
            let words = line.split(separator: " ")
            guard words.contains(where: { $0.hasPrefix("flags=") && $0.contains("t") }) else { return nil }
            return words.first.map { String($0.dropFirst(3)) }
        }
    }

    /// How soon a request is told to look again.
    private func told(_ request: LockRequest, _ signals: Signals) async -> Duration? {
        await signals.first(within: .seconds(4)) { signal in
            if case .check(let id, let pause) = signal { id == request.id && pause < .milliseconds(200) } else { false }
        }
    }

    @Test(arguments: ["withdrawn", "vanished"])
    func `when the first in line is gone, the next is told of a foreign release`(how: String) async throws {
        let server = try await RedisServer()
        let second = try RedisLockStore(url: server.url + "?timeout=5s")
        try server.execute("SET", "x", "theirs", "NX")
        let request = Make.request("x")
        do {
            let first = try RedisLockStore(url: server.url + "?timeout=5s")
            let before = Make.request("x")
            #expect(try await first.acquire(before).place?.position == 0)
            #expect(try await second.acquire(request).place?.position == 1)
            if how == "withdrawn" { #expect(try await first.withdraw(before.key) == .withdrawn) }
        }
        try await eventually("the first is there still") { try self.tracked(server).count == 1 }
        let signals = Signals(of: second)
        try server.execute("DEL", "x")
        #expect(try #require(await self.told(request, signals)) < .seconds(3))
        #expect(try await second.acquire(request).token != nil)
    }

    @Test(arguments: [[], ["PX", "60000"]])
    func `a lost connection for commands does not hold up who waits for a foreign holder`(life: [String]) async throws {
        let server = try await RedisServer()
        let store = try RedisLockStore(url: server.url + "?timeout=5s")
        try await withLockService(store: store) { locks in
            var late = 0
            for round in 0..<5 {
                try server.execute(["SET", "x", "theirs", "NX"] + life)
                try await withThrowingTaskGroup(of: ContinuousClock.Instant.self) { group in
                    group.addTask {
                        try await locks.withLock("x", waitingAtMost: .seconds(30)) { _ in ContinuousClock.now }
                    }
                    var ids: [String] = []
                    try await eventually("nobody asked to be told, round \(round)") {
                        ids = try self.tracked(server)
                        return !ids.isEmpty
                    }
                    for id in ids { try server.execute("CLIENT", "KILL", "ID", id) }
                    let cut = ContinuousClock.now
                    try await eventually("it is not asked again, round \(round)") {
                        try self.tracked(server).contains { !ids.contains($0) }
                    }
                    let released = ContinuousClock.now
                    try server.execute("DEL", "x")
                    let taken = try #require(try await group.next())
                    let times = [cut.duration(to: released), released.duration(to: taken)]
                    if times.contains(where: { $0 > .milliseconds(800) }) { late += 1 }
                }
            }
            #expect(late <= 1, "a machine may be busy once")
        }
    }
}
