// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import HoldfastTesting
import HoldfastZooKeeper
import Testing

/// A client that talks to a follower: the leader, which ends sessions, hears of it only now and then.
@Suite("A ZooKeeper follower that stops", .timeLimit(.minutes(5)), .serialized)
struct FollowerTests {
    @Test("Nobody else is granted a lock while a renewal that the follower passed on may be believed in")
    func afterRenewal() async throws {
        let ensemble = try await ZooKeeperEnsemble()
        let leader = try #require(ensemble.leader)
        let follower = try #require(ensemble.servers.first { $0.mode == "follower" })
        let behind = try Fixture.store(follower.hosts)
        let other = try Fixture.store(leader.hosts)
        let signals = Signals(of: other)
        let believed = try #require(behind.capabilities.sessionLease)
        try await Fixture.running([behind, other]) {
            for round in 0..<4 {
                let held = Fixture.request("follower", lease: believed)
                let next = Fixture.request("follower")
                guard case .granted = try await SessionFaultTests.insist(behind, held),
                    case .waiting = try await SessionFaultTests.insist(other, next)
                else {
                    Issue.record("round \(round): not granted and waiting")
                    return
                }
                // As long as a holder is silent between renewals.
                try await Task.sleep(for: believed / 3)
                let asked = ContinuousClock.now
                let replies = try await behind.renew([Renewal(key: held.key, lease: believed)])
                follower.pause()
                #expect(replies == [.renewed(revokeRequested: false)], "round \(round)")
                try await Fixture.eventually("round \(round): the other is not granted") {
                    signals.all.contains(.granted(next.id))
                }
                let missing = ContinuousClock.now.duration(to: asked.advanced(by: believed))
                #expect(missing <= .zero, "round \(round): two may believe in it for \(missing)")
                follower.resume()
                #expect(try await other.release(next.key) == .released)
                try await Fixture.eventually(within: .seconds(30), "round \(round): the follower does not come back") {
                    follower.mode == "follower"
                }
            }
        }
    }
}
