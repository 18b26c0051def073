// SPDX-License-Identifier: Apache-2.0

import Glibc
import Holdfast
import HoldfastCore
import HoldfastTesting
import Testing

@testable import HoldfastZooKeeper

/// What a store must not do to its servers, its process and its users.
@Suite("ZooKeeper calm", .timeLimit(.minutes(5)), .serialized)
struct CalmTests {
    @Test("A release wakes one waiter, however many there are (Z8)")
    func herd() async throws {
        let server = try await ZooKeeperServer()
        let stores = try (0..<4).map { _ in try Fixture.store(server.hosts) }
        let signals = stores.map { Signals(of: $0) }
        let waiters = 200
        try await Fixture.running(stores) {
            var current = Fixture.request("herd")
            var holder = stores[0]
            guard case .granted = try await holder.acquire(current) else { return }
            var line: [(request: LockRequest, store: ZooKeeperLockStore)] = []
            for number in 1...waiters {
                let request = Fixture.request("herd")
                let store = stores[number % stores.count]
                guard case .waiting = try await store.acquire(request) else {
                    Issue.record("not waiting")
                    return
                }
                line.append((request, store))
            }
            // One for each, since the node before it is another store's; the holder watches its own.
            let watches = try #require(try server.number(after: "Total watches:", in: "wchs"))
            #expect((waiters...waiters + 1).contains(watches))
            let (received, start) = (try server.number(after: "Received: ", in: "srvr"), ContinuousClock.now)
            for (number, next) in line.enumerated() {
                _ = try await holder.release(current.key)
                try await Fixture.eventually("number \(number) is not granted") {
                    signals.contains { $0.all.contains(.granted(next.request.id)) }
                }
                let granted = signals.map(\.all.count).reduce(0, +)
                guard granted == number + 1 else {
                    Issue.record("\(granted) signals after \(number + 1) releases")
                    return
                }
                (current, holder) = (next.request, next.store)
                guard case .granted = try await holder.acquire(current) else {
                    Issue.record("number \(number) is not granted")
                    return
                }
            }
            let calls = try #require(try server.number(after: "Received: ", in: "srvr")) - (try #require(received))
            // The delete, the list, the watch on the own node; and what sessions ask for by themselves.
            let beats = Int(Double(stores.count) * (start.duration(to: .now) / .milliseconds(100)))
            #expect(calls <= waiters * 4 + beats)
            _ = try await holder.release(current.key)
        }
    }

    @Test("A free lock costs three requests: its node, the list, and the delete")
    func requests() async throws {
        let server = try await ZooKeeperServer()
        let store = try Fixture.store(server.hosts, "&session=10s")
        try await Fixture.running([store]) {
            // The nodes on the way.
            let first = Fixture.request("free")
            _ = try await store.acquire(first)
            _ = try await store.release(first.key)
            let (received, start) = (
                try #require(try server.number(after: "Received: ", in: "srvr")), ContinuousClock.now
            )
            for round in 0..<200 {
                let request = Fixture.request("free")
                guard case .granted = try await store.acquire(request) else {
                    Issue.record("round \(round): not granted")
                    return
                }
                #expect(try await store.release(request.key) == .released)
            }
            // All releases have arrived when this is answered.
            #expect(try await store.status(of: "free").isFree)
            let calls = try #require(try server.number(after: "Received: ", in: "srvr")) - received
            // What a session asks for by itself, the words above, and the status.
            let others = Int(start.duration(to: .now) / .milliseconds(100)) + 10
            #expect((600...600 + others).contains(calls), "\(calls) requests for 200 locks")
        }
    }

    @Test("Readers and writers of two stores exclude each other, whoever leaves first")
    func readersAndWriters() async throws {
        let server = try await ZooKeeperServer()
        let (readers, writers, turns) = (Cell(0), Cell(0), Cell(0))
        try await withThrowingTaskGroup(of: Void.self) { group in
            for seed in 0..<2 as Range<UInt64> {
                group.addTask {
                    try await Fixture.withService(server.hosts, "&session=30s") { locks in
                        try await withThrowingTaskGroup(of: Void.self) { group in
                            for task in 0..<8 as Range<UInt64> {
                                group.addTask {
                                    var generator = SeededGenerator(seed: seed * 8 + task)
                                    for _ in 0..<40 {
                                        let isWriter = Int.random(in: 0..<4, using: &generator) == 0
                                        try await locks.withLock("rw", mode: isWriter ? .exclusive : .shared) { _ in
                                            (isWriter ? writers : readers).add(1)
                                            #expect(writers.value <= (isWriter ? 1 : 0))
                                            if isWriter { #expect(readers.value == 0) }
                                            await Task.yield()
                                            (isWriter ? writers : readers).add(-1)
                                            turns.add(1)
                                        }
                                    }
                                }
                            }
                            try await group.waitForAll()
                        }
                    }
                }
            }
            try await group.waitForAll()
        }
        #expect(turns.value == 640)
    }

    @Test("All stores of a process with the same servers and user share a session")
    func oneSession() async throws {
        let server = try await ZooKeeperServer()
        let stores = try (0..<20).map {
            try ZooKeeperLockStore(url: "\(server.url)/locks\($0 % 2)?session=2s&tick=200ms")
        }
        try await Fixture.running(stores) {
            for store in stores { _ = try await store.acquire(Fixture.request("x", contention: .fail)) }
            // The connection that asks is one too.
            let connections = try server.command("cons").split(separator: "\n").count { $0.contains("sid=0x") }
            #expect(connections == 1)
        }
    }

    @Test("Of 100 tasks on one session one at a time holds a lock (pain 20: etcd PR#11364)")
    func hundredTasks() async throws {
        let server = try await ZooKeeperServer()
        let (inside, turns) = (Cell(0), Cell(0))
        try await Fixture.withService(server.hosts) { locks in
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<100 {
                    group.addTask {
                        try await locks.withLock("hundred") { _ in
                            inside.add(1)
                            #expect(inside.value == 1)
                            await Task.yield()
                            inside.add(-1)
                            turns.add(1)
                        }
                    }
                }
                try await group.waitForAll()
            }
        }
        #expect(turns.value == 100)
    }

    @Test("A server that is down costs little, and its end is an answer (Z11)")
    func down() async throws {
        let server = try await ZooKeeperServer()
        let lines = Cell(0)
        ZooKeeperLog.observe(upTo: .info) { _, _ in lines.value += 1 }
        defer { ZooKeeperLog.observe(nil) }
        let store = try Fixture.store(server.hosts, "&session=2s&timeout=500ms")
        try await Fixture.running([store]) {
            let request = Fixture.request("down")
            guard case .granted = try await SessionFaultTests.insist(store, request) else { return }
            server.kill()
            let (cpu, start) = (Self.cpu, ContinuousClock.now)
            let connections = try LeftoverTests.connectionsSoFar()
            while start.duration(to: .now) < .seconds(3) {
                let asked = ContinuousClock.now
                let error = await #expect(throws: LockError.self) {
                    _ = try await store.acquire(Fixture.request("other"))
                }
                #expect(error?.code == .storeUnavailable)
                #expect(asked.duration(to: .now) < .seconds(4))
            }
            #expect(Self.cpu - cpu < 1)
            // The library waits for a sixtieth of the session between two tries; there is nobody else here.
            let tries = try LeftoverTests.connectionsSoFar() - connections
            #expect((1...200).contains(tries), "\(tries) tries in 3 s")
            // Ten in ten seconds, and the number of those that were not passed on; there are some.
            #expect((1...24).contains(lines.value))
            try await server.start()
            guard case .granted = try await SessionFaultTests.insist(store, Fixture.request("other")) else {
                Issue.record("the store does not come back")
                return
            }
        }
    }

    @Test("A server that shortens sessions below what was asked for is refused with advice")
    func shortSessions() async throws {
        let server = try await ZooKeeperServer()
        let store = try ZooKeeperLockStore(url: "zookeeper://\(server.hosts)?session=90s&sharing=no")
        let error = await #expect(throws: LockError.self) { _ = try await store.acquire(Fixture.request("x")) }
        #expect(error?.code == .storeRefused)
        #expect(error?.message.contains("?session=60000ms") == true)
        await #expect(throws: LockError.self) { try await store.run() }
    }

    @Test("A store that already runs ends when the servers turn out to refuse its session")
    func refusedLater() async throws {
        let server = try await ZooKeeperServer()
        server.kill()
        let url = "zookeeper://\(server.hosts)/locks?session=90s&sharing=no&timeout=300ms"
        let store = try ZooKeeperLockStore(url: url)
        let outcome = Cell<LockError.Code?>(nil)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                do { try await store.run() } catch let error as LockError { outcome.value = error.code }
            }
            // Longer than it waits for a first connection.
            for _ in 0..<3 {
                await #expect(throws: LockError.self) { _ = try await store.acquire(Fixture.request("x")) }
            }
            #expect(outcome.value == nil)
            try await server.start()
            // A server that has just begun may take a connection and never answer; two thirds of the session later the
            // library tries again.
            try await Fixture.eventually(within: .seconds(90), "it runs on") { outcome.value == .storeRefused }
            group.cancelAll()
            try await group.waitForAll()
        }
    }

    @Test("A session that has ended for good is not given to new stores")
    func endedSession() async throws {
        let server = try await ZooKeeperServer()
        let url = "\(server.url)/locks?session=6s&timeout=4s"
        let first = try ZooKeeperLockStore(url: url)
        _ = try await first.acquire(Fixture.request("x"))
        await first.closeSession(draining: .zero)
        let second = try ZooKeeperLockStore(url: url)
        guard case .granted = try await second.acquire(Fixture.request("x")) else {
            Issue.record("not granted")
            return
        }
        await second.closeSession(draining: .zero)
        withExtendedLifetime(first) {}
    }

    @Test("With access=creator strangers can neither take, see nor free locks, and are told why (S9)")
    func access() async throws {
        let server = try await ZooKeeperServer()
        let owner = try Fixture.store("anna:se%40cret@\(server.hosts)")
        let strangers = [
            try Fixture.store("bert:other@\(server.hosts)", "&access=creator"), try Fixture.store(server.hosts),
        ]
        try await Fixture.running([owner] + strangers) {
            let request = Fixture.request("private")
            guard case .granted = try await owner.acquire(request) else { return }
            for stranger in strangers {
                for call in [
                    { _ = try await stranger.acquire(Fixture.request("private")) },
                    { _ = try await stranger.status(of: "private") },
                    { _ = try await stranger.forceRelease("private") },
                    { _ = try await stranger.acquire(Fixture.request("beside")) },
                ] as [() async throws -> Void] {
                    let error = await #expect(throws: LockError.self) { try await call() }
                    #expect(error?.code == .storeRefused)
                    #expect(error?.message.contains("does not permit") == true)
                    #expect(error?.message.contains("se@cret") == false)
                }
            }
            let own = try await owner.wire()
            let name = try #require(await own.children(of: "/locks/private").children.first)
            for stranger in strangers {
                let reply = await (try stranger.wire()).delete("/locks/private/\(name)")
                #expect(reply.code == .noPermission)
            }
            #expect(try await owner.status(of: "private").holders.count == 1)
            #expect(try await owner.release(request.key) == .released)
        }
    }

    @Test("Session ids and passwords are in no line of the log (S3)")
    func secrets() async throws {
        let server = try await ZooKeeperServer()
        let lines = Cell<[String]>([])
        ZooKeeperLog.observe(upTo: .info) { _, line in lines.value.append(line) }
        defer { ZooKeeperLog.observe(nil) }
        let store = try Fixture.store("anna:canary77@\(server.hosts)")
        try await Fixture.running([store]) {
            guard case .granted = try await store.acquire(Fixture.request("x")) else { return }
            let session = try #require(try server.session(ofNode: "/locks/x/"))
            let id = String(UInt64(bitPattern: session), radix: 16)
            try server.expire(session)
            try await Fixture.eventually("no line about the session") { lines.value.count > 1 }
            var dumped = ""
            // The session that came after it.
            try await Fixture.eventually("not back") { (try? await store.status(of: "x")) != nil }
            let next = try #require(store.session.link?.id)
            dump(store, to: &dumped)
            let text = lines.value.joined(separator: "\n") + "\(store.configuration)" + dumped
            #expect(!text.contains(id))
            #expect(!text.contains("\(next)"))
            #expect(!text.contains("canary77"))
        }
    }

    private static var cpu: Double {
        var usage = rusage()
        getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
        let seconds = Double(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec)
        return seconds + Double(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6
    }
}

extension ZooKeeperServer {
    /// A number in an answer to a four-letter word.
    func number(after label: String, in word: String) throws -> Int? {
        let text = try self.command(word)
        return text.firstRange(of: label).flatMap { Int(text[$0.upperBound...].prefix { $0.isNumber }) }
    }
}
