// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import HoldfastTesting
import Synchronization
import Testing

@testable import HoldfastZooKeeper

/// Changes of a lock's mode of which the store hears nothing more.
@Suite("Changes of ZooKeeper locks whose answers are lost", .timeLimit(.minutes(5)), .serialized)
struct LostConversionTests {
    /// A store whose session outlives every fault here.
    private static func store(_ proxy: FaultProxy) throws -> ZooKeeperLockStore {
        try Fixture.store("127.0.0.1:\(proxy.port)", "&session=20s")
    }

    /// The request that is cut off, before the server has it and after.
    @Test("A downgrade whose answer is lost keeps the lock, and the next renewals know its mode", arguments: [0, 1])
    func downgrade(_ passed: Int) async throws {
        let server = try await ZooKeeperServer()
        let proxy = try FaultProxy(to: server.port)
        let (store, observer) = (try Self.store(proxy), try Fixture.store(server.hosts))
        try await Fixture.running([store, observer]) {
            let request = Fixture.request("convert")
            guard case .granted = try await SessionFaultTests.insist(store, request) else { return }
            try await Fixture.eventually("no watch") { try server.number(after: "Total watches:", in: "wchs") == 1 }
            proxy.cut(afterRequests: passed)
            let reply = try? await store.convert(Conversion(request.key, to: .shared))
            #expect(reply == nil)
            try await Fixture.eventually(within: .seconds(5), "its renewals stay unknown") {
                let renewals = [Renewal(key: request.key, lease: .seconds(60))]
                return (try? await store.renew(renewals)) == [.renewed(revokeRequested: false)]
            }
            let holders = try await observer.status(of: "convert").holders
            #expect(holders.count == 1)
            #expect(holders.first?.mode == store.book.withLock { $0[request.id]?.hold?.mode })
        }
    }

    @Test("A store finds out by itself what became of a change, before anybody asks", arguments: [0, 1])
    func unasked(_ passed: Int) async throws {
        let server = try await ZooKeeperServer()
        let proxy = try FaultProxy(to: server.port)
        let (store, observer) = (try Self.store(proxy), try Fixture.store(server.hosts))
        try await Fixture.running([store, observer]) {
            let request = Fixture.request("convert")
            guard case .granted = try await SessionFaultTests.insist(store, request) else { return }
            try await Fixture.eventually("no watch") { try server.number(after: "Total watches:", in: "wchs") == 1 }
            proxy.cut(afterRequests: passed)
            _ = try? await store.convert(Conversion(request.key, to: .shared))
            try await Fixture.eventually(within: .seconds(5), "nobody knows its node") {
                store.book.withLock { $0[request.id]?.hold.map { $0.successor == nil } } == true
            }
            let mode = try await observer.status(of: "convert").holders.first?.mode
            #expect(mode == store.book.withLock { $0[request.id]?.hold?.mode })
        }
    }

    @Test("Whoever waits behind a lock that is being changed watches its node, and does not ask again and again")
    func waiter() async throws {
        let server = try await ZooKeeperServer()
        let store = try Fixture.store(server.hosts, "&session=20s")
        let signals = Signals(of: store)
        try await Fixture.running([store]) {
            let (held, next) = (Fixture.request("changed"), Fixture.request("changed"))
            guard case .granted = try await store.acquire(held) else { return }
            store.book.withLock { book in
                guard let entry = book[held.id] else { return }
                _ = book.update(held.id, guid: entry.guid) { $0.hold?.successor = entry.node?.name }
            }
            let before = try #require(try server.number(after: "Received: ", in: "srvr"))
            async let answer = store.acquire(next)
            try await Task.sleep(for: .seconds(1))
            let calls = try #require(try server.number(after: "Received: ", in: "srvr")) - before
            #expect(calls < 100)
            guard case .waiting = try await answer else {
                Issue.record("not waiting")
                return
            }
            store.book.withLock { book in
                guard let entry = book[held.id] else { return }
                _ = book.update(held.id, guid: entry.guid) { $0.hold?.successor = nil }
            }
            _ = try await store.release(held.key)
            try await Fixture.eventually("not granted") { signals.all.contains(.granted(next.id)) }
        }
    }

    @Test("An upgrade whose wish is cut off, and which is given up, keeps no reader out", arguments: [0, 1])
    func wish(_ passed: Int) async throws {
        let server = try await ZooKeeperServer()
        let proxy = try FaultProxy(to: server.port)
        let (store, other) = (try Self.store(proxy), try Fixture.store(server.hosts, "&session=20s"))
        try await Fixture.running([store, other]) {
            let (old, update) = (Fixture.request("u", mode: .shared), Fixture.request("u", mode: .update))
            guard case .granted = try await other.acquire(old),
                case .granted = try await SessionFaultTests.insist(store, update)
            else {
                Issue.record("not granted")
                return
            }
            try await Fixture.eventually("no watches") { try server.number(after: "Total watches:", in: "wchs") == 2 }
            proxy.cut(afterRequests: passed)
            let upgrade = Conversion(update.key, to: .exclusive, contention: .queue)
            let reply = try? await store.convert(upgrade)
            #expect(reply == nil)
            // As the engine does.
            try await Fixture.eventually(within: .seconds(5), "it is not taken back") {
                guard case .converted? = try? await store.convert(Conversion(update.key, to: .update)) else {
                    return false
                }
                return true
            }
            let reader = Fixture.request("u", mode: .shared)
            guard case .granted = try await other.acquire(reader) else {
                Issue.record("a reader is kept out")
                return
            }
            #expect(store.book.withLock { $0[update.id]?.hold?.mode } == .update)
            #expect(try await other.status(of: "u").holders.count == 3)
        }
    }

    @Test("An upgrade whose wake-up is cut off becomes exclusive when the connection is back", arguments: [0, 1])
    func upgrade(_ passed: Int) async throws {
        let server = try await ZooKeeperServer()
        let proxy = try FaultProxy(to: server.port)
        let (store, reader) = (try Self.store(proxy), try Fixture.store(server.hosts, "&session=20s"))
        let signals = Signals(of: store)
        try await Fixture.running([store, reader]) {
            let (shared, update) = (Fixture.request("u", mode: .shared), Fixture.request("u", mode: .update))
            guard case .granted = try await reader.acquire(shared),
                case .granted = try await SessionFaultTests.insist(store, update),
                case .waiting = try await store.convert(Conversion(update.key, to: .exclusive, contention: .queue))
            else {
                Issue.record("not granted and waiting")
                return
            }
            // Its own node and the reader's, and the reader its own.
            try await Fixture.eventually("no watches") { try server.number(after: "Total watches:", in: "wchs") == 3 }
            proxy.cut(afterRequests: passed)
            _ = try await reader.release(shared.key)
            try await Fixture.eventually(within: .seconds(6), "not told") { signals.all.contains(.granted(update.id)) }
            #expect(store.book.withLock { $0[update.id]?.hold?.mode } == .exclusive)
        }
    }
}
