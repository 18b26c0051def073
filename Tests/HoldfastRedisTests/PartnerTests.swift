// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import HoldfastRedis
import HoldfastTesting
import Testing

/// Real users of redis-py's lock on the same names as ours.
@Suite("Locks shared with redis-py", .timeLimit(.minutes(5)))
struct PartnerTests {
    private static let rounds = 150

    @Test
    func `600 contended turns, theirs and ours, and not one update is lost`() async throws {
        let server = try await RedisServer()
        let directory = #filePath.split(separator: "/").dropLast().reduce(into: "") { $0 += "/\($1)" }
        let script = "\(directory)/Partners/RedisPyPartner.py"
        // Debian's own interpreter, which has Debian's redis-py.
        let partners = try (0..<2).map { _ in
            try ChildProcess("/usr/bin/python3", [script, "\(server.port)", "counter", "\(Self.rounds)"])
        }
        // They have begun.
        for _ in 0..<3000 where try server.execute("GET", "value") == "(nil)" {
            try await Task.sleep(for: .milliseconds(10))
        }
        let mixed = try await withThrowingTaskGroup(of: Int.self) { group in
            for _ in 0..<2 {
                let store = try RedisLockStore(url: server.calm)
                group.addTask {
                    try await withLockService(store: store) { locks in
                        var (mixed, last) = (0, 0)
                        for _ in 0..<Self.rounds {
                            let value = try await locks.withLock("counter", lease: .seconds(20)) { _ in
                                let value = Int(try server.execute("GET", "value")) ?? 0
                                try server.execute("SET", "value", "\(value + 1)")
                                return value + 1
                            }
                            if value > last + 1 { mixed += 1 }
                            last = value
                            // Whoever polls needs a moment in which the lock is free.
                            try await Task.sleep(for: .milliseconds(1))
                        }
                        return mixed
                    }
                }
            }
            return try await group.reduce(0, +)
        }
        for _ in 0..<6000 where !partners.allSatisfy(\.hasExited) { try await Task.sleep(for: .milliseconds(10)) }
        #expect(try server.execute("GET", "done") == "2", "redis-py failed; run `make bootstrap`")
        #expect(try server.execute("GET", "value") == "\(4 * Self.rounds)")
        #expect(try server.execute("EXISTS", "counter") == "0")
        // They took turns, and not all of one before all of the other.
        #expect(mixed > Self.rounds / 10)
    }
}
