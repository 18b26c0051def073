// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import HoldfastTesting
import Testing

@testable import HoldfastZooKeeper

/// What operators are told, whoever holds.
@Suite("What operators see in ZooKeeper", .timeLimit(.minutes(5)), .serialized)
struct OperatorTests {
    @Test("A lock is held since it was granted, and not since it was asked for")
    func since() async throws {
        let server = try await ZooKeeperServer()
        let (first, second) = (try Fixture.store(server.hosts), try Fixture.store(server.hosts))
        let observer = try Fixture.store(server.hosts)
        let signals = Signals(of: second)
        try await Fixture.running([first, second, observer]) {
            let (held, next) = (Fixture.request("x", mode: .update), Fixture.request("x"))
            guard case .granted = try await first.acquire(held), case .waiting = try await second.acquire(next) else {
                Issue.record("not granted and waiting")
                return
            }
            try await Task.sleep(for: .seconds(2))
            // Another node takes the place of the first one.
            _ = try await first.convert(Conversion(held.key, to: .shared))
            let changed = try #require(try await observer.status(of: "x").holders.first?.heldFor)
            #expect(changed > .seconds(1.8))
            let released = ContinuousClock.now
            #expect(try await first.release(held.key) == .released)
            try await Fixture.eventually("not granted") { signals.all.contains(.granted(next.id)) }
            guard case .granted = try await second.acquire(next) else { return }
            // As every holder does, sooner or later.
            #expect(
                try await second.renew([Renewal(key: next.key, lease: .seconds(3))]) == [
                    .renewed(revokeRequested: false)
                ]
            )
            // It was granted after the release, and waited for two seconds before that.
            try await Fixture.eventually("the wait counts too") {
                guard let heldFor = try await observer.status(of: "x").holders.first?.heldFor else { return false }
                return heldFor < released.duration(to: .now) + .seconds(1.5)
            }
            // Nobody takes what was written for a wish.
            #expect(
                try await second.renew([Renewal(key: next.key, lease: .seconds(3))]) == [
                    .renewed(revokeRequested: false)
                ]
            )
            #expect(try await second.release(next.key) == .released)
        }
    }

    @Test(
        "Locks of another layout are shown as what they are, and can be taken away",
        arguments: [(Partner.Library.kazoo, "curator"), (.kazoo, "curator-rw"), (.curator, "kazoo")]
    )
    func otherLayout(_ library: Partner.Library, _ layout: String) async throws {
        let server = try await ZooKeeperServer()
        let log = try OverlapLog()
        let partner = try await Partner(library, server.hosts, "/locks/x", log: log, name: "theirs")
        try await Fixture.eventually("the partner does not come") { log.lines.count == 1 }
        try await Fixture.withService(server.hosts, "&layout=\(layout)") { locks in
            let holder = try #require(try await locks.status(of: "x").holders.first)
            #expect(holder.owner == nil && holder.mode == .exclusive)
            #expect(holder.note == (library == .kazoo ? "theirs" : holder.note))
            var seen: [Resource] = []
            for try await status in locks.survey("*") { seen.append(status.resource) }
            #expect(seen == ["x"])
            if library == .kazoo { #expect(try await locks.revoke("x").reached == 0) }
            // Taking it is refused all the same.
            let error = await #expect(throws: LockError.self) { _ = try await locks.tryAcquire("x") }
            #expect(error?.message.contains("?layout=") == true)
            #expect(try await locks.forceRelease("x").count == 1)
            #expect(try await locks.status(of: "x").isFree)
        }
        log.go()
        _ = try? await partner.end()
    }

    @Test("What a user may not read is counted, and a root that it may not read is an error")
    func hidden() async throws {
        let server = try await ZooKeeperServer()
        let other = try Fixture.store(server.hosts)
        let (anna, bert) = (try Fixture.store("anna:a@\(server.hosts)"), try Fixture.store("bert:b@\(server.hosts)"))
        try await Fixture.running([other, anna, bert]) {
            // The root is everybody's.
            _ = try await other.acquire(Fixture.request("open"))
            _ = try await anna.acquire(Fixture.request("team/job"))
            let page = try await bert.survey("*", after: nil)
            #expect(page.resources.map(\.resource) == ["open"])
            #expect(page.hidden == 1)
            #expect(try await anna.survey("*", after: nil).hidden == 0)
        }
        let rooted = try ZooKeeperLockStore(url: "zookeeper://bert:b@\(server.hosts)/locks/team?sharing=no")
        try await Fixture.running([rooted]) {
            let error = await #expect(throws: LockError.self) { _ = try await rooted.survey("*", after: nil) }
            #expect(error?.code == .storeRefused)
        }
    }

    @Test("Deadlocks of each user are found below one root, whoever was there first")
    func users() async throws {
        let server = try await ZooKeeperServer()
        let keeper = try Fixture.store(server.hosts)
        try await Fixture.running([keeper]) {
            _ = try await keeper.acquire(Fixture.request("open"))
            for user in ["anna:a@", "bert:b@"] {
                let names = [try Resource("\(user.prefix(4))/1"), try Resource("\(user.prefix(4))/2")]
                try await Fixture.withService("\(user)\(server.hosts)") { locks in
                    let victims = Cell(0)
                    try await withThrowingTaskGroup(of: Void.self) { group in
                        let arrived = Cell(0)
                        for order in [names, names.reversed()] {
                            group.addTask {
                                do {
                                    try await locks.withLock(order[0]) { _ in
                                        arrived.add(1)
                                        while arrived.value < 2 { try await Task.sleep(for: .milliseconds(5)) }
                                        try await locks.withLock(order[1], waitingAtMost: .seconds(20)) { _ in }
                                    }
                                } catch let error as LockError where error.code == .deadlock {
                                    victims.add(1)
                                }
                            }
                        }
                        try await group.waitForAll()
                    }
                    #expect(victims.value == 1, "\(user)")
                }
            }
        }
    }

    @Test("Whoever may not see who waits is told that deadlocks are not found")
    func noDeadlocks() async throws {
        let server = try await ZooKeeperServer()
        let (anna, other) = (try Fixture.store("anna:a@\(server.hosts)"), try Fixture.store(server.hosts))
        try await Fixture.running([anna, other]) {
            _ = try await other.acquire(Fixture.request("open"))
            #expect(await other.diagnose().contains { $0.name == "deadlocks" && $0.severity == .ok })
            try await anna.makeParents(of: other.waitsRoom, anna.wire())
            #expect(await other.diagnose().contains { $0.name == "deadlocks" && $0.severity == .warning })
            #expect(await anna.diagnose().contains { $0.name == "deadlocks" && $0.severity == .ok })
        }
    }

    @Test("Names with marks that combine with a slash are locked, and listed")
    func combining() async throws {
        let server = try await ZooKeeperServer()
        try await Fixture.withService(server.hosts) { locks in
            for name in ["q/\u{301}b", "\u{301}x", "a/\u{301}/\u{302}"] as [Resource] {
                try await locks.withLock(name) { _ in
                    var seen: [Resource] = []
                    for try await status in locks.survey("*") { seen.append(status.resource) }
                    #expect(seen == [name])
                }
            }
        }
    }
}
