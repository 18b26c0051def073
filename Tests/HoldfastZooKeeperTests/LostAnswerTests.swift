// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import HoldfastTesting
import Synchronization
import Testing

@testable import HoldfastZooKeeper

/// Requests whose answers are lost: what was done stays unknown until it is looked up.
@Suite("Lost answers of ZooKeeper", .timeLimit(.minutes(5)), .serialized)
struct LostAnswerTests {
    /// How an answer gets lost.
    enum Loss: String, Sendable, CaseIterable, CustomTestStringConvertible {
        /// The connection ends before the server has the request.
        case unsent
        /// The connection ends before the answer.
        case cut
        /// Nothing is answered until the library gives the connection up.
        case silence
        /// The server stops for longer than that.
        case frozen

        /// How many of 200 lose it so; silence takes longest.
        var rounds: Int {
            switch self {
            case .unsent: 50
            case .cut: 120
            case .silence: 20
            case .frozen: 10
            }
        }

        var testDescription: String { self.rawValue }
    }

    @Test(
        "Of 200 creates with lost answers none leaves a node behind, and none makes two (Z3)",
        arguments: Loss.allCases
    )
    func create(_ loss: Loss) async throws {
        let server = try await ZooKeeperServer()
        let proxy = try FaultProxy(to: server.port)
        let store = try Fixture.store("127.0.0.1:\(proxy.port)", "&session=1s")
        let observer = try Fixture.store(server.hosts)
        try await Fixture.running([store, observer]) {
            // A lock that was there before, so that its create is the first request.
            _ = try await store.release(try await Self.granted(store, "create"))
            for round in 0..<loss.rounds {
                let request = Fixture.request("create")
                switch loss {
                case .unsent: proxy.cut(afterRequests: 0)
                case .cut: proxy.cut(afterRequests: 1)
                case .silence: proxy.dropReplies()
                case .frozen: server.pause()
                }
                async let reply = SessionFaultTests.insist(store, request)
                if loss == .silence || loss == .frozen {
                    // A session that goes on, or one that ends meanwhile.
                    try await Task.sleep(for: .milliseconds(round % 2 == 0 ? 800 : 1200))
                    proxy.pass()
                    server.resume()
                }
                guard case .granted = try await reply else {
                    Issue.record("round \(round): \(try await reply)")
                    return
                }
                try await Fixture.eventually("round \(round): not one node") {
                    let status = try await observer.status(of: "create")
                    return status.holders.count == 1 && status.waiters.isEmpty
                }
                // A session that ended under it took its node along.
                _ = try await store.release(request.key)
                try await Fixture.eventually("round \(round): a node is left") {
                    try await observer.status(of: "create").isFree
                }
            }
        }
    }

    private static func granted(_ store: ZooKeeperLockStore, _ resource: Resource) async throws -> GrantKey {
        let request = Fixture.request(resource)
        guard case .granted = try await SessionFaultTests.insist(store, request) else {
            throw LockError(.storeUnavailable, "not granted")
        }
        return request.key
    }

    @Test("A request that is given up after its create was cut off leaves no node behind")
    func abandoned() async throws {
        let server = try await ZooKeeperServer()
        let proxy = try FaultProxy(to: server.port)
        let store = try Fixture.store("127.0.0.1:\(proxy.port)")
        let observer = try Fixture.store(server.hosts)
        let cuts = Cell(0)
        try await Fixture.running([store, observer]) {
            for round in 0..<50 {
                let request = Fixture.request("abandoned")
                proxy.cut(afterRequests: 1)
                if case .granted? = try? await store.acquire(request) {} else { cuts.value += 1 }
                _ = try await store.withdraw(request.key)
                try await Fixture.eventually("round \(round): a node is left") {
                    try await observer.status(of: "abandoned").isFree
                }
            }
        }
        // What was left of the round before may be what is cut off.
        #expect(cuts.value > 25)
    }

    @Test("A delete that is cut off is sent again until the node is gone (pain 22: curator#1193)")
    func delete() async throws {
        let server = try await ZooKeeperServer()
        let proxy = try FaultProxy(to: server.port)
        let store = try Fixture.store("127.0.0.1:\(proxy.port)")
        let observer = try Fixture.store(server.hosts)
        try await Fixture.running([store, observer]) {
            for round in 0..<50 {
                let request = Fixture.request("delete")
                guard case .granted = try await SessionFaultTests.insist(store, request) else {
                    Issue.record("round \(round): not granted")
                    return
                }
                // Before the server has it, and after.
                proxy.cut(afterRequests: round % 2)
                _ = try? await store.release(request.key)
                try await Fixture.eventually("round \(round): the node stays") {
                    try await observer.status(of: "delete").isFree
                }
            }
        }
    }

    @Test("A wait that is over while the connection is cut leaves no node behind (pain 22: kazoo PR#760)")
    func waitIsOver() async throws {
        let server = try await ZooKeeperServer()
        let proxy = try FaultProxy(to: server.port)
        try await Fixture.withService(server.hosts) { holder in
            try await Fixture.withService("127.0.0.1:\(proxy.port)") { waiter in
                let lease = try await holder.acquire("over")
                for round in 0..<20 {
                    async let got = try? waiter.acquire("over", waitingAtMost: .milliseconds(200))
                    try await Fixture.eventually("round \(round): nobody waits") {
                        try await holder.status(of: "over").waiters.count == 1
                    }
                    // Some now, and some at the delete.
                    if round % 2 == 0 { proxy.cut() } else { proxy.cut(afterRequests: 1) }
                    let lease = await got
                    #expect(lease == nil, "round \(round)")
                    try await Fixture.eventually("round \(round): a node is left") {
                        try await holder.status(of: "over").waiters.isEmpty
                    }
                }
                await lease.release()
            }
        }
    }

    @Test("A node that was being made when its request was given up, and whose answer is lost, is removed")
    func withdrawnMeanwhile() async throws {
        let server = try await ZooKeeperServer()
        let proxy = try FaultProxy(to: server.port)
        let store = try Fixture.store("127.0.0.1:\(proxy.port)", "&session=60s")
        let observer = try Fixture.store(server.hosts)
        try await Fixture.running([store, observer]) {
            _ = try await SessionFaultTests.insist(store, Fixture.request("warm"))
            for round in 0..<6 {
                let request = Fixture.request(try Resource("w\(round)/a/b/c/d/e/f/g"))
                // Create and list; sync and list of the search; nine nodes on the way; the create.
                proxy.cut(afterRequests: 14)
                async let got = try? store.acquire(request)
                while store.book.withLock({ $0[request.id] }) == nil { await Task.yield() }
                _ = try await store.withdraw(request.key)
                _ = await got
                proxy.pass()
                try await Fixture.eventually("not back") { store.session.link != nil }
                try await Fixture.eventually(within: .seconds(3), "round \(round): a node is left") {
                    try await observer.status(of: request.resource).isFree
                }
            }
        }
    }

    @Test("A wait that was written down with its answer lost leaves no node behind")
    func registration() async throws {
        let server = try await ZooKeeperServer()
        let proxy = try FaultProxy(to: server.port)
        let store = try Fixture.store("127.0.0.1:\(proxy.port)", "&session=60s")
        let holder = try Fixture.store(server.hosts)
        try await Fixture.running([store, holder]) {
            _ = try await holder.acquire(Fixture.request("w"))
            let warm = Fixture.request("w")
            _ = try await SessionFaultTests.insist(store, warm)
            _ = try await store.waits(of: warm.owner, for: "w")
            _ = try await store.withdraw(warm.key)
            for _ in 0..<5 {
                let next = Fixture.request("w")
                _ = try await SessionFaultTests.insist(store, next)
                proxy.cut(afterRequests: 1)
                _ = try? await store.waits(of: next.owner, for: "w")
                proxy.pass()
                try await Fixture.eventually("not back") { store.session.link != nil }
                _ = try await store.withdraw(next.key)
            }
            let wire = try await holder.wire()
            try await Fixture.eventually(within: .seconds(4), "nodes of waits that are over are left") {
                await wire.children(of: "/locks/.holdfast/waits").children.isEmpty
            }
        }
    }

    @Test("Hand-overs go on while the connection of a waiter is cut at random")
    func handOvers() async throws {
        let server = try await ZooKeeperServer()
        let proxy = try FaultProxy(to: server.port)
        let inside = Cell(0)
        let turns = Cell(0)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for client in 0..<3 {
                let hosts = client == 0 ? "127.0.0.1:\(proxy.port)" : server.hosts
                group.addTask {
                    try await Fixture.withService(hosts) { locks in
                        for _ in 0..<100 {
                            try await locks.withLock("turns", waitingAtMost: .seconds(60)) { lease in
                                guard (try? lease.checkValid()) != nil else { return }
                                inside.value += 1
                                #expect(inside.value == 1)
                                await Task.yield()
                                inside.value -= 1
                            }
                            turns.value += 1
                        }
                    }
                }
            }
            group.addTask {
                var generator = SeededGenerator(seed: 7)
                while turns.value < 280 {
                    try await Task.sleep(for: .milliseconds(Int.random(in: 20...120, using: &generator)))
                    proxy.cut()
                }
            }
            try await group.waitForAll()
        }
        #expect(turns.value == 300)
    }
}
