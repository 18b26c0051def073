// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import HoldfastTesting
import Synchronization
import Testing

@Suite("Several locks together", .timeLimit(.minutes(5)))
struct MultiLockTests {
    @Test("Free locks come in one round trip, each once, in the order given, for one owner")
    func oneRoundTrip() throws {
        try Bench.run { bench in
            bench.store.script.withLock { $0.beforeAcquire = { _ in try? await bench.sleep(.milliseconds(10)) } }
            let started = bench.clock.now
            let held = try await bench.locks.acquireAll(["c", "a", "c", "b"])
            #expect(started.duration(to: bench.clock.now) == .milliseconds(10))
            #expect(held.resources == ["c", "a", "b"])
            #expect(Set(held.leases.map(\.owner)).count == 1)
            #expect(held.fencingToken(for: "a") == held.lease(for: "a")?.fencingToken)
            #expect(held.fencingToken(for: "d") == nil)
            try held.checkValid()
            let released = await held.release()
            #expect(released == [.released, .released, .released])
            #expect(throws: LockError.self) { try held.checkValid() }
            #expect(try await bench.isAllFree())
        }
    }

    @Test("What comes after a taken lock is given back while it waits, what comes before is kept")
    func waitsInOrder() throws {
        try Bench.run { bench in
            let other = try bench.neighbour()
            try await other.whileRunning {
                let blocker = try await other.locks.acquire("b")
                let task = bench.start {
                    try await bench.locks.withLocks(["c", "b", "a"]) { held in
                        try held.checkValid()
                        return held.resources
                    }
                }
                try await bench.sleep(.seconds(5))
                #expect(try await bench.locks.holders(of: "a").count == 1)
                #expect(try await bench.isFree("c"))
                #expect(try await bench.store.status(of: "b").waiters.count == 1)
                await blocker.release()
                #expect(try await task.value == ["c", "b", "a"])
                #expect(try await bench.isAllFree())
            }
        }
    }

    @Test("One wait limit counts for all, and nothing is held after it")
    func oneLimit() throws {
        try Bench.run { bench in
            let first = try await bench.locks.acquire("a")
            let second = try await bench.locks.acquire("b")
            let freed = bench.start {
                try await bench.sleep(.seconds(2))
                await first.release()
            }
            let started = bench.clock.now
            let error = await #expect(throws: LockError.self) {
                try await bench.locks.acquireAll(["a", "b"], waitingAtMost: .seconds(3))
            }
            #expect(error?.code == .timeout)
            #expect(started.duration(to: bench.clock.now) < .seconds(3.1))
            try await freed.value
            #expect(try await bench.isFree("a"))
            await second.release()
        }
    }

    @Test("A try takes all or nothing")
    func attempt() throws {
        try Bench.run { bench in
            let blocker = try await bench.locks.acquire("b")
            #expect(try await bench.locks.tryWithLocks(["a", "b"]) { _ in true } == nil)
            #expect(try await bench.isFree("a"))
            await blocker.release()
            #expect(try await bench.locks.tryWithLocks(["a", "b"]) { _ in true } == true)
            #expect(try await bench.isFree("a"))
        }
    }

    @Test("An error of the store gives everything back")
    func storeError() throws {
        try Bench.run { bench in
            bench.store.script.withLock { script in
                script.afterAcquire = { if $0.resource == "b" { throw LockError(.storeRefused, "no") } }
            }
            await #expect(throws: LockError.self) { try await bench.locks.acquireAll(["a", "b", "c"]) }
            let isFree = try await bench.isAllFree()
            #expect(isFree)
        }
    }

    @Test("An outage shorter than the limit is waited out")
    func outage() throws {
        try Bench.run { bench in
            let fails = Mutex(3)
            bench.store.script.withLock { script in
                script.beforeAcquire = { _ in
                    let isDown = fails.withLock { count in
                        count -= 1
                        return count >= 0
                    }
                    if isDown { throw LockError(.storeUnavailable, "down") }
                }
            }
            let result = try await bench.locks.withLocks(["a", "b"]) { _ in 7 }
            #expect(result == 7)
            let isFree = try await bench.isAllFree()
            #expect(isFree)
        }
    }

    @Test("The work is cancelled when any of the leases is lost")
    func lossOfOne() throws {
        try Bench.run { bench in
            let started = bench.clock.now
            let code = await lockErrorCode {
                try await bench.locks.withLocks(["a", "b", "c"]) { held in
                    let log = bench.start { await held.events.reduce(into: []) { $0.append($1) } }
                    try await bench.sleep(.seconds(1))
                    _ = try await bench.locks.forceRelease("b")
                    try? await bench.sleep(.seconds(60))
                    #expect(Task.isCancelled)
                    await held.release()
                    let events = try await log.value
                    #expect(events.contains { $0.resource == "b" && $0.event == .lost(.forced) })
                    #expect(!events.contains { $0.resource == "a" && $0.event == .lost(.forced) })
                    #expect(events.count { if case .released = $0.event { true } else { false } } == 3)
                }
            }
            #expect(code == .lost)
            #expect(started.duration(to: bench.clock.now) < .seconds(2))
            let isFree = try await bench.isAllFree()
            #expect(isFree)
        }
    }

    @Test("A lock that is lost while another is waited for ends the wait")
    func lossWhileWaiting() throws {
        try Bench.run { bench in
            let blocker = try await bench.locks.acquire("b")
            let task = bench.start { try await bench.locks.acquireAll(["a", "b"]).release() }
            try await bench.sleep(.seconds(1))
            _ = try await bench.locks.forceRelease("a")
            let error = await #expect(throws: LockError.self) { try await task.value }
            #expect(error?.code == .lost)
            try blocker.checkValid()
            await blocker.release()
            #expect(try await bench.isAllFree())
        }
    }

    @Test("Inside the work each of the locks re-enters, and so does a set of them")
    func reentry() throws {
        try Bench.run { bench in
            try await bench.locks.withLocks(["a", "b"]) { outer in
                try await bench.locks.withLock("b") { inner in
                    #expect(inner.fencingToken == outer.fencingToken(for: "b"))
                }
                try await bench.locks.withLocks(["c", "a"]) { inner in
                    #expect(inner.fencingToken(for: "a") == outer.fencingToken(for: "a"))
                }
                try outer.checkValid()
                #expect(try await bench.isFree("c"))
            }
            #expect(try await bench.isAllFree())
        }
    }

    @Test("A deadlock with a lock of an outer scope is seen through the locks already held")
    func deadlock() throws {
        try Bench.run { bench in
            let codes = Collector<LockError.Code>()
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    do {
                        try await bench.locks.withLock("c") { _ in
                            try await bench.sleep(.seconds(1))
                            try await bench.locks.withLock("a") { _ in }
                        }
                    } catch let error as LockError { codes.append(error.code) }
                }
                group.addTask {
                    try await bench.sleep(.milliseconds(500))
                    do {
                        try await bench.locks.withLocks(["a", "b", "c"]) { _ in }
                    } catch let error as LockError { codes.append(error.code) }
                }
                try await group.waitForAll()
            }
            #expect(codes.values == [.deadlock])
            #expect(try await bench.isAllFree())
        }
    }

    @Test("No resources and too many resources are refused before anything is sent")
    func limits() throws {
        try Bench.run { bench in
            let many = try (0...MultiLease.maximumCount).map { try Resource("r/\($0)") }
            for resources in [[], many] {
                let error = await #expect(throws: LockError.self) { try await bench.locks.acquireAll(resources) }
                #expect(error?.code == .invalidArgument)
            }
            #expect(bench.store.count("acquire") == 0)
        }
    }

    @Test(
        "12: random sets in random orders with random cancellations leave nothing and never stall (redisson#4456, #1160)",
        arguments: 1...6 as ClosedRange<UInt64>
    )
    func randomSets(seed: UInt64) throws {
        let cancelled = Collector<Int>()
        let done = Collector<Int>()
        try Bench.run(seed: seed, for: .seconds(3600)) { bench in
            let other = try bench.neighbour()
            let names: [Resource] = ["a", "b", "c", "d", "e", "f", "g", "h"]
            let rooms = names.map { _ in Occupancy() }
            let dice = Dice(bench.simulation.makeGenerator())
            bench.store.script.withLock { script in
                script.beforeAcquire = { _ in try? await bench.sleep(dice.upTo(.milliseconds(20))) }
                script.afterAcquire = { _ in try? await bench.sleep(dice.upTo(.milliseconds(20))) }
            }
            let draw: @Sendable (Int) -> Int = { Int(dice.upTo(.nanoseconds(Int64($0) - 1)).nanoseconds) }
            let visit: @Sendable (LockService) async throws -> Void = { locks in
                let indices = Set((0...draw(4)).map { _ in draw(names.count) }).shuffledBy(draw)
                // A lease so long that a lock left behind would make the others run out of patience.
                let set = indices.map { names[$0] }
                try await locks.withLocks(set, lease: .seconds(300), waitingAtMost: .seconds(60)) { _ in
                    for index in indices { rooms[index].enter() }
                    try? await bench.sleep(dice.upTo(.milliseconds(50)))
                    for index in indices { rooms[index].leave() }
                }
            }
            try await other.whileRunning {
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for number in 0..<200 {
                        group.addTask {
                            try await bench.sleep(dice.upTo(.seconds(2)))
                            let task = bench.start {
                                try await visit(number.isMultiple(of: 2) ? bench.locks : other.locks)
                            }
                            let isPatient = draw(3) > 0
                            if !isPatient {
                                try await bench.sleep(dice.upTo(.milliseconds(500)))
                                task.cancel()
                            }
                            do {
                                try await task.value
                                done.append(number)
                            } catch is CancellationError where !isPatient {
                                cancelled.append(number)
                            }
                        }
                    }
                    try await group.waitForAll()
                }
            }
            #expect(rooms.allSatisfy { $0.most == 1 })
            #expect(try await bench.isAllFree())
            let renewals = bench.store.count("renew")
            try await bench.sleep(.seconds(400))
            #expect(bench.store.count("renew") == renewals)
        }
        #expect(cancelled.values.count > 10)
        #expect(done.values.count > 100)
    }
}

extension Set<Int> {
    /// The members in an order that a test draws.
    fileprivate func shuffledBy(_ draw: (Int) -> Int) -> [Int] {
        self.sorted().map { ($0, draw(1_000_000)) }.sorted { $0.1 < $1.1 }.map(\.0)
    }
}
