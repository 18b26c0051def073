// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import HoldfastTesting
import Testing

@Suite("Acquiring and releasing", .timeLimit(.minutes(5)))
struct AcquireTests {
    @Test("A free lock is granted at once with a token that rises, and is free after its release")
    func freeLock() throws {
        try Bench.run { bench in
            let first = try await bench.locks.acquire("a", label: "job")
            #expect(first.owner.label == "job")
            #expect(first.validUntil > bench.clock.now)
            #expect(await first.release() == .released)
            #expect(await first.release() == .released)
            let second = try await bench.locks.acquire("a")
            #expect(second.fencingToken > first.fencingToken)
            await second.release()
            #expect(try await bench.isFree("a"))
            #expect(bench.store.count("acquire") == 2)
            #expect(bench.store.count("release") == 2)
        }
    }

    @Test("A taken lock is nil for those who do not wait, here and in another process")
    func tryTaken() throws {
        try Bench.run { bench in
            let other = try bench.neighbour()
            try await other.whileRunning {
                let held = try await bench.locks.acquire("a")
                #expect(try await bench.locks.tryAcquire("a") == nil)
                #expect(try await other.locks.tryAcquire("a") == nil)
                #expect(try await other.locks.tryWithLock("a") { _ in 1 } == nil)
                await held.release()
                #expect(try await other.locks.tryWithLock("a") { _ in 1 } == 1)
            }
        }
    }

    @Test("A wait limit is one deadline, and the error names the holder")
    func waitLimit() throws {
        try Bench.run { bench in
            let other = try bench.neighbour()
            try await other.whileRunning {
                let held = try await bench.locks.acquire("a", label: "nightly")
                let started = bench.clock.now
                let error = await #expect(throws: LockError.self) {
                    try await other.locks.acquire("a", waitingAtMost: .seconds(45))
                }
                #expect(error?.code == .timeout)
                #expect(error?.message.contains("nightly") == true)
                #expect(error?.blockers.first?.owner?.label == "nightly")
                // The holder renewed several times meanwhile; none of that restarted the limit.
                #expect(started.duration(to: bench.clock.now) >= .seconds(45))
                #expect(started.duration(to: bench.clock.now) < .seconds(46))
                #expect(try await bench.store.status(of: "a").waiters.isEmpty)
                await held.release()
            }
        }
    }

    @Test("A local waiter's limit is kept to the millisecond")
    func localWaitLimit() throws {
        try Bench.run { bench in
            let held = try await bench.locks.acquire("a")
            for limit in [1, 7, 50, 1234] {
                let started = bench.clock.now
                let error = await #expect(throws: LockError.self) {
                    try await bench.locks.acquire("a", waitingAtMost: .milliseconds(limit))
                }
                #expect(error?.code == .timeout)
                let waited = started.duration(to: bench.clock.now)
                #expect(waited >= .milliseconds(limit) && waited <= .milliseconds(limit + 2))
            }
            await held.release()
        }
    }

    @Test(
        "A hundred tasks of three processes exclude each other and all get through",
        arguments: 1...20 as ClosedRange<UInt64>
    )
    func manyTasks(seed: UInt64) throws {
        try Bench.run(seed: seed) { bench in
            let others = [bench, try bench.neighbour(), try bench.neighbour()]
            let room = Occupancy()
            try await others[1].whileRunning {
                try await others[2].whileRunning {
                    try await withThrowingTaskGroup(of: Void.self) { group in
                        for index in 0..<99 {
                            group.addTask {
                                try await others[index % 3].locks.withLock("a") { _ in
                                    room.enter()
                                    try await bench.sleep(.milliseconds(3))
                                    room.leave()
                                }
                            }
                        }
                        try await group.waitForAll()
                    }
                }
            }
            #expect(room.visits == 99)
            #expect(room.most == 1)
            #expect(try await bench.isFree("a"))
        }
    }

    @Test("Local waiters come in order, the urgent one earlier")
    func localOrder() throws {
        try Bench.run { bench in
            let order = Collector<Int>()
            let held = try await bench.locks.acquire("a")
            try await withThrowingTaskGroup(of: Void.self) { group in
                for index in 0..<5 {
                    group.addTask {
                        try await bench.sleep(.milliseconds(10 * (index + 1)))
                        let priority = index == 4 ? 1 : 0
                        try await bench.locks.withLock("a", priority: priority) { _ in order.append(index) }
                    }
                }
                try await bench.sleep(.milliseconds(100))
                await held.release()
                try await group.waitForAll()
            }
            // The second in line already stands in the store's queue when the urgent one comes.
            #expect(order.values.filter { $0 != 4 } == [0, 1, 2, 3])
            #expect(order.values.firstIndex(of: 4).map { $0 <= 1 } == true)
        }
    }

    @Test("Readers of one process share, a writer waits for both and stops newcomers")
    func readers() throws {
        try Bench.run { bench in
            let first = try await bench.locks.acquire("a", mode: .shared)
            let second = try await bench.locks.acquire("a", mode: .shared)
            async let writer = bench.locks.acquire("a")
            try await bench.sleep(.milliseconds(10))
            #expect(try await bench.locks.tryAcquire("a", mode: .shared) == nil)
            await first.release()
            try await bench.sleep(.milliseconds(10))
            #expect(try await bench.locks.holders(of: "a").count == 1)
            await second.release()
            #expect(try await writer.mode == .exclusive)
            try await writer.release()
        }
    }

    @Test("What the store cannot do is an error before anything is sent")
    func capabilities() throws {
        try Bench.run { bench in
            for lease in [Duration.milliseconds(99), .seconds(24 * 3600 + 1), .zero] {
                let error = await #expect(throws: LockError.self) { try await bench.locks.acquire("a", lease: lease) }
                #expect(error?.code == .invalidArgument)
            }
            let delay = await #expect(throws: LockError.self) {
                try await bench.locks.acquire("a", lockDelay: .seconds(61))
            }
            #expect(delay?.code == .invalidArgument)
            let limit = await #expect(throws: LockError.self) {
                try await bench.locks.acquire("a", waitingAtMost: .seconds(-1))
            }
            #expect(limit?.code == .invalidArgument)
            #expect(bench.store.count("acquire") == 0)
        }
    }

    @Test("Using a service that nobody runs is an error after the start-up limit")
    func notRunning() throws {
        try Bench.idle(for: .seconds(60)) { bench in
            let error = await #expect(throws: LockError.self) { try await bench.locks.acquire("a") }
            #expect(error?.code == .notRunning)
            #expect(bench.clock.elapsed == .seconds(10))
        }
    }

    @Test("An acquire that is not to wait waits a second for run()")
    func neverStarts() throws {
        try Bench.idle(for: .seconds(60)) { bench in
            let error = await #expect(throws: LockError.self) {
                try await bench.locks.acquire("a", waitingAtMost: .zero)
            }
            #expect(error?.code == .notRunning)
            #expect(bench.clock.elapsed == .seconds(1))
        }
    }

    @Test("An acquire that is not to wait asks once, also when run() is just being started")
    func startsAtOnce() throws {
        try Bench.idle(for: .seconds(60)) { bench in
            let limits: [(Resource, Duration)] = [("a", .zero), ("b", .milliseconds(50))]
            let early = limits.map { resource, limit in
                bench.start { try await bench.locks.acquire(resource, waitingAtMost: limit) }
            }
            try await bench.sleep(.milliseconds(300))
            try await bench.whileRunning {
                for task in early {
                    let lease = try await task.value
                    let error = await #expect(throws: LockError.self) {
                        try await bench.locks.acquire(lease.resource, waitingAtMost: .zero)
                    }
                    #expect(error?.code == .timeout)
                    await lease.release()
                }
            }
        }
    }

    @Test("An acquire that comes before run() waits for it")
    func startsLate() throws {
        try Bench.idle(for: .seconds(60)) { bench in
            let task = bench.start { try await bench.locks.acquire("a") }
            try await bench.sleep(.seconds(5))
            try await bench.whileRunning {
                let reply = try await task.value.release()
                #expect(reply == .released)
            }
        }
    }

    @Test("When the service stops, waiters and holders are told")
    func stopping() throws {
        try Bench.idle(for: .seconds(60)) { bench in
            let outcomes = Collector<String>()
            try await withThrowingTaskGroup(of: Void.self) { group in
                let run = bench.start { try await bench.locks.run() }
                let held = try await bench.locks.acquire("a")
                group.addTask {
                    do {
                        try await bench.locks.withLock("b") { _ in
                            do { try await bench.sleep(.seconds(50)) } catch { outcomes.append("body cancelled") }
                        }
                    } catch { outcomes.append("\((error as? LockError)?.code.description ?? "?")") }
                }
                group.addTask {
                    do { _ = try await bench.locks.acquire("a") } catch {
                        outcomes.append("\((error as? LockError)?.code.description ?? "?")")
                    }
                }
                try await bench.sleep(.milliseconds(10))
                run.cancel()
                try await run.value
                try await group.waitForAll()
                #expect(Set(outcomes.values) == ["body cancelled", "lost", "notRunning"])
                #expect(throws: LockError.self) { try held.checkValid() }
                await #expect(throws: LockError.self) { try await bench.locks.acquire("c") }
                await held.release()
            }
            #expect(try await bench.isFree("a"))
            #expect(try await bench.isFree("b"))
        }
    }
}
