// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import HoldfastTesting
import Synchronization
import Testing

@Suite("Latches that are counted down", .timeLimit(.minutes(5)))
struct CountDownLatchTests {
    @Test("It opens with the last count-down, for all who wait in any process, and stays open")
    func opens() throws {
        try Bench.run { bench in
            let other = try bench.neighbour()
            try await other.whileRunning {
                let latch = try CountDownLatch("l", count: 3, on: bench.locks)
                let waiter = bench.start {
                    try await CountDownLatch("l", count: 3, on: other.locks).wait()
                    return bench.clock.now
                }
                for left in [2, 1, 0] {
                    try await bench.sleep(.seconds(1))
                    try await latch.countDown(label: "worker")
                    #expect(try await latch.remaining() == left)
                }
                let opened = bench.clock.now
                #expect(opened.duration(to: try await waiter.value) <= .milliseconds(250))
                try await latch.wait(waitingAtMost: .zero)
                try await latch.countDown()
                #expect(try await bench.locks.holders(of: "l").count == 3)
            }
        }
    }

    @Test("A count-down survives the process that made it, is not renewed, and ends with its retention")
    func survives() throws {
        try Bench.run(for: .seconds(4000)) { bench in
            let other = try bench.neighbour()
            try await other.whileRunning {
                try await CountDownLatch("l", count: 1, on: other.locks).countDown()
            }
            let latch = try CountDownLatch("l", count: 1, on: bench.locks)
            try await bench.sleep(.seconds(3599))
            try await latch.wait(waitingAtMost: .zero)
            #expect(bench.store.count("renew") == 0)
            try await bench.sleep(.seconds(2))
            #expect(try await latch.remaining() == 1)
        }
    }

    @Test("A lost answer is asked for again and counts once")
    func lostAnswer() throws {
        try Bench.run { bench in
            let failures = Mutex(2)
            bench.store.script.withLock { script in
                script.afterAcquire = { _ in
                    let fails = failures.withLock { count in
                        count -= 1
                        return count >= 0
                    }
                    if fails { throw LockError(.storeUnavailable, "the reply was lost") }
                }
            }
            let latch = try CountDownLatch("l", count: 2, on: bench.locks)
            try await latch.countDown()
            #expect(bench.store.count("acquire") == 3)
            #expect(try await latch.remaining() == 1)
        }
    }

    @Test("Work that returns is counted, work that fails is not")
    func scoped() throws {
        struct Failure: Error {}
        try Bench.run { bench in
            let latch = try CountDownLatch("l", count: 2, on: bench.locks)
            await #expect(throws: Failure.self) { try await latch.withCountDown { throw Failure() } }
            #expect(try await latch.remaining() == 2)
            let result = try await latch.withCountDown { 7 }
            #expect(result == 7)
            #expect(try await latch.remaining() == 1)
        }
    }

    @Test("Who waits too long is told how many are missing, and who is cancelled stops waiting")
    func endsOfWaiting() throws {
        try Bench.run { bench in
            let latch = try CountDownLatch("l", count: 2, on: bench.locks)
            let started = bench.clock.now
            #expect(await lockErrorCode { try await latch.wait(waitingAtMost: .seconds(3)) } == .timeout)
            #expect(started.duration(to: bench.clock.now) == .seconds(3))
            #expect(await lockErrorCode { try await latch.wait(waitingAtMost: .seconds(-1)) } == .invalidArgument)
            let waiter = bench.start { try await latch.wait() }
            try await bench.sleep(.seconds(1))
            waiter.cancel()
            await #expect(throws: CancellationError.self) { try await waiter.value }
            let looks = bench.store.count("status")
            try await bench.sleep(.seconds(10))
            #expect(bench.store.count("status") == looks)
        }
    }

    @Test("Waiting looks at most four times a second in the long run, and lives through a short outage only")
    func looks() throws {
        try Bench.run { bench in
            let latch = try CountDownLatch("l", count: 1, on: bench.locks)
            let waiter = bench.start { try await latch.wait() }
            try await bench.sleep(.seconds(100))
            #expect((300...410).contains(bench.store.count("status")))
            bench.store.cutOff()
            try await bench.sleep(.seconds(4))
            bench.store.join()
            try await bench.sleep(.seconds(1))
            bench.store.cutOff()
            let cut = bench.clock.now
            #expect(await lockErrorCode { try await waiter.value } == .storeUnavailable)
            #expect(cut.duration(to: bench.clock.now) > .seconds(4.5))
        }
    }

    @Test("After a reset it counts from the start")
    func reset() throws {
        try Bench.run { bench in
            let latch = try CountDownLatch("l", count: 1, on: bench.locks)
            try await latch.countDown()
            try await latch.reset()
            #expect(try await latch.remaining() == 1)
            #expect(try await bench.isFree("l"))
            try await latch.countDown()
            try await latch.wait()
        }
    }

    @Test("A name that is locked in another way is not counted on")
    func foreignLock() throws {
        try Bench.run { bench in
            let latch = try CountDownLatch("l", count: 1, on: bench.locks)
            let foreign = try await bench.locks.acquire("l")
            #expect(await lockErrorCode { try await latch.countDown() } == .timeout)
            #expect(try await latch.remaining() == 1)
            await foreign.release()
            #expect(try await bench.isFree("l"))
        }
    }

    @Test("Numbers out of range are refused")
    func limits() throws {
        try Bench.run { bench in
            for count in [0, CountDownLatch.maximumCount + 1] {
                #expect(throws: LockError.self) { try CountDownLatch("l", count: count, on: bench.locks) }
            }
            for retention in [Duration.milliseconds(99), .seconds(86_401)] {
                #expect(throws: LockError.self) {
                    try CountDownLatch("l", count: 1, on: bench.locks, retention: retention)
                }
            }
        }
    }
}
