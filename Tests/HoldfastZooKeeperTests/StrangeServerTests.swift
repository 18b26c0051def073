// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import HoldfastTesting
import Testing

@testable import HoldfastZooKeeper

/// Nodes and rights that others have set, and answers that nobody expects.
@Suite("What others do in ZooKeeper", .timeLimit(.minutes(5)), .serialized)
struct StrangeServerTests {
    @Test("A waiter that finds a lock of another layout is told, and its store stays calm")
    func stranger() async throws {
        let server = try await ZooKeeperServer()
        let (holder, waiter) = (try Fixture.store(server.hosts), try Fixture.store(server.hosts))
        let signals = Signals(of: waiter)
        try await Fixture.running([holder, waiter]) {
            let (held, next) = (Fixture.request("s"), Fixture.request("s"))
            _ = try await holder.acquire(held)
            guard case .waiting = try await waiter.acquire(next) else { return }
            let wire = try await holder.wire()
            let strange = "/locks/s/0123456789abcdef0123456789abcdef__lock__"
            #expect(await wire.create(strange, [], .ephemeralSequential).code == .ok)
            let before = try #require(try server.number(after: "Received: ", in: "srvr"))
            let start = ContinuousClock.now
            _ = try await holder.release(held.key)
            try await Fixture.eventually("not told") { signals.all.contains(.check(next.id, after: .zero)) }
            try await Task.sleep(for: .seconds(2))
            // The two sessions ask for a sign of life each 160 ms.
            let beats = Int(2 * (start.duration(to: .now) / .milliseconds(160)))
            #expect(try #require(try server.number(after: "Received: ", in: "srvr")) - before < beats + 20)
            let error = await #expect(throws: LockError.self) { _ = try await waiter.acquire(next) }
            #expect(error?.code == .storeRefused)
        }
    }

    @Test("Where nodes may not be deleted the second lock is refused with advice, and the log says why")
    func noDelete() async throws {
        let server = try await ZooKeeperServer()
        try await Self.kazoo(
            server,
            """
            from kazoo.security import ACL, Id, Permissions
            c.create('/locks')
            p = Permissions.READ | Permissions.CREATE | Permissions.WRITE | Permissions.ADMIN
            c.create('/locks/n', acl=[ACL(p, Id('world', 'anyone'))])
            """
        )
        let store = try Fixture.store(server.hosts)
        let lines = Cell<[String]>([])
        ZooKeeperLog.observe(upTo: .error) { _, line in lines.value.append(line) }
        defer { ZooKeeperLog.observe(nil) }
        try await Fixture.running([store]) {
            let first = Fixture.request("n", mode: .shared)
            let second = Fixture.request("n", mode: .shared)
            _ = try await store.acquire(first)
            _ = try await store.acquire(second)
            _ = try await store.release(first.key)
            _ = try await store.release(second.key)
            try await Fixture.eventually("no line about it") { lines.value.contains { $0.contains("/locks/n") } }
            let error = await #expect(throws: LockError.self) {
                _ = try await store.acquire(Fixture.request("n", mode: .shared))
            }
            #expect(error?.code == .storeRefused)
            #expect(error?.message.contains("delete") == true)
            #expect(lines.value.count { $0.contains("/locks/n") } == 1)
            // Others are not meant.
            guard case .granted = try await store.acquire(Fixture.request("m")) else {
                Issue.record("not granted")
                return
            }
            try await Self.kazoo(
                server,
                """
                from kazoo.security import OPEN_ACL_UNSAFE
                c.set_acls('/locks/n', OPEN_ACL_UNSAFE)
                """
            )
            // It is tried again now and then.
            try await Fixture.eventually(within: .seconds(15), "the nodes stay") {
                try await store.status(of: "n").isFree
            }
            try await Fixture.eventually("it is still refused") {
                guard case .granted? = try? await store.acquire(Fixture.request("n", mode: .shared)) else {
                    return false
                }
                return true
            }
        }
    }

    @Test("Kazoo's locks have a node that stays, since kazoo makes it once and does not look again")
    func containers() {
        // What a node is cannot be asked; a server takes a container away after a minute or more.
        #expect(ZooKeeperConfiguration.Layout.kazoo.parents == .persistent)
        #expect(ZooKeeperConfiguration.Layout.curator.parents == .container)
        #expect(ZooKeeperConfiguration.Layout.curatorReadWrite.parents == .container)
    }

    /// Runs some lines with kazoo, the client `c` at hand.
    private static func kazoo(_ server: ZooKeeperServer, _ lines: String) async throws {
        let script = """
            from kazoo.client import KazooClient
            c = KazooClient(hosts='\(server.hosts)')
            c.start()
            \(lines)
            c.stop()
            """
        let child = try ChildProcess("/usr/bin/python3", ["-c", script])
        try await Fixture.eventually(within: .seconds(30), "the script does not end") { child.hasExited }
    }

    // MARK: - Answers

    @Test("Ages that a server's clock makes absurd are told as long, or none, and stop nobody")
    func ages() throws {
        let store = try ZooKeeperLockStore(url: "zookeeper://h?sharing=no")
        let name = LockName.replacement(.curator, guid: "00", .shared, .held, sequence: 1)
        for moment in [Int64.min, -1, 0, .max] {
            for created in [Int64.min, 0, .max] {
                let stat = NodeStat(created: 1, modified: 1, createdAt: created, session: 1, version: 0, children: 0)
                let reply = CallReply(code: .ok, stat: stat)
                let age = store.waiter(name, reply, at: moment).waitingFor
                #expect(age.map { abs($0.nanoseconds) < .max } == true)
                #expect((store.holder(name, reply, as: .shared).heldFor?.nanoseconds ?? -1) >= 0)
            }
        }
    }

    @Test("A session that has moved to another server is a reason to try again")
    func moved() {
        let error = ServerCode(rawValue: -118).error("create a node", at: "h:2181")
        #expect(error.code == .storeUnavailable)
    }

    @Test("An answer with a code that this version does not know is counted, said, and ends its call")
    func unknownCode() throws {
        let lines = Cell<[String]>([])
        ZooKeeperLog.observe(upTo: .warning) { _, line in lines.value.append(line) }
        defer { ZooKeeperLog.observe(nil) }
        let handle = Handle(usesCreatorACL: false) { _ in }
        defer { handle.close() }
        let before = ZooKeeperLog.unknownCodes
        let answer = Cell<ServerCode?>(nil)
        let call = CallbackTable.Call(
            handle: handle.number,
            sentAt: .now,
            reachesLeader: true,
            deadline: .now.advanced(by: .seconds(60)),
            done: { answer.value = $0.code },
            free: nil
        )
        let number = try #require(CallbackTable.shared.add(call))
        CallbackTable.shared.complete(number, CallReply(code: ServerCode(rawValue: -777)))
        #expect(ZooKeeperLog.unknownCodes == before + 1)
        #expect(lines.value.contains { $0.contains("-777") })
        let code = try #require(answer.value)
        #expect(!code.hadNoEffect)
        #expect(code.error("create a node", at: "h:2181").code == .storeRefused)
    }

    @Test("Nobody is remembered who asked about nodes of a session that is over")
    func oldSessions() {
        final class Witness: Sendable {}
        let remover = Remover(timeout: .seconds(1), layout: .curator)
        let handle = Handle(usesCreatorACL: false) { _ in }
        defer { handle.close() }
        weak var forgotten: Witness?
        do {
            let witness = Witness()
            forgotten = witness
            remover.remove("/x", 1, nil) { _ in withExtendedLifetime(witness) {} }
        }
        #expect(forgotten != nil)
        remover.retry(Session.Link(epoch: 2, handle: handle, id: 0))
        #expect(forgotten == nil)
    }
}
