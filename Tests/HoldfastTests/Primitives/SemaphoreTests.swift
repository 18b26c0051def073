// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import HoldfastTesting
import Testing

@Suite("Semaphores", .timeLimit(.minutes(5)))
struct SemaphoreTests {
    @Test("So many work at once over two processes, never more, and all get their turn")
    func limitsWork() throws {
        try Bench.run { bench in
            let other = try bench.neighbour()
            let room = Occupancy()
            try await other.whileRunning {
                let semaphores = try [bench, other].map { try Semaphore("s", permits: 3, on: $0.locks) }
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for number in 0..<40 {
                        group.addTask {
                            try await semaphores[number % 2].withPermit { permit in
                                try permit.checkValid()
                                room.enter()
                                try await bench.sleep(.milliseconds(100))
                                room.leave()
                            }
                        }
                    }
                    try await group.waitForAll()
                }
            }
            #expect(room.most == 3)
            #expect(room.visits == 40)
            #expect(try await bench.isAllFree())
        }
    }

    @Test("A permit that is free is seen and taken, and one that is not is not")
    func attempt() throws {
        try Bench.run { bench in
            let semaphore = try Semaphore("s", permits: 2, on: bench.locks)
            #expect(try await semaphore.available() == 2)
            let first = try await semaphore.acquire()
            let second = try #require(try await semaphore.tryAcquire(label: "second"))
            #expect(try await semaphore.available() == 0)
            #expect(second.fencingToken > first.fencingToken)
            #expect(try await semaphore.tryAcquire() == nil)
            #expect(
                await lockErrorCode { try await semaphore.acquire(waitingAtMost: .seconds(1)).release() } == .timeout
            )
            await first.release()
            #expect(try await semaphore.available() == 1)
            await second.release()
        }
    }

    @Test("After it grew, later requests find more room; after it shrank, nobody comes in until enough have left")
    func resize() throws {
        try Bench.run { bench in
            let semaphore = try Semaphore("s", permits: 1, on: bench.locks)
            let first = try await semaphore.acquire()
            #expect(try await semaphore.tryAcquire() == nil)
            try semaphore.resize(to: 3)
            #expect(try await semaphore.available() == 2)
            let second = try #require(try await semaphore.tryAcquire())
            let third = try #require(try await semaphore.tryAcquire())
            try semaphore.resize(to: 2)
            #expect(semaphore.permits == 2)
            #expect(try await semaphore.available() == 0)
            await third.release()
            #expect(try await semaphore.tryAcquire() == nil)
            try first.checkValid()
            await second.release()
            let fourth = try #require(try await semaphore.tryAcquire())
            await first.release()
            await fourth.release()
        }
    }

    @Test("The permit of a dead holder is free when its lease ends")
    func deadHolder() throws {
        try Bench.run { bench in
            let other = try bench.distantNeighbour()
            try await other.whileRunning {
                _ = try await Semaphore("s", permits: 2, on: other.locks).acquire(lease: .seconds(4)).detach()
                let semaphore = try Semaphore("s", permits: 2, on: bench.locks)
                let living = try await semaphore.acquire(lease: .seconds(4))
                let started = bench.clock.now
                let third = try await semaphore.acquire()
                #expect(started.duration(to: bench.clock.now) < .seconds(4.2))
                try living.checkValid()
                await third.release()
                await living.release()
            }
        }
    }

    @Test("Permits are not re-entered")
    func nesting() throws {
        try Bench.run { bench in
            let semaphore = try Semaphore("s", permits: 2, on: bench.locks)
            try await semaphore.withPermit { outer in
                try await semaphore.withPermit { inner in
                    let available = try await semaphore.available()
                    #expect(inner.fencingToken > outer.fencingToken)
                    #expect(available == 0)
                }
            }
            #expect(try await bench.isAllFree())
        }
    }

    @Test("A number of permits out of range is refused", arguments: [0, -1, Semaphore.maximumPermits + 1])
    func range(permits: Int) throws {
        try Bench.run { bench in
            #expect(throws: LockError.self) { try Semaphore("s", permits: permits, on: bench.locks) }
            let semaphore = try Semaphore("s", permits: 1, on: bench.locks)
            #expect(throws: LockError.self) { try semaphore.resize(to: permits) }
            #expect(semaphore.permits == 1)
        }
    }
}
