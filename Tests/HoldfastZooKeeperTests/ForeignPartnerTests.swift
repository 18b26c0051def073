// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import HoldfastTesting
import HoldfastZooKeeper
import Testing

/// Real Curator and real kazoo on the same locks as ours.
@Suite("Locks shared with Curator and kazoo", .timeLimit(.minutes(5)), .serialized)
struct ForeignPartnerTests {
    /// Who takes part, and how.
    struct Mixture: Sendable, CustomStringConvertible {
        let description: String
        let library: Partner.Library
        let layout: String
        /// What the partners do.
        let modes: [String]
        /// What we do.
        let own: [LockMode]
    }

    private static let rounds = 50

    @Test(
        "200 contended turns, mixed between them and us, without an overlap",
        arguments: [
            Mixture(
                description: "Curator's mutex",
                library: .curator,
                layout: "curator",
                modes: ["mutex", "mutex"],
                own: [.exclusive, .exclusive]
            ),
            Mixture(
                description: "Curator's read-write lock",
                library: .curator,
                layout: "curator-rw",
                modes: ["read", "write"],
                own: [.shared, .exclusive]
            ),
            Mixture(
                description: "kazoo's lock",
                library: .kazoo,
                layout: "kazoo",
                modes: ["mutex", "mutex"],
                own: [.exclusive, .exclusive]
            ),
            // The readers of Debian's kazoo, 2.8.0, wait for writers behind them, also for its own, and hang; 2.11 is well.
            Mixture(
                description: "kazoo's writers and our readers",
                library: .kazoo,
                layout: "kazoo",
                modes: ["write", "write"],
                own: [.shared, .shared]
            ),
        ]
    )
    func mixed(_ mixture: Mixture) async throws {
        let server = try await ZooKeeperServer()
        let log = try OverlapLog()
        // Theirs take a moment to start: nobody has a turn before all wait for one.
        try await Fixture.withService(server.hosts, "&session=20s&layout=\(mixture.layout)") { gate in
            let lease = try await gate.acquire("turns")
            try await withThrowingTaskGroup(of: Void.self) { group in
                for (number, mode) in mixture.modes.enumerated() {
                    let partner = try await Partner(
                        mixture.library,
                        server.hosts,
                        "/locks/turns",
                        log: log,
                        name: "partner\(number)",
                        rounds: Self.rounds,
                        mode: mode
                    )
                    group.addTask { try await partner.end() }
                }
                for (number, mode) in mixture.own.enumerated() {
                    group.addTask {
                        try await Fixture.withService(server.hosts, "&layout=\(mixture.layout)") { locks in
                            for _ in 0..<Self.rounds {
                                try await locks.withLock("turns", mode: mode) { _ in
                                    log.enter("own\(number)", reads: mode == .shared)
                                    try await Task.sleep(for: .milliseconds(1))
                                    log.leave("own\(number)", reads: mode == .shared)
                                }
                            }
                        }
                    }
                }
                try await Fixture.eventually(within: .seconds(30), "not all wait") {
                    try await gate.status(of: "turns").waiters.count == 4
                }
                #expect(log.lines.isEmpty)
                await lease.release()
                try await group.waitForAll()
            }
        }
        let turns = try log.verify()
        #expect(turns.values.reduce(0, +) == 4 * Self.rounds)
        #expect(turns.count == 4)
        // They were mixed: both sides came between the other's first and last turns.
        let sides = log.lines.filter { $0.hasPrefix("enter") }.map { $0.contains("own") }
        let changes = zip(sides, sides.dropFirst()).count { $0 != $1 }
        #expect(changes >= 50)
    }

    @Test("The check for overlaps finds one")
    func negativeControl() throws {
        let log = try OverlapLog()
        log.enter("a")
        log.enter("b")
        #expect(throws: LockError.self) { try log.verify() }
    }

    @Test("Readers of ours keep a Curator mutex out, and it keeps ours out")
    func curatorWaits() async throws {
        let server = try await ZooKeeperServer()
        let log = try OverlapLog()
        try await Fixture.withService(server.hosts) { locks in
            let reader = try await locks.acquire("x", mode: .shared)
            let partner = try await Partner(.curator, server.hosts, "/locks/x", log: log, name: "curator")
            try await Fixture.eventually("Curator does not queue up") {
                try await locks.status(of: "x").waiters.count == 1
            }
            try await Task.sleep(for: .milliseconds(300))
            #expect(log.lines.isEmpty)
            // A reader behind it waits too: Curator is next.
            let beside = try await locks.tryAcquire("x", mode: .shared)
            #expect(beside == nil)
            await reader.release()
            try await Fixture.eventually("Curator does not get the lock") { log.lines.count == 1 }
            let second = try await locks.tryAcquire("x")
            #expect(second == nil)
            let holder = try #require(try await locks.holders(of: "x").first)
            #expect(holder.owner == nil)
            #expect(holder.reference == nil)
            #expect(holder.mode == .exclusive)
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await locks.withLock("x", mode: .update) { _ in log.enter("own") } }
                try await Fixture.eventually("we do not queue up") {
                    try await locks.status(of: "x").waiters.count == 1
                }
                log.go()
                try await group.waitForAll()
            }
            try await partner.end()
            let turns = try log.verify()
            #expect(turns == ["curator": 1, "own": 1])
        }
    }

    @Test(
        "Locks of two layouts on one path are refused, and nothing is left behind",
        arguments: [
            (Partner.Library.kazoo, "curator"), (.kazoo, "curator-rw"), (.curator, "kazoo"), (.curator, "curator-rw"),
        ]
    )
    func mixing(_ library: Partner.Library, _ layout: String) async throws {
        let server = try await ZooKeeperServer()
        let log = try OverlapLog()
        let partner = try await Partner(library, server.hosts, "/locks/x", log: log, name: "foreign")
        try await Fixture.eventually("the partner does not come") { log.lines.count == 1 }
        try await Fixture.withService(server.hosts, "&layout=\(layout)") { locks in
            for isPatient in [true, false] {
                let error = await #expect(throws: LockError.self) {
                    if isPatient { _ = try await locks.acquire("x") } else { _ = try await locks.tryAcquire("x") }
                }
                #expect(error?.code == .storeRefused)
                #expect(error?.message.contains("?layout=") == true)
                #expect(error?.message.contains(library == .kazoo ? "__lock__" : "-lock-") == true)
            }
            try await Fixture.eventually("a node is left behind") {
                try server.command("dump").split(separator: "\n").count { $0.contains("/locks/x/") } == 1
            }
        }
        log.go()
        try await partner.end()
    }

    @Test(
        "Who becomes a reader keeps a waiting writer of theirs out, and lets their reader in (CURATOR-621)",
        arguments: [(Partner.Library.curator, "curator-rw"), (.kazoo, "kazoo")]
    )
    func downgrade(_ library: Partner.Library, _ layout: String) async throws {
        let server = try await ZooKeeperServer()
        let log = try OverlapLog()
        try await Fixture.withService(server.hosts, "&layout=\(layout)") { locks in
            let lease = try await locks.acquire("x")
            let token = lease.fencingToken
            let writer = try await Partner(
                library,
                server.hosts,
                "/locks/x",
                log: log,
                name: "w",
                rounds: 1,
                mode: "write"
            )
            try await Fixture.eventually("no writer waits") { try await locks.status(of: "x").waiters.count == 1 }
            try await lease.downgrade()
            #expect(lease.fencingToken == token)
            #expect(try await locks.holders(of: "x").map(\.mode) == [.shared])
            try await Task.sleep(for: .milliseconds(500))
            #expect(log.lines.isEmpty)
            #expect(try await locks.status(of: "x").waiters.count == 1)
            try lease.checkValid()
            #expect(await lease.release() == .released)
            try await writer.end()
            let again = try await locks.acquire("x", waitingAtMost: .seconds(10))
            #expect(again.fencingToken > token)
            let reader = try await Partner(
                library,
                server.hosts,
                "/locks/x",
                log: log,
                name: "r",
                rounds: 1,
                mode: "read"
            )
            try await Fixture.eventually("no reader waits") { try await locks.status(of: "x").waiters.count == 1 }
            try await again.downgrade()
            try await reader.end()
            #expect(await again.release() == .released)
        }
        #expect(try log.verify() == ["w": 1, "r": 1])
    }

    @Test(
        "What a layout cannot carry is refused before anything is made",
        arguments: ["curator-rw", "kazoo"],
        [LockMode.update, .permit(of: 2)]
    )
    func unsupported(_ layout: String, _ mode: LockMode) async throws {
        let server = try await ZooKeeperServer()
        try await Fixture.withService(server.hosts, "&layout=\(layout)") { locks in
            _ = try await locks.status(of: "there")
            let before = try server.number(after: "Node count: ", in: "srvr")
            for isPatient in [true, false] {
                let error = await #expect(throws: LockError.self) {
                    if isPatient {
                        _ = try await locks.acquire("x", mode: mode)
                    } else {
                        _ = try await locks.tryAcquire("x", mode: mode)
                    }
                }
                #expect(error?.code == .unsupported)
                #expect(error?.message.contains("zookeeper") == true)
            }
            #expect(try server.number(after: "Node count: ", in: "srvr") == before)
        }
    }

    @Test("A reader of kazoo's lets our readers in and keeps our writers out")
    func kazooReads() async throws {
        let server = try await ZooKeeperServer()
        let log = try OverlapLog()
        let partner = try await Partner(.kazoo, server.hosts, "/locks/x", log: log, name: "kazoo", mode: "read")
        try await Fixture.eventually("kazoo does not come") { log.lines.count == 1 }
        try await Fixture.withService(server.hosts, "&layout=kazoo") { locks in
            let writer = try await locks.tryAcquire("x")
            #expect(writer == nil)
            try await locks.withLock("x", mode: .shared) { _ in
                let holders = try await locks.holders(of: "x")
                #expect(holders.map(\.mode) == [.shared, .shared])
            }
            log.go()
            try await partner.end()
            try await locks.withLock("x", waitingAtMost: .seconds(5)) { _ in log.enter("own") }
        }
    }

    @Test("Children that are no locks are ignored")
    func junk() async throws {
        let server = try await ZooKeeperServer()
        let log = try OverlapLog()
        try await Partner(.kazoo, server.hosts, "/locks/x", log: log, name: "litter", mode: "junk").end()
        for layout in ["curator", "curator-rw", "kazoo"] {
            try await Fixture.withService(server.hosts, "&layout=\(layout)") { locks in
                try await locks.withLock("x") { _ in
                    let status = try await locks.status(of: "x")
                    #expect(status.holders.count == 1)
                    #expect(status.waiters.isEmpty)
                }
            }
        }
    }

    @Test("A lock whose node was removed in between is made again, and its tokens still rise")
    func removed() async throws {
        let server = try await ZooKeeperServer()
        let log = try OverlapLog()
        try await Fixture.withService(server.hosts, "&release=confirmed") { locks in
            var last = FencingToken.zero
            for round in 0..<3 {
                let lease = try await locks.acquire("x")
                #expect(lease.fencingToken > last)
                last = lease.fencingToken
                await lease.release()
                try await Partner(.kazoo, server.hosts, "/locks/x", log: log, name: "reaper\(round)", mode: "remove")
                    .end()
            }
        }
    }

    @Test("Curator's Revoker reaches a holder of ours")
    func revoker() async throws {
        let server = try await ZooKeeperServer()
        let log = try OverlapLog()
        try await Fixture.withService(server.hosts) { locks in
            let lease = try await locks.acquire("x")
            let events = lease.events
            try await Partner(.curator, server.hosts, "/locks/x", log: log, name: "revoker", mode: "revoke").end()
            var isAsked = false
            for await event in events {
                if case .revokeRequested = event { isAsked = true }
                if isAsked { break }
            }
            #expect(isAsked)
            try lease.checkValid()
            await lease.release()
        }
    }
}
