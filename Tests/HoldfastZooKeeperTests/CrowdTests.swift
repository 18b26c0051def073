// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import HoldfastTesting
import Synchronization
import Testing

@testable import HoldfastZooKeeper

/// Many locks, many holders, many calls.
@Suite("ZooKeeper crowds", .timeLimit(.minutes(5)), .serialized)
struct CrowdTests {
    @Test("With more watches than a server takes back in one packet, a lost connection costs no lock")
    func watches() async throws {
        let server = try await ZooKeeperServer()
        let proxy = try FaultProxy(to: server.port)
        let store = try Fixture.store("127.0.0.1:\(proxy.port)", "&session=30s")
        let other = try Fixture.store(server.hosts, "&session=30s")
        let signals = Signals(of: store)
        try await Fixture.running([store, other]) {
            let requests = try await Self.hold(2200, store)
            let (held, next) = (Fixture.request("waited"), Fixture.request("waited"))
            _ = try await other.acquire(held)
            guard case .waiting = try await SessionFaultTests.insist(store, next) else { return }
            // About 540 bytes each; there is room for 700 KiB.
            try await Fixture.eventually("no watches") {
                try server.number(after: "Total watches:", in: "wchs") ?? 0 > 1200
            }
            proxy.cut()
            try await Fixture.eventually(within: .seconds(8), "the store does not come back") {
                guard case .granted? = try? await store.acquire(Fixture.request("other")) else { return false }
                return store.session.link != nil
            }
            // Who is not watched is looked at when it is renewed, and whoever waits in any case.
            let last = try #require(requests.last)
            #expect(try await other.forceRelease(last.resource).count == 1)
            try await Fixture.eventually(within: .seconds(3), "the loss is not noticed") {
                guard case .lost? = try? await store.renew([Renewal(key: last.key, lease: .seconds(60))]).first else {
                    return false
                }
                return true
            }
            _ = try await other.release(held.key)
            try await Fixture.eventually(within: .seconds(5), "the waiter is forgotten") {
                signals.all.contains(.granted(next.id))
            }
            let lost = signals.all.count { if case .lost = $0 { true } else { false } }
            #expect(lost <= 1)
            await store.closeSession(draining: .zero)
        }
    }

    /// Takes many locks with long names, of which the last comes last.
    private static func hold(_ count: Int, _ store: ZooKeeperLockStore) async throws -> [LockRequest] {
        let tail = String(repeating: "x", count: 480)
        let requests = try (0..<count).map { Fixture.request(try Resource("r\($0)-\(tail)")) }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for part in 0..<20 {
                group.addTask {
                    for number in stride(from: part, to: count, by: 20) {
                        guard case .granted = try await SessionFaultTests.insist(store, requests[number]) else {
                            Issue.record("number \(number) is not granted")
                            return
                        }
                    }
                }
            }
            try await group.waitForAll()
        }
        return requests
    }

    @Test("However many wait for word from the leader, they share one call")
    func word() async throws {
        let server = try await ZooKeeperServer()
        let store = try Fixture.store(server.hosts)
        try await Fixture.running([store]) {
            _ = try await store.acquire(Fixture.request("warm"))
            let link = try #require(store.session.link)
            let before = try #require(try server.number(after: "Received: ", in: "srvr"))
            let now = ContinuousClock.now
            await withTaskGroup(of: Bool.self) { group in
                for _ in 0..<200 {
                    group.addTask {
                        // Nobody can vouch for so long.
                        await store.session.isKept(
                            until: now.advanced(by: .seconds(3600)),
                            link,
                            waitingUntil: now.advanced(by: .milliseconds(500))
                        )
                    }
                }
                for await isKept in group { #expect(!isKept) }
            }
            let calls = try #require(try server.number(after: "Received: ", in: "srvr")) - before
            #expect(calls < 150)
        }
    }

    /// Calls that are never answered, until they are ended.
    private static func fill(_ number: UInt, leaving room: Int) -> [UInt] {
        let table = CallbackTable.shared
        let call = CallbackTable.Call(
            handle: number,
            sentAt: .now,
            reachesLeader: false,
            deadline: .now.advanced(by: .seconds(3600)),
            done: { _ in },
            free: nil
        )
        var calls: [UInt] = []
        while table.pending(on: number) < CallbackTable.maximumPending - room, let call = table.add(call) {
            calls.append(call)
        }
        return calls
    }

    @Test("A lock that is refused since too many calls are unanswered was not asked for; releases and renewals go on")
    func tooManyCalls() async throws {
        let server = try await ZooKeeperServer()
        let store = try Fixture.store(server.hosts)
        try await Fixture.running([store]) {
            let held = Fixture.request("held")
            _ = try await store.acquire(held)
            _ = try await store.release(held.key)
            let kept = Fixture.request("kept")
            _ = try await store.acquire(kept)
            let link = try #require(store.session.link)
            let calls = Self.fill(link.handle.number, leaving: 100)
            defer { for call in calls { CallbackTable.shared.fail(call, .late) } }
            let request = Fixture.request("held")
            let error = await #expect(throws: LockError.self) { _ = try await store.acquire(request) }
            #expect(error?.code == .limitReached)
            #expect(error?.message.contains("nothing was sent") == true)
            #expect(store.book.withLock { $0[request.id] == nil })
            let renewals = [Renewal(key: kept.key, lease: .seconds(30))]
            #expect(try await store.renew(renewals) == [.renewed(revokeRequested: false)])
            #expect(try await store.release(kept.key) == .released)
            try await Fixture.eventually("not released") { try await store.status(of: "kept").isFree }
        }
    }

    @Test("Of a create and a list that belong together none is sent when there is no room for both")
    func bothOrNone() async throws {
        let server = try await ZooKeeperServer()
        let store = try Fixture.store(server.hosts)
        try await Fixture.running([store]) {
            _ = try await store.acquire(Fixture.request("x"))
            let link = try #require(store.session.link)
            let calls = Self.fill(link.handle.number, leaving: 1)
            defer { for call in calls { CallbackTable.shared.fail(call, .late) } }
            let wire = Wire(link: link, deadline: .now.advanced(by: .seconds(4)))
            let (made, list) = await wire.enqueue("/locks/x/_c_00-lock-", [], listing: "/locks/x") { _ in }
            #expect(made.code == .tooManyCalls)
            #expect(list.code == .tooManyCalls)
        }
    }

    @Test("An operator's force release reaches all holders of 1,100, and leaves those who waited")
    func force() async throws {
        let server = try await ZooKeeperServer()
        let (store, other) = (
            try Fixture.store(server.hosts, "&session=30s&timeout=20s"), try Fixture.store(server.hosts, "&timeout=20s")
        )
        let signals = Signals(of: store)
        try await Fixture.running([store, other]) {
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<20 {
                    group.addTask {
                        for _ in 0..<55 { _ = try await store.acquire(Fixture.request("many", mode: .shared)) }
                    }
                }
                try await group.waitForAll()
            }
            let next = Fixture.request("many")
            guard case .waiting = try await store.acquire(next) else { return }
            #expect(try await other.revoke("many").reached == 1100)
            #expect(try await other.forceRelease("many").count == 1100)
            try await Fixture.eventually("the writer is not granted") { signals.all.contains(.granted(next.id)) }
            #expect(try await other.status(of: "many").holders.count == 1)
        }
    }
}
