// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import HoldfastTesting
import HoldfastZooKeeper
import Testing

/// Three servers, of which some fail.
@Suite("A ZooKeeper ensemble", .timeLimit(.minutes(5)), .serialized)
struct EnsembleTests {
    /// With a session that outlives an election on a busy machine, unless a test waits for its end.
    private static func url(_ ensemble: ZooKeeperEnsemble, session: String = "20s") -> String {
        "zookeeper://\(ensemble.hosts)/locks?sharing=no&session=\(session)&tick=200ms&timeout=2s"
    }

    @Test("A leader that is killed costs no lock, 20 times (Z4)")
    func leaderKilled() async throws {
        let ensemble = try await ZooKeeperEnsemble()
        try await withLockService(store: try ZooKeeperLockStore(url: Self.url(ensemble))) { locks in
            let lease = try await locks.acquire("kept")
            for round in 0..<20 {
                let leader = try #require(ensemble.leader)
                leader.kill()
                try await Fixture.eventually(within: .seconds(20), "round \(round): no new leader") {
                    (try? await lease.renew()) != nil
                }
                try lease.checkValid()
                let other = try await locks.acquire("other", waitingAtMost: .seconds(10))
                await other.release()
                try await leader.start()
            }
            #expect(try await locks.holders(of: "kept").first?.fencingToken == lease.fencingToken)
            let reply = await lease.release()
            #expect(reply == .released)
        }
    }

    @Test("A server that only lets read gives nobody a session, and with a majority again locks are granted")
    func onlyReads() async throws {
        let ensemble = try await ZooKeeperEnsemble(.plain, readsAlone: true)
        ensemble.servers[0].kill()
        ensemble.servers[1].kill()
        try await Fixture.eventually(within: .seconds(30), "it does not let read") {
            ensemble.servers[2].mode == "read-only"
        }
        let store = try ZooKeeperLockStore(url: Self.url(ensemble))
        try await Fixture.running([store]) {
            let request = Fixture.request("x")
            let asked = ContinuousClock.now
            let error = await #expect(throws: LockError.self) { _ = try await store.acquire(request) }
            #expect(error?.code == .storeUnavailable)
            #expect(asked.duration(to: .now) < .seconds(6))
            #expect(ensemble.servers[2].mode == "read-only")
            try ensemble.servers[0].launchAgain()
            try ensemble.servers[1].launchAgain()
            try await Fixture.eventually(within: .seconds(30), "no leader") { ensemble.leader != nil }
            try await Fixture.eventually("nothing is granted") {
                if case .granted? = try? await store.acquire(request) { true } else { false }
            }
        }
    }

    @Test("Without a majority calls end in time, and with it again locks are granted (Z6)")
    func majorityLost() async throws {
        let ensemble = try await ZooKeeperEnsemble()
        let store = try ZooKeeperLockStore(url: Self.url(ensemble))
        try await Fixture.running([store]) {
            let first = Fixture.request("first")
            _ = try await SessionFaultTests.insist(store, first)
            ensemble.servers[0].kill()
            ensemble.servers[1].kill()
            let asked = ContinuousClock.now
            let request = Fixture.request("second")
            let error = await #expect(throws: LockError.self) { _ = try await store.acquire(request) }
            #expect(error?.code == .storeUnavailable)
            #expect(asked.duration(to: .now) < .seconds(6))
            // Nor does any other call wait for a majority, and none says what it cannot know.
            let again = ContinuousClock.now
            async let renewed = store.renew([Renewal(key: first.key, lease: .seconds(2))])
            async let withdrawn = try? store.withdraw(Fixture.request("third").key)
            async let status = try? store.status(of: "first")
            if let replies = try? await renewed { #expect(replies == [.unknown]) }
            _ = await withdrawn
            #expect(await status == nil)
            #expect(again.duration(to: .now) < .seconds(6))
            try ensemble.servers[0].launchAgain()
            try ensemble.servers[1].launchAgain()
            // Two Java programs start, and elect one of the three.
            try await Fixture.eventually(within: .seconds(30), "no leader") { ensemble.leader != nil }
            try await Fixture.eventually("nothing is granted") {
                if case .granted? = try? await store.acquire(request) { true } else { false }
            }
            #expect(try await store.status(of: "second").holders.count == 1)
        }
    }

    @Test("A leader that freezes costs no lock that is held by way of another server (Z5)")
    func leaderFrozenElsewhere() async throws {
        let ensemble = try await ZooKeeperEnsemble()
        for round in 0..<5 {
            let leader = try #require(ensemble.leader)
            let hosts = ensemble.servers.filter { $0 !== leader }.map(\.hosts).joined(separator: ",")
            // Who knows the tick believes for longer, and here for longer than a new leader takes.
            let url = "zookeeper://\(hosts)/locks?sharing=no&session=10s&tick=200ms&timeout=2s"
            try await withLockService(store: try ZooKeeperLockStore(url: url)) { locks in
                let lease = try await locks.acquire("kept")
                leader.pause()
                defer { leader.resume() }
                try await Fixture.eventually(within: .seconds(20), "round \(round): no new leader") {
                    (try? await lease.renew()) != nil
                }
                try lease.checkValid()
                #expect(try await locks.holders(of: "kept").first?.fencingToken == lease.fencingToken)
                let reply = await lease.release()
                #expect(reply == .released)
            }
            try await Fixture.eventually(within: .seconds(30), "round \(round): the old leader does not follow") {
                leader.mode == "follower"
            }
        }
    }

    @Test("A leader that is cut off from the others costs no lock, neither of its own clients nor of theirs (Z5)")
    func leaderCutOff() async throws {
        let ensemble = try await ZooKeeperEnsemble(.severable)
        // Two servers that were never connected to each other may ask for votes at longer and longer intervals.
        let url = "zookeeper://\(ensemble.hosts)/locks?sharing=no&session=60s&tick=200ms&timeout=2s"
        for round in 0..<4 {
            let leader = try #require(ensemble.leader)
            let beside = ensemble.servers.filter { $0 !== leader }.map(\.hosts).joined(separator: ",")
            let elsewhere = "zookeeper://\(beside)/locks?sharing=no&session=60s&tick=200ms&timeout=2s"
            // First a connection to the leader, and another where it has to be.
            let store = try ZooKeeperLockStore(url: url)
            try await withLockService(store: store) { locks in
                try await withLockService(store: try ZooKeeperLockStore(url: elsewhere)) { others in
                    let lease = try await locks.acquire("kept")
                    let theirs = try await others.acquire("theirs")
                    ensemble.cutOff(leader)
                    for held in [lease, theirs] {
                        try await Fixture.eventually(within: .seconds(50), "round \(round): not renewed") {
                            (try? await held.renew()) != nil
                        }
                        try held.checkValid()
                    }
                    #expect(ensemble.servers.contains { $0 !== leader && $0.mode == "leader" }, "round \(round)")
                    ensemble.reunite()
                    #expect(try await others.holders(of: "kept").first?.fencingToken == lease.fencingToken)
                    #expect(try await locks.holders(of: "theirs").first?.fencingToken == theirs.fencingToken)
                    for held in [lease, theirs] { #expect(await held.release() == .released, "round \(round)") }
                }
            }
            try await Fixture.eventually(within: .seconds(30), "round \(round): the old leader does not follow") {
                leader.mode == "follower"
            }
        }
    }

    @Test("A follower that lags lets nobody in too early, and tells what is now (Z10)")
    func lagging() async throws {
        let ensemble = try await ZooKeeperEnsemble(.lagging(.milliseconds(200)))
        let (late, others) = (ensemble.servers[0], ensemble.servers[1...].map(\.hosts).joined(separator: ","))
        try #require(late.mode == "follower")
        let inside = Cell(0)
        let turns = Cell(0)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for hosts in [late.hosts, others] {
                group.addTask {
                    try await Fixture.withService(hosts, "&session=10s") { locks in
                        for _ in 0..<20 {
                            try await locks.withLock("lag", waitingAtMost: .seconds(60)) { lease in
                                try lease.checkValid()
                                inside.add(1)
                                #expect(inside.value == 1)
                                try await Task.sleep(for: .milliseconds(2))
                                inside.add(-1)
                                turns.add(1)
                            }
                        }
                    }
                }
            }
            try await group.waitForAll()
        }
        #expect(turns.value == 40)
        let (there, here) = (try Fixture.store(late.hosts), try Fixture.store(others))
        try await Fixture.running([there, here]) {
            // Connected, so that only the answer is late.
            #expect(try await there.status(of: "seen").isFree)
            for round in 0..<10 {
                let request = Fixture.request("seen")
                guard case .granted = try await SessionFaultTests.insist(here, request) else { return }
                #expect(try await there.status(of: "seen").holders.count == 1, "round \(round)")
                #expect(try await here.release(request.key) == .released)
                // A release is over when it is on its way.
                _ = try await here.status(of: "seen")
                #expect(try await there.status(of: "seen").isFree, "round \(round)")
            }
        }
    }

    @Test("A leader that freezes: two never believe that they hold the lock, and somebody goes on")
    func leaderFrozen() async throws {
        let ensemble = try await ZooKeeperEnsemble()
        let inside = Cell(0)
        let turns = Cell(0)
        let stop = Cell(false)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<2 {
                group.addTask {
                    let store = try ZooKeeperLockStore(url: Self.url(ensemble, session: "6s"))
                    try await withLockService(store: store) { locks in
                        while !stop.value {
                            do {
                                try await locks.withLock("frozen", waitingAtMost: .seconds(5)) { lease in
                                    guard (try? lease.checkValid()) != nil else { return }
                                    inside.value += 1
                                    #expect(inside.value == 1)
                                    try? await Task.sleep(for: .milliseconds(20))
                                    inside.value -= 1
                                    turns.value += 1
                                }
                            } catch is LockError {
                                try await Task.sleep(for: .milliseconds(50))
                            }
                        }
                    }
                }
            }
            try await Fixture.eventually("nobody holds") { turns.value > 10 }
            let leader = try #require(ensemble.leader)
            leader.pause()
            let before = turns.value
            try await Fixture.eventually(within: .seconds(40), "nobody goes on") { turns.value > before + 10 }
            leader.resume()
            let after = turns.value
            try await Fixture.eventually(within: .seconds(20), "nobody goes on afterwards") { turns.value > after + 10 }
            stop.value = true
            try await group.waitForAll()
        }
    }
}
