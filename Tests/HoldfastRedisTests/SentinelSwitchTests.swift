// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import HoldfastRedis
import HoldfastTesting
import Synchronization
import Testing

/// A store has two connections to its master, and each asks Sentinel by itself where that is.
@Suite("Sentinel, switches", .timeLimit(.minutes(5)))
struct SentinelSwitchTests {
    /// Says which server is the master, and tells nobody of a switch.
    private static func report(_ port: UInt16) -> String {
        let fields = ["name", "main", "ip", "127.0.0.1", "port", "\(port)", "config-epoch", "1"]
        return "*\(fields.count)\r\n" + fields.map { "$\($0.utf8.count)\r\n\($0)\r\n" }.joined()
    }

    @Test(arguments: ["messages", "commands"])
    func `no connection stays with the old master because the other found the new one first`(
        first: String
    ) async throws {
        let (old, new) = (try await RedisServer(), try await RedisServer())
        let master = Mutex(old.port)
        let sentinel = try await FakeServer { command in
            switch command.first {
            case "SENTINEL": Self.report(master.withLock { $0 })
            case "SUBSCRIBE": "-NOPERM this user has no permissions to run the 'subscribe' command\r\n"
            default: "+OK\r\n"
            }
        }
        let store = try RedisLockStore(url: "redis+sentinel://127.0.0.1:\(sentinel.port)/main?timeout=1s")
        #expect(try await store.acquire(Make.request("a", contention: .fail)).token != nil)
        if first == "commands" { #expect(try await store.acquire(Make.request("a")).place != nil) }
        master.withLock { $0 = new.port }
        if first == "messages" {
            // The first who waits makes the connection for messages.
            _ = try? await store.acquire(Make.request("a"))
        } else {
            try old.execute("CLIENT", "KILL", "TYPE", "normal")
            _ = try? await store.acquire(Make.request("b", contention: .fail))
        }
        var number = 0
        try await eventually("a connection stays with the old master", within: .seconds(5)) {
            number += 1
            _ = try? await store.acquire(Make.request(Resource("n\(number)"), contention: .fail))
            return try new.execute("EXISTS", "n\(number)") == "1"
                && new.execute("CLIENT", "LIST", "TYPE", "pubsub").contains("name=holdfast")
        }
    }
}
