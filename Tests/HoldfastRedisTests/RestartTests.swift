// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import HoldfastRedis
import HoldfastTesting
import Synchronization
import Testing

/// One server that is killed and keeps what its persistence keeps, blocks, or cuts messages off.
@Suite("Faults of one server, in numbers", .timeLimit(.minutes(5)), .serialized)
struct RestartTests {
    /// How a server keeps its data.
    enum Persistence: String, Sendable, CaseIterable {
        case none, snapshots, log, logAlways

        var arguments: [String] {
            switch self {
            case .none: []
            case .snapshots: ["--save", "3600 1"]
            case .log: ["--appendonly", "yes", "--appendfsync", "everysec"]
            case .logAlways: ["--appendonly", "yes", "--appendfsync", "always"]
            }
        }

        /// How often of fifty the lock is there after a kill.
        ///
        /// A log that is written once a second is written before the answer, unless a disk is busy with what came before.
        var kept: ClosedRange<Int> {
            switch self {
            case .none, .snapshots: 0...0
            case .log: 25...50
            case .logAlways: 50...50
            }
        }
    }

    @Test(arguments: Persistence.allCases)
    func `R1 R2 after fifty kills tokens still rise, and who writes all down keeps the lock`(how: Persistence)
        async throws
    {
        let server = try await RedisServer(arguments: how.arguments)
        let (a, b) = (try RedisLockStore(url: server.url), try RedisLockStore(url: server.url))
        var (last, kept) = (FencingToken.zero, 0)
        for round in 0..<50 {
            if how == .snapshots { #expect(try server.execute("SAVE") == "OK") }
            let held = Make.request("x", lease: .seconds(30))
            let token = try #require(try await a.acquire(held).token, "round \(round)")
            #expect(token > last, "round \(round)")
            last = token
            server.kill()
            try await server.start()
            let other = Make.request("x", lease: .seconds(30), contention: .fail)
            // A server that still reads its log is asked again within the call's time.
            let reply = try await b.acquire(other)
            if reply.isBusy {
                kept += 1
                #expect(
                    try await a.renew([Renewal(key: held.key, lease: .seconds(30))])
                        == [.renewed(revokeRequested: false)]
                )
                #expect(try await a.release(held.key) == .released)
            } else {
                // By nature: the server has forgotten. The token tells who came later.
                let given = try #require(reply.token, "round \(round)")
                #expect(given > last, "round \(round)")
                last = given
                #expect(try await a.renew([Renewal(key: held.key, lease: .seconds(30))]) == [.lost(.expired)])
                #expect(try await b.release(other.key) == .released)
            }
        }
        #expect(how.kept.contains(kept))
    }

    @Test
    func `R16 while sixty-four requests hang at one server, threads are free and another server's locks are quick`()
        async throws
    {
        let (blocked, other) = (try await RedisServer(), try await RedisServer())
        let hanging = try RedisLockStore(url: blocked.url + "?timeout=4s")
        let store = try RedisLockStore(url: other.url)
        for one in [hanging, store] {
            let request = Make.request("warm")
            #expect(try await one.acquire(request).token != nil)
            _ = try await one.release(request.key)
        }
        /// The 99th percentile of how late a timer is, and of a cycle at the other server.
        func measure() async throws -> (late: Duration, cycle: Duration) {
            async let late = Task.detached {
                var late: [Duration] = []
                for _ in 0..<500 {
                    let start = ContinuousClock.now
                    try await Task.sleep(for: .milliseconds(1))
                    late.append(start.duration(to: .now) - .milliseconds(1))
                }
                return late.sorted()[494]
            }.value
            var cycles: [Duration] = []
            for _ in 0..<300 {
                let request = Make.request("x")
                let start = ContinuousClock.now
                #expect(try await store.acquire(request).token != nil)
                #expect(try await store.release(request.key) == .released)
                cycles.append(start.duration(to: .now))
            }
            return (try await late, cycles.sorted()[296])
        }
        let before = try await measure()
        #expect(try blocked.execute("CLIENT", "PAUSE", "2500", "ALL") == "OK")
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<64 {
                group.addTask {
                    let request = Make.request(try Resource("hang/\(number)"))
                    #expect(try await hanging.acquire(request).token != nil)
                }
            }
            let during = try await measure()
            #expect(during.late < max(.milliseconds(50), before.late * 3), "\(during), \(before) before")
            #expect(during.cycle < max(.milliseconds(50), before.cycle * 3), "\(during), \(before) before")
            try await group.waitForAll()
        }
    }

    @Test
    func `R18 of a thousand waits through connections for messages that are cut all the time none hangs`() async throws
    {
        let server = try await RedisServer()
        let waits = Waits()
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                while !waits.isOver {
                    try server.execute("CLIENT", "KILL", "TYPE", "pubsub")
                    try await Task.sleep(for: .milliseconds(Int.random(in: 1...20)))
                }
            }
            try await withThrowingTaskGroup(of: Void.self) { turns in
                for _ in 0..<2 {
                    let store = try RedisLockStore(url: server.url)
                    turns.addTask {
                        try await withLockService(store: store) { locks in
                            try await withThrowingTaskGroup(of: Void.self) { inner in
                                for name in 0..<10 {
                                    inner.addTask {
                                        let resource = try Resource("x/\(name)")
                                        for _ in 0..<50 {
                                            let start = ContinuousClock.now
                                            try await locks.withLock(resource, lease: .seconds(30)) { _ in
                                                waits.add(start.duration(to: .now))
                                                try await Task.sleep(for: .milliseconds(2))
                                            }
                                        }
                                    }
                                }
                                try await inner.waitForAll()
                            }
                        }
                    }
                }
                try await turns.waitForAll()
            }
            waits.end()
            try await group.waitForAll()
        }
        let all = waits.all.sorted()
        #expect(all.count == 1000)
        #expect(try #require(all.last) < .seconds(5), "the longest wait; a lease is 30 s")
    }
}

/// How long each has waited.
private final class Waits: Sendable {
    private let state = Mutex((all: [Duration](), isOver: false))

    init() {}

    var all: [Duration] { self.state.withLock { $0.all } }
    var isOver: Bool { self.state.withLock { $0.isOver } }

    func add(_ wait: Duration) { self.state.withLock { $0.all.append(wait) } }
    func end() { self.state.withLock { $0.isOver = true } }
}
