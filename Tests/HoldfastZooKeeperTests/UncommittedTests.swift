// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import HoldfastTesting
import HoldfastZooKeeper
import Testing

/// A create that the leader has proposed, and that is committed only after its client has looked for it elsewhere.
@Suite("ZooKeeper creates that are late", .timeLimit(.minutes(5)), .serialized)
struct UncommittedTests {
    /// What a client does after the answer is lost.
    enum Sequel: Sendable, CaseIterable {
        case asksAgain
        case givesUp
    }

    @Test("Are found, or removed, however late they are committed", arguments: Sequel.allCases)
    func late(_ sequel: Sequel) async throws {
        let ensemble = try await ZooKeeperEnsemble(members: 5)
        let leader = try #require(ensemble.leader)
        let followers = ensemble.servers.filter { $0 !== leader }
        let (gone, other, idle) = (followers[0], followers[1], followers[2...])
        let store = try await Self.store(on: gone, or: other)
        let observer = try Fixture.store(leader.hosts)
        try await Fixture.running([store, observer]) {
            let request = Fixture.request("late")
            for server in idle { server.pause() }
            leader.pause()
            async let lost = try? store.acquire(request)
            // The follower has passed it on, and the leader has not read it.
            try await Task.sleep(for: .milliseconds(200))
            gone.kill()
            leader.resume()
            if case .granted? = await lost { Issue.record("the answer was not lost") }
            // Two of five commit nothing, and answer reads.
            switch sequel {
            case .asksAgain:
                async let again = SessionFaultTests.insist(store, request)
                try await Task.sleep(for: .milliseconds(700))
                for server in idle { server.resume() }
                let reply = try await again
                guard case .granted = reply else {
                    Issue.record("\(reply)")
                    return
                }
                let status = try await observer.status(of: "late")
                #expect(status.holders.count == 1)
                #expect(status.waiters.isEmpty)
                #expect(try await store.release(request.key) == .released)
            case .givesUp:
                _ = try await store.withdraw(request.key)
                try await Task.sleep(for: .milliseconds(700))
                for server in idle { server.resume() }
                // What was proposed is committed with this at the latest.
                _ = try await SessionFaultTests.insist(observer, Fixture.request("barrier"))
            }
            try await Fixture.eventually("a node is left") { try await observer.status(of: "late").isFree }
        }
    }

    /// A store whose session is at one server, that may go to another.
    private static func store(on server: ZooKeeperServer, or other: ZooKeeperServer) async throws -> ZooKeeperLockStore
    {
        for _ in 0..<40 {
            let store = try Fixture.store("\(server.hosts),\(other.hosts)")
            let warm = Fixture.request("late")
            guard case .granted = try await SessionFaultTests.insist(store, warm) else { continue }
            _ = try await store.release(warm.key)
            if try server.command("cons").contains("sid=0x") { return store }
            await store.closeSession(draining: .milliseconds(500))
        }
        throw LockError(.storeUnavailable, "the client never chooses that server")
    }
}
