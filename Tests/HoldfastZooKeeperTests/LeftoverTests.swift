// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import HoldfastTesting
import Testing

@testable import HoldfastZooKeeper

/// What must not be left behind, and what must not be stumbled over.
@Suite("Leftovers in ZooKeeper", .timeLimit(.minutes(2)), .serialized)
struct LeftoverTests {
    @Test("A store that goes away takes its nodes along, though others keep its session")
    func storeEnds() async throws {
        let server = try await ZooKeeperServer()
        let url = "\(server.url)/locks?session=20s"
        let keeper = try ZooKeeperLockStore(url: url)
        let observer = try Fixture.store(server.hosts)
        _ = try await keeper.acquire(Fixture.request("kept"))
        try await Self.use(url)
        try await Fixture.eventually(within: .seconds(5), "its nodes are left") {
            let (held, waited) = (try await observer.status(of: "left"), try await observer.status(of: "kept"))
            return held.isFree && waited.waiters.isEmpty
        }
        #expect(try await observer.status(of: "kept").holders.count == 1)
        withExtendedLifetime(keeper) {}
    }

    /// Holds one lock and waits for another, and goes away.
    private static func use(_ url: String) async throws {
        let store = try ZooKeeperLockStore(url: url)
        guard case .granted = try await store.acquire(Fixture.request("left")),
            case .waiting = try await store.acquire(Fixture.request("kept"))
        else {
            Issue.record("not granted and waiting")
            return
        }
    }
}
