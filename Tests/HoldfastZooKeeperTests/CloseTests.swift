// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import HoldfastTesting
import HoldfastZooKeeper
import Testing

@Suite("Closing ZooKeeper sessions", .timeLimit(.minutes(5)), .serialized)
struct CloseTests {
    @Test("Every call of 200 ends when the session is closed under it, a hundred times")
    func inFlight() async throws {
        let server = try await ZooKeeperServer()
        let expected = ZooKeeperLockStore.expectedCallbacks
        for round in 0..<100 {
            let store = try Fixture.store(server.hosts)
            let warm = Fixture.request("warm")
            _ = try await store.acquire(warm)
            // In every tenth round nothing is answered any more.
            if round % 10 == 1 { server.pause() }
            let ended = Cell(0)
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 0..<200 {
                    group.addTask {
                        let request = Fixture.request(try Resource("closing/\(number % 50)"))
                        _ = try? await store.acquire(request)
                        ended.add(1)
                    }
                }
                group.addTask {
                    if round % 3 == 0 { try await Task.sleep(for: .milliseconds(5)) }
                    await store.closeSession(draining: .milliseconds(10))
                }
                // Long before the calls' own time is over, which is when a call that the close forgot would end.
                try await Fixture.eventually(within: .seconds(3), "round \(round): not all calls have ended") {
                    ended.value == 200
                }
                server.resume()
                try await group.waitForAll()
            }
            #expect(ZooKeeperLockStore.expectedCallbacks == expected, "round \(round)")
            await #expect(throws: LockError.self) { _ = try await store.acquire(Fixture.request("late")) }
        }
    }
}
