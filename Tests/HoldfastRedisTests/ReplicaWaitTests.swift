// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import HoldfastRedis
import HoldfastTesting
import Testing

/// Grants that wait for replicas (`replicas=`), and what else a store does meanwhile.
@Suite("Waiting for replicas", .timeLimit(.minutes(5)))
struct ReplicaWaitTests {
    private func connections(_ server: RedisServer) throws -> Int {
        let lines = try server.execute("INFO", "stats").split(whereSeparator: \.isNewline)
        let line = try #require(lines.first { $0.hasPrefix("total_connections_received:") })
        return try #require(Int(line.drop { $0 != ":" }.dropFirst()))
    }

    @Test(arguments: [16, 64])
    func `a replica that is gone takes no lease from a holder and no connection from anybody`(
        askers: Int
    ) async throws {
        let master = try await RedisServer()
        let replica = try await RedisServer(arguments: ["--replicaof", "127.0.0.1 \(master.port)"])
        try await eventually("no replica") {
            try replica.execute("INFO", "replication").contains("master_link_status:up")
        }
        let lease: Duration = .seconds(6)
        let store = try RedisLockStore(url: master.url + "?replicas=1&timeout=3s")
        // An answer of the server has a fifth of a second. On a machine that takes longer to run anything at all, some
        // have none, whatever the store does; the lease must be kept there, too.
        let (complaints, longestStall) = try await withLockService(store: store) { locks in
            var longestStall = Duration.zero
            let held = try await locks.acquire("held", lease: lease)
            replica.kill()
            let end = ContinuousClock.now.advanced(by: lease * 2)
            let complaints = try await withThrowingTaskGroup(of: Set<String>.self) { group in
                for number in 0..<askers {
                    group.addTask {
                        let name = try Resource("n\(number)")
                        var complaints: Set<String> = []
                        while ContinuousClock.now < end {
                            do {
                                _ = await (try await locks.tryAcquire(name, lease: lease))?.release()
                            } catch {
                                complaints.insert("\(error)")
                            }
                            try await Task.sleep(for: .milliseconds(20))
                        }
                        return complaints
                    }
                }
                try await Task.sleep(for: .milliseconds(200))
                let before = try self.connections(master)
                while ContinuousClock.now < end {
                    try held.checkValid()
                    let start = ContinuousClock.now
                    try await Task.sleep(for: .milliseconds(10))
                    longestStall = max(longestStall, start.duration(to: .now) - .milliseconds(10))
                }
                // Each look of this test is one, too.
                let made = try self.connections(master) - before
                #expect(made <= 2 || longestStall > .milliseconds(50), "\(made) connections were made anew")
                return try await group.reduce(into: Set<String>()) { $0.formUnion($1) }
            }
            #expect(await held.release() == .released)
            return (complaints, longestStall)
        }
        let strange = complaints.filter { !$0.contains("replicas") }
        #expect(!complaints.isEmpty && (strange.isEmpty || longestStall > .milliseconds(50)), "\(complaints)")
    }
}
