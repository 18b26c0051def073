// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import HoldfastTesting
import HoldfastZooKeeper
import Testing

/// Waiters whose watch comes too late, or is lost with a connection.
@Suite("Watches of ZooKeeper", .timeLimit(.minutes(5)), .serialized)
struct WatchTests {
    @Test("Of 1,000 waiters none is forgotten, whenever the lock is released and the connection cut (Z7)")
    func thousand() async throws {
        let server = try await ZooKeeperServer()
        let proxy = try FaultProxy(to: server.port)
        // Far longer than anybody here waits: it is not the end of a session that wakes.
        let stores = [
            try Fixture.store(server.hosts, "&session=30s"),
            try Fixture.store("127.0.0.1:\(proxy.port)", "&session=30s"),
        ]
        let signals = stores.map { Signals(of: $0) }
        try await Fixture.running(stores) {
            var generator = SeededGenerator(seed: 11)
            for round in 0..<1000 {
                let (first, second) = (round % 2, 1 - round % 2)
                let (held, next) = (Fixture.request("watched"), Fixture.request("watched"))
                try await Self.grant(held, stores[first], signals[first], round)
                async let asked = SessionFaultTests.insist(stores[second], next)
                // From before its node is made to after its watch is set.
                try await Task.sleep(for: .microseconds(Int.random(in: 0...2500, using: &generator)))
                if round % 51 == 0 { proxy.cut() }
                _ = try? await stores[first].release(held.key)
                _ = try await asked
                try await Self.grant(next, stores[second], signals[second], round)
                _ = try? await stores[second].release(next.key)
            }
        }
    }

    /// Asks once, and then when told.
    private static func grant(_ request: LockRequest, _ store: ZooKeeperLockStore, _ signals: Signals, _ round: Int)
        async throws
    {
        guard case .waiting = try await SessionFaultTests.insist(store, request) else { return }
        try await Fixture.eventually(within: .seconds(5), "round \(round): forgotten") {
            signals.all.suffix(8).contains(.granted(request.id))
        }
        guard case .granted = try await SessionFaultTests.insist(store, request) else {
            Issue.record("round \(round): told, and not granted")
            return
        }
    }
}
