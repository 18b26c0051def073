// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import HoldfastTesting
import Synchronization
import Testing

@Suite(.timeLimit(.minutes(5))) struct ManualClockTests {
    @Test("Sleepers wake when the clock gets there, and not before")
    func wakes() async throws {
        let clock = ManualClock()
        try await withThrowingTaskGroup(of: Duration.self) { group in
            group.addTask {
                try await clock.sleep(for: .seconds(10))
                return clock.elapsed
            }
            #expect(await clock.nextTimerScheduled() == clock.start.advanced(by: .seconds(10)))
            clock.advance(by: .seconds(10) - .nanoseconds(1))
            #expect(clock.timerCount == 1)
            clock.advance(by: .nanoseconds(1))
            let wokenAt = try await group.next()
            #expect(wokenAt == .seconds(10))
            #expect(clock.timerCount == 0)
        }
    }

    @Test("A sleep that is over already returns at once")
    func past() async throws {
        let clock = ManualClock()
        try await clock.sleep(until: clock.now)
        try await clock.sleep(for: .seconds(-1))
    }

    @Test("A cancelled sleeper throws at once and leaves nothing behind")
    func cancellation() async throws {
        let clock = ManualClock()
        await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<100 { group.addTask { try await clock.sleep(for: .seconds(10)) } }
            group.cancelAll()
            while let result = await group.nextResult() {
                #expect(throws: CancellationError.self) { try result.get() }
            }
        }
        #expect(clock.timerCount == 0)
    }

    @Test("A test can wait for a number of sleepers")
    func rendezvous() async throws {
        let clock = ManualClock()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 1...5 { group.addTask { try await clock.sleep(for: .seconds(number)) } }
            await clock.timers(atLeast: 5)
            #expect(clock.nextDeadline == clock.start.advanced(by: .seconds(1)))
            clock.advance(by: .seconds(5))
            try await group.waitForAll()
        }
    }

    @Test("Calls happen in the order of their times, and the clock shows those times")
    func order() {
        let clock = ManualClock()
        let seen = Mutex<[Duration]>([])
        for milliseconds in [30, 10, 20, 10] {
            clock.schedule(after: .milliseconds(milliseconds)) { seen.withLock { $0.append(clock.elapsed) } }
        }
        let cancelled = clock.schedule(after: .milliseconds(15)) { seen.withLock { $0.append(.zero) } }
        clock.cancel(cancelled)
        clock.advance(by: .seconds(1))
        #expect(seen.withLock { $0 } == [10, 10, 20, 30].map { .milliseconds($0) })
        #expect(clock.elapsed == .seconds(1))
    }
}

@Suite struct SimulationToolTests {
    @Test("Two thousand virtual seconds pass in no time")
    func virtualTime() throws {
        let simulation = Simulation(seed: 1)
        try simulation.run(for: .seconds(2000)) { simulation in
            for _ in 0..<2000 { try await simulation.clock.sleep(for: .seconds(1)) }
        }
        #expect(simulation.clock.elapsed == .seconds(2000))
    }

    @Test("The seed decides about the order, and the same seed gives the same order")
    func seeds() throws {
        func order(seed: UInt64) throws -> [Int] {
            try Simulation(seed: seed).run(for: .seconds(1)) { _ in
                await withTaskGroup(of: Int.self) { group in
                    for number in 0..<20 {
                        group.addTask {
                            await Task.yield()
                            return number
                        }
                    }
                    return await group.reduce(into: []) { $0.append($1) }
                }
            }
        }
        #expect(try order(seed: 1) == order(seed: 1))
        #expect(try Set((0..<20 as Range<UInt64>).map(order)).count > 15)
    }

    @Test("A body that waits for nothing that will come is reported, and so is one that takes too long")
    func failures() {
        #expect(throws: Simulation.Failure.stalled(seed: 3)) {
            try Simulation(seed: 3).run(for: .seconds(1)) { _ in
                for await _ in AsyncStream<Never>.makeStream().stream {}
                await withUnsafeContinuation { (_: UnsafeContinuation<Void, Never>) in }
            }
        }
        #expect(throws: Simulation.Failure.overtime(seed: 4)) {
            try Simulation(seed: 4).run(for: .seconds(1)) { try await $0.clock.sleep(for: .seconds(2)) }
        }
    }

    @Test("A paused process does nothing until it is resumed; others go on")
    func pause() throws {
        let times = try Simulation(seed: 5).run(for: .seconds(100)) { simulation in
            let process = simulation.makeProcess("p")
            return await withTaskGroup(of: Duration.self) { group in
                group.addTask(executorPreference: process) {
                    try? await simulation.clock.sleep(for: .seconds(1))
                    return simulation.clock.elapsed
                }
                group.addTask {
                    process.pause(for: .seconds(10))
                    try? await simulation.clock.sleep(for: .seconds(1))
                    return simulation.clock.elapsed
                }
                return await group.reduce(into: []) { $0.append($1) }
            }
        }
        #expect(times == [.seconds(1), .seconds(10)])
    }
}
