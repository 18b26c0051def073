// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import HoldfastTesting
import Synchronization
import Testing

@testable import HoldfastZooKeeper

/// What must not be left behind, and what must not be stumbled over.
@Suite("Leftovers in ZooKeeper", .timeLimit(.minutes(5)), .serialized)
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

    @Test("Containers that are removed on the way to a lock are made again")
    func reaped() async throws {
        let server = try await ZooKeeperServer()
        let store = try Fixture.store(server.hosts)
        let reaper = try Fixture.store(server.hosts)
        let parts = ["reaped", "a", "b", "c", "d"]
        let paths = parts.indices.map { "/locks/\(parts[...$0].joined(separator: "/"))" }
        let isOver = Cell(false)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                let wire = Wire(
                    link: try await reaper.session.ready(by: .now.advanced(by: .seconds(10))),
                    deadline: .now.advanced(by: .seconds(100))
                )
                while !isOver.value {
                    _ = await wire.delete(paths.randomElement() ?? "")
                    try await Task.sleep(for: .microseconds(.random(in: 0...2000)))
                }
            }
            let resource = try Resource(parts.joined(separator: "/"))
            for round in 0..<60 {
                let request = Fixture.request(resource)
                do {
                    guard case .granted = try await store.acquire(request) else {
                        Issue.record("round \(round): not granted")
                        break
                    }
                } catch {
                    Issue.record("round \(round): \(error)")
                }
                _ = try await store.release(request.key)
                try await Fixture.eventually("nothing is reaped") {
                    await (try store.wire()).get(paths[0]).code == .noNode
                }
            }
            isOver.value = true
            try await group.waitForAll()
        }
    }

    @Test("A waiter that asks again and again has one watch")
    func watches() async throws {
        let server = try await ZooKeeperServer()
        let (holder, waiter) = (try Fixture.store(server.hosts), try Fixture.store(server.hosts))
        let signals = Signals(of: waiter)
        try await Fixture.running([holder, waiter]) {
            let (held, next) = (Fixture.request("watched"), Fixture.request("watched"))
            _ = try await holder.acquire(held)
            for _ in 0..<200 {
                guard case .waiting = try await waiter.acquire(next) else {
                    Issue.record("not waiting")
                    return
                }
            }
            let before = CallbackTable.shared.strayWatches
            _ = try await holder.release(held.key)
            try await Fixture.eventually("not granted") { signals.all.contains(.granted(next.id)) }
            // What follows on the same thread comes after all of them.
            _ = try await waiter.acquire(next)
            #expect(CallbackTable.shared.strayWatches - before <= 1)
        }
    }

    @Test("Waits that are given up, and upgrades that ask again, leave no watches behind")
    func forgottenWatches() async throws {
        let server = try await ZooKeeperServer()
        let (holder, waiter) = (try Fixture.store(server.hosts), try Fixture.store(server.hosts))
        let signals = Signals(of: waiter)
        try await Fixture.running([holder, waiter]) {
            let (held, wishing) = (Fixture.request("x", mode: .shared), Fixture.request("x", mode: .update))
            let other = Fixture.request("y")
            for request in [held, other] { _ = try await holder.acquire(request) }
            _ = try await waiter.acquire(wishing)
            for _ in 0..<100 {
                let next = Fixture.request("y")
                guard case .waiting = try await waiter.acquire(next) else {
                    Issue.record("not waiting")
                    return
                }
                #expect(try await waiter.withdraw(next.key) == .withdrawn)
            }
            for _ in 0..<100 {
                guard
                    case .waiting = try await waiter.convert(
                        Conversion(wishing.key, to: .exclusive, contention: .queue)
                    )
                else {
                    Issue.record("not waiting for the upgrade")
                    return
                }
            }
            let before = CallbackTable.shared.strayWatches
            for request in [other, held] { _ = try await holder.release(request.key) }
            try await Fixture.eventually("not granted") { signals.all.contains(.granted(wishing.id)) }
            _ = try await waiter.status(of: "x")
            #expect(CallbackTable.shared.strayWatches - before <= 1)
        }
    }

    @Test("Nothing says that somebody waits who has gone meanwhile")
    func registrations() async throws {
        let server = try await ZooKeeperServer()
        for round in 0..<20 {
            // A root of its own, whose room for this has to be made first.
            let root = "/root\(round)"
            let url = "\(server.url)\(root)?session=20s"
            let (holder, waiter) = (try ZooKeeperLockStore(url: url), try ZooKeeperLockStore(url: url))
            let (held, next) = (Fixture.request("x"), Fixture.request("x"))
            _ = try await holder.acquire(held)
            guard case .waiting = try await waiter.acquire(next) else { return }
            async let waits = waiter.waits(of: next.owner, for: next.resource)
            _ = try await waiter.withdraw(next.key)
            _ = try await waits
            let room = "\(root)/.holdfast/waits"
            try await Fixture.eventually(within: .seconds(3), "round \(round): a node is left") {
                await (try holder.wire()).children(of: room).children.isEmpty
            }
            _ = try await holder.release(held.key)
        }
    }

    @Test("A renewal does not vouch for a node that could not be looked at")
    func unknownNode() async throws {
        let server = try await ZooKeeperServer()
        let store = try Fixture.store(server.hosts)
        let request = Fixture.request("unknown")
        guard case .granted = try await store.acquire(request) else { return }
        // A path that the client library does not take.
        let name = LockName.replacement(.curator, guid: "no//path", .exclusive, .held, sequence: 0)
        store.book.withLock { book in
            guard let entry = book[request.id] else { return }
            _ = book.update(request.id, guid: entry.guid) { $0.node = RequestBook.Node(name: name, created: 1) }
        }
        #expect(try await store.renew([Renewal(key: request.key, lease: .seconds(1))]) == [.unknown])
    }

    @Test("A lock whose node is deleted between two turns is made again, and its tokens rise (Z13)")
    func deleted() async throws {
        let server = try await ZooKeeperServer()
        let store = try Fixture.store(server.hosts)
        var last = FencingToken.zero
        for round in 0..<20 {
            let request = Fixture.request("deleted/below")
            guard case .granted(let token) = try await store.acquire(request) else {
                Issue.record("round \(round): not granted")
                return
            }
            #expect(token > last, "round \(round)")
            last = token
            #expect(try await store.release(request.key) == .released)
            let wire = try await store.wire()
            for path in ["/locks/deleted/below", "/locks/deleted", "/locks"].prefix(1 + round % 3) {
                let reply = await wire.delete(path)
                #expect(reply.code == .ok, "round \(round): \(path)")
            }
        }
    }

    @Test("A node with a request's own GUID of another session is not its own (pain 21: curator#1121)")
    func foreignNode() async throws {
        let server = try await ZooKeeperServer()
        let (store, dying) = (try Fixture.store(server.hosts), try Fixture.store(server.hosts))
        let request = Fixture.request("foreign")
        // The answer to the create is lost, and what it made belongs to a session that is about to end.
        let wire = try await store.wire()
        try await store.makeParents(of: "/locks/foreign", wire)
        let guid = LockName.guid(.curator, for: request.id, random: 1, 2)
        let prefix = LockName.prefix(.curator, guid: guid, .exclusive, .queued)
        let made = await (try dying.wire()).create("/locks/foreign/\(prefix)", [], .ephemeralSequential)
        #expect(made.code == .ok)
        store.book.withLock { book in
            var entry = RequestBook.Entry(
                request: request,
                parent: "/locks/foreign",
                guid: guid,
                epoch: wire.link.epoch,
                since: .now,
                waitEnd: nil
            )
            entry.phase = .unresolved
            book.enter(entry)
        }
        guard case .waiting = try await store.acquire(request) else {
            Issue.record("granted by a node of another session")
            return
        }
        await dying.closeSession(draining: .zero)
        try await Fixture.eventually("not granted after its end") {
            if case .granted = try await store.acquire(request) { true } else { false }
        }
    }

    @Test("Credentials that the servers refuse end the session, with an error and without more tries (Z12)")
    func refusedCredentials() async throws {
        let server = try await ZooKeeperServer()
        var settings = try ZooKeeperConfiguration(url: Fixture.url("anna:secret@\(server.hosts)")).sessionSettings
        // Servers take every user of `digest`, and nothing that they have no plug-in for.
        settings.scheme = "unheard-of"
        let session = Session(settings)
        try await Fixture.eventually("it is not over") {
            _ = try? await session.ready(by: .now.advanced(by: .seconds(2)))
            return session.isOver
        }
        for _ in 0..<2 {
            let error = await #expect(throws: LockError.self) {
                _ = try await session.ready(by: .now.advanced(by: .seconds(2)))
            }
            #expect(error?.code == .storeRefused)
            #expect(error?.message.contains("refused the user") == true)
            #expect(error?.message.contains("secret") == false)
        }
        try await Fixture.eventually("still connected") { try !server.command("cons").contains("sid=0x") }
        let before = try #require(try server.number(after: "Received: ", in: "srvr"))
        try await Task.sleep(for: .seconds(1))
        // The question itself counts; each try would be one more at least.
        #expect(try #require(try server.number(after: "Received: ", in: "srvr")) - before <= 1)
        await session.close(draining: .zero)
    }

    /// How many connections this machine has asked for since it was started; those of other tests too.
    static func connectionsSoFar() throws -> Int {
        let lines = (OverlapLog.text(of: "/proc/net/snmp") ?? "").split(separator: "\n").filter { $0.hasPrefix("Tcp:") }
        let columns = try #require(lines.first).split(separator: " ")
        let index = try #require(columns.firstIndex(of: "ActiveOpens"))
        let counts = try #require(lines.last).split(separator: " ")
        return try #require(Int(counts[index]))
    }

    @Test("A store whose user is refused says so in each call, and its holders are told (Z12)")
    func refusedUser() async throws {
        let server = try await ZooKeeperServer()
        let store = try Fixture.store("anna:secret@\(server.hosts)")
        let signals = Signals(of: store)
        let request = Fixture.request("refused")
        guard case .granted = try await store.acquire(request) else { return }
        let handle = try await store.wire().link.handle
        // ZOO_AUTH_FAILED_STATE: servers with digest authentication take every user, so the library is spoken for.
        CallbackTable.shared.changed(handle.number, to: -113)
        for _ in 0..<2 {
            let error = await #expect(throws: LockError.self) { _ = try await store.acquire(Fixture.request("x")) }
            #expect(error?.code == .storeRefused)
            #expect(error?.message.contains("refused the user") == true)
            #expect(error?.message.contains("secret") == false)
        }
        await #expect(throws: LockError.self) { try await store.run() }
        #expect(signals.all == [.lost(request.id, .expired)])
        try await Fixture.eventually("still connected") { try !server.command("cons").contains("sid=0x") }
    }
}
