// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import HoldfastTesting
import Testing

@testable import HoldfastZooKeeper

/// What becomes of locks when sessions end, or may have: real servers, real faults.
@Suite("ZooKeeper sessions", .timeLimit(.minutes(5)), .serialized)
struct SessionFaultTests {
    @Test("A session that expires loses its locks: all holders are told at once, and none is taken again (Z1)")
    func expiry() async throws {
        let server = try await ZooKeeperServer()
        // Long enough for a lease that outlives the two thirds of a session after which the library gives a connection up.
        let store = try Fixture.store(server.hosts, "&session=10s&tick=200ms")
        let names = try (0..<5).map { try Resource("expiry/\($0)") }
        let delays = Cell<[Duration]>([])
        try await withLockService(store: store, configuration: LockServiceConfiguration()) { locks in
            var last = FencingToken.zero
            for round in 0..<20 {
                var leases: [Lease] = []
                for name in names { leases.append(try await locks.acquire(name)) }
                #expect(leases.allSatisfy { $0.fencingToken > last })
                last = leases.map(\.fencingToken).max() ?? last
                let handle = try await store.wire().link.handle
                try server.expire(try #require(try server.session(ofNode: "/locks/expiry/")))
                let expired = ContinuousClock.now
                async let heard = Self.end(of: handle)
                let told = try await Self.losses(of: leases)
                #expect(told.allSatisfy { $0.reason == .expired }, "round \(round)")
                // The client hears of it when it is connected again: in a moment, or, where the library waits for an answer on
                // the old connection, after two thirds of the session timeout; in no case after its end.
                let slowest = try #require(told.map(\.at).max())
                #expect(expired.duration(to: slowest) < .seconds(10), "round \(round)")
                delays.value.append((await heard).duration(to: slowest))
                for lease in leases {
                    #expect(throws: LockError.self) { try lease.checkValid() }
                    let reply = await lease.release()
                    #expect(reply == .alreadyLost)
                }
                for name in names { #expect(try await locks.holders(of: name).isEmpty, "round \(round)") }
            }
        }
        // Moments in which this machine does something else are nobody's fault: the middle counts.
        try #require(delays.value.count == 20)
        #expect(delays.value.sorted()[10] < .milliseconds(100), "\(delays.value)")
    }

    /// When the library knows that a session is over.
    @concurrent
    private static func end(of handle: Handle) async -> ContinuousClock.Instant {
        // ZOO_EXPIRED_SESSION_STATE; closed handles have none.
        while let state = handle.state, state != -112 { try? await Task.sleep(for: .milliseconds(1)) }
        return .now
    }

    /// When the holders of some leases were told that they are lost, and why.
    private static func losses(of leases: [Lease]) async throws -> [(reason: LossReason, at: ContinuousClock.Instant)] {
        try await withThrowingTaskGroup(of: (LossReason, ContinuousClock.Instant)?.self) { group in
            for lease in leases {
                let events = lease.events
                group.addTask {
                    for await event in events { if case .lost(let why) = event { return (why, .now) } }
                    return nil
                }
            }
            var losses: [(LossReason, ContinuousClock.Instant)] = []
            for try await loss in group { losses.append(try #require(loss)) }
            return losses
        }
    }

    @Test("A waiter whose session expires gets a new place, and never the lock meanwhile (pain 19: etcd#11456)")
    func waiterExpires() async throws {
        let server = try await ZooKeeperServer()
        try await Fixture.withService(server.hosts) { holder in
            let lease = try await holder.acquire("queue")
            try await Fixture.withService(server.hosts) { waiter in
                let isIn = Cell(false)
                try await withThrowingTaskGroup(of: Void.self) { group in
                    group.addTask {
                        try await waiter.withLock("queue") { inner in
                            isIn.value = true
                            #expect(inner.fencingToken > lease.fencingToken)
                        }
                    }
                    try await Fixture.eventually("nobody waits") {
                        try await holder.status(of: "queue").waiters.count == 1
                    }
                    let nodes = try server.command("dump").split(separator: "\n").filter {
                        $0.contains("/locks/queue/")
                    }
                    // The number at a name's end tells who came last; what stands before it is random.
                    let last = try #require(nodes.max { $0.suffix(10) < $1.suffix(10) })
                    let session = try #require(try server.session(ofNode: String(last.dropFirst())))
                    try server.expire(session)
                    try await Task.sleep(for: .milliseconds(500))
                    try await Fixture.eventually("the waiter did not queue up again") {
                        try await holder.status(of: "queue").waiters.count == 1
                    }
                    #expect(!isIn.value)
                    await lease.release()
                    try await group.waitForAll()
                }
                #expect(isIn.value)
            }
        }
    }

    @Test("A server that freezes for longer than the session: the body is cancelled before others can go on")
    func frozen() async throws {
        let server = try await ZooKeeperServer()
        let other = try Fixture.store(server.hosts)
        try await Fixture.withService(server.hosts) { locks in
            for round in 0..<3 {
                let frozenAt = Cell<ContinuousClock.Instant?>(nil)
                let cancelledAt = Cell<ContinuousClock.Instant?>(nil)
                await #expect(throws: LockError.self, "round \(round)") {
                    try await locks.withLock("frozen") { _ in
                        server.pause()
                        frozenAt.value = .now
                        try? await Task.sleep(for: .seconds(10))
                        cancelledAt.value = .now
                    }
                }
                let silence = try #require(frozenAt.value).duration(
                    to: try #require(cancelledAt.value)
                )
                #expect(silence < Fixture.session, "round \(round)")
                // The server's clock went on: it ends the session when it can.
                try await Task.sleep(for: Fixture.session)
                server.resume()
                try await Fixture.running([other]) {
                    let request = Fixture.request("frozen")
                    var reply = try await Self.insist(other, request)
                    while case .waiting = reply {
                        try await Task.sleep(for: .milliseconds(50))
                        reply = try await Self.insist(other, request)
                    }
                    guard case .granted = reply else {
                        Issue.record("the other was not granted: \(reply)")
                        return
                    }
                    _ = try await other.release(request.key)
                }
            }
        }
    }

    @Test("A client that is cut off stops before another is let in, 20 times (Z2)")
    func cutOff() async throws {
        let server = try await ZooKeeperServer()
        let proxy = try FaultProxy(to: server.port)
        try await Fixture.withService("127.0.0.1:\(proxy.port)", "&session=2s") { cut in
            try await Fixture.withService(server.hosts, "&session=2s") { free in
                let late = Cell(0)
                for round in 0..<20 {
                    let believes = Cell(true)
                    let lease = try await cut.acquire("cut")
                    proxy.hold()
                    try await withThrowingTaskGroup(of: Void.self) { group in
                        group.addTask {
                            for await event in lease.events {
                                if case .lost = event { break }
                            }
                            believes.value = false
                        }
                        let next = try await free.acquire("cut", waitingAtMost: .seconds(20))
                        #expect(throws: LockError.self, "round \(round)") { try lease.checkValid() }
                        // The lease itself says so at once; the task that hears of it may be held up on a busy machine.
                        if believes.value { late.add(1) }
                        #expect(next.fencingToken > lease.fencingToken)
                        await next.release()
                        try await group.waitForAll()
                    }
                    proxy.pass()
                    await lease.release()
                    try await Fixture.eventually("the cut client does not come back") {
                        guard let again = try? await cut.tryAcquire("again") else { return false }
                        await again.release()
                        return true
                    }
                }
                #expect(late.value <= 2, "holders were told late, \(late.value) times")
            }
        }
    }

    @Test("A server that is killed and started again within the session timeout keeps the lock")
    func restart() async throws {
        let server = try await ZooKeeperServer()
        try await withLockService(
            store: try ZooKeeperLockStore(url: "zookeeper://\(server.hosts)/locks?sharing=no&session=20s&timeout=4s"),
            configuration: LockServiceConfiguration()
        ) { locks in
            let lease = try await locks.acquire("kept")
            let events = lease.events
            server.kill()
            // In doubt at once, and not lost.
            for await event in events {
                if case .jeopardy = event { break }
            }
            try lease.checkValid()
            try await Task.sleep(for: .seconds(1))
            try await server.start()
            try await Fixture.eventually("the client does not come back") {
                (try? await locks.holders(of: "kept").count) == 1
            }
            try await lease.renew()
            try lease.checkValid()
            #expect(try await locks.holders(of: "kept").first?.fencingToken == lease.fencingToken)
            let reply = await lease.release()
            #expect(reply == .released)
        }
    }

    /// Asks again while the store cannot answer.
    static func insist(_ store: ZooKeeperLockStore, _ request: LockRequest) async throws -> AcquireReply {
        for _ in 0..<50 {
            do {
                return try await store.acquire(request)
            } catch let error as LockError where error.code == .storeUnavailable {
                try await Task.sleep(for: .milliseconds(100))
            }
        }
        return try await store.acquire(request)
    }
}
