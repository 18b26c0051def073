// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import HoldfastTesting
import Synchronization
import Testing

@Suite("Deadlocks", .timeLimit(.minutes(5)))
struct DeadlockTests {
    /// Holds one lock and then wants another; says what became of it.
    private func nested(
        _ locks: LockService,
        _ clock: ManualClock,
        _ first: Resource,
        _ second: Resource,
        modes: (LockMode, LockMode) = (.exclusive, .exclusive),
        priority: Int = 0
    ) async throws -> LockError? {
        do {
            try await locks.withLock(first, mode: modes.0) { _ in
                try await clock.sleep(for: .milliseconds(20))
                try await locks.withLock(second, mode: modes.1, priority: priority) { _ in
                    try await clock.sleep(for: .milliseconds(20))
                }
            }
            return nil
        } catch let error as LockError {
            return error
        }
    }

    @Test("Of two tasks of one process that wait for each other, one is told and the other goes on")
    func oneProcess() throws {
        try Bench.run { bench in
            let one = bench.start { try await self.nested(bench.locks, bench.clock, "a", "b") }
            try await bench.clock.sleep(for: .milliseconds(1))
            let two = bench.start { try await self.nested(bench.locks, bench.clock, "b", "a") }
            let errors = [try await one.value, try await two.value]
            #expect(errors.compactMap(\.self).map(\.code) == [.deadlock])
            #expect(errors[0] == nil, "the older one goes on")
            let cycle = try #require(errors[1]?.deadlock?.cycle)
            #expect(cycle.map(\.from.resource) == ["a", "b"])
            #expect(bench.events.count("deadlock") == 1)
            #expect(bench.events.count("notAcquired deadlock") == 1)
            #expect(try await bench.isFree("a"))
            #expect(try await bench.isFree("b"))
        }
    }

    @Test("Of two processes that wait for each other, one is told and the other goes on")
    func twoProcesses() throws {
        try Bench.run { bench in
            let neighbour = try bench.neighbour()
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await neighbour.locks.run() }
                let one = bench.start { try await self.nested(bench.locks, bench.clock, "a", "b") }
                try await bench.clock.sleep(for: .milliseconds(1))
                let two = bench.start { try await self.nested(neighbour.locks, bench.clock, "b", "a") }
                let errors = [try await one.value, try await two.value]
                #expect(errors.map { $0?.code } == [nil, .deadlock])
                group.cancelAll()
            }
        }
    }

    /// On several servers nobody reads the ages of all waits at one moment.
    @Test("Where each takes the other for the younger one, one gives up all the same")
    func agesThatDisagree() throws {
        try Bench.run { bench in
            bench.store.script.withLock { script in
                script.rewriteWaits = { owner, statuses in
                    statuses.map { status in
                        var status = status
                        for index in status.waiters.indices where status.waiters[index].owner == owner {
                            status.waiters[index].waitingFor? += .seconds(3600)
                        }
                        return status
                    }
                }
            }
            let one = bench.start { try await self.nested(bench.locks, bench.clock, "a", "b") }
            try await bench.clock.sleep(for: .milliseconds(1))
            let two = bench.start { try await self.nested(bench.locks, bench.clock, "b", "a") }
            let errors = [try await one.value, try await two.value]
            #expect(errors.compactMap(\.self).map(\.code) == [.deadlock])
            #expect(bench.events.count("deadlock") == 1)
        }
    }

    @Test("The one with the lower priority is told, though it is older")
    func priority() throws {
        try Bench.run { bench in
            let one = bench.start { try await self.nested(bench.locks, bench.clock, "a", "b", priority: -1) }
            try await bench.clock.sleep(for: .milliseconds(1))
            let two = bench.start { try await self.nested(bench.locks, bench.clock, "b", "a") }
            let errors = [try await one.value, try await two.value]
            #expect(errors.map { $0?.code } == [.deadlock, nil])
        }
    }

    @Test("A circle of readers and writers is found")
    func readersAndWriters() throws {
        try Bench.run { bench in
            let one = bench.start {
                try await self.nested(bench.locks, bench.clock, "a", "b", modes: (.shared, .exclusive))
            }
            let two = bench.start {
                try await self.nested(bench.locks, bench.clock, "b", "a", modes: (.shared, .exclusive))
            }
            let errors = [try await one.value, try await two.value]
            #expect(errors.compactMap { $0?.code } == [.deadlock])
        }
    }

    @Test("A circle through an upgrade is found")
    func throughUpgrade() throws {
        try Bench.run { bench in
            let one = bench.start { () -> LockError.Code? in
                do {
                    try await bench.locks.withLock("a", mode: .update) { lease in
                        try await bench.locks.withLock("b") { _ in
                            try await bench.clock.sleep(for: .milliseconds(20))
                            try await lease.upgrade()
                        }
                    }
                    return nil
                } catch let error as LockError {
                    return error.code
                }
            }
            let two = bench.start {
                try await self.nested(bench.locks, bench.clock, "a", "b", modes: (.shared, .exclusive))?.code
            }
            let codes = [try await one.value, try await two.value]
            #expect(codes.compactMap(\.self) == [.deadlock])
        }
    }

    @Test("A circle through a semaphore is one only when every holder of a permit waits")
    func throughSemaphore() throws {
        for free in [true, false] {
            try Bench.run { bench in
                let permit = LockMode.permit(of: 2)
                let holder = try await bench.locks.acquire("s", mode: permit)
                if !free { await holder.release() }
                let one = bench.start {
                    try await self.nested(bench.locks, bench.clock, "s", "b", modes: (permit, .exclusive))?.code
                }
                let also =
                    free
                    ? nil
                    : bench.start {
                        try await self.nested(bench.locks, bench.clock, "s", "b", modes: (permit, .exclusive))?.code
                    }
                let two = bench.start {
                    try await self.nested(bench.locks, bench.clock, "b", "s", modes: (.exclusive, permit))?.code
                }
                try await bench.clock.sleep(for: .seconds(10))
                await holder.release()
                let codes = [try await one.value, try await also?.value ?? nil, try await two.value]
                #expect(codes.compactMap(\.self) == (free ? [] : [.deadlock]))
            }
        }
    }

    @Test("A circle through two stores of one process is found")
    func twoStores() throws {
        try Bench.run { bench in
            let other = try Bench(
                simulation: bench.simulation,
                store: ScriptedStore(clock: bench.clock),
                settings: LockServiceConfiguration()
            )
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await other.locks.run() }
                let one = bench.start { () -> LockError.Code? in
                    do {
                        try await bench.locks.withLock("x") { _ in
                            try await bench.clock.sleep(for: .milliseconds(20))
                            try await other.locks.withLock("x") { _ in }
                        }
                        return nil
                    } catch let error as LockError {
                        return error.code
                    }
                }
                let two = bench.start { () -> LockError.Code? in
                    do {
                        try await other.locks.withLock("x") { _ in
                            try await bench.clock.sleep(for: .milliseconds(20))
                            try await bench.locks.withLock("x") { _ in }
                        }
                        return nil
                    } catch let error as LockError {
                        return error.code
                    }
                }
                let codes = [try await one.value, try await two.value]
                #expect(codes.compactMap(\.self) == [.deadlock])
                group.cancelAll()
            }
        }
    }

    @Test("Work that goes on beside a wait of the same owner is no part of a circle")
    func branchesOfOneOwner() throws {
        try Bench.run { bench in
            let other = bench.start {
                try await bench.locks.withLock("y") { _ in
                    try await bench.clock.sleep(for: .milliseconds(50))
                    try await bench.locks.withLock("x") { _ in }
                }
            }
            try await bench.locks.withLock("outer") { _ in
                try await withThrowingTaskGroup(of: Void.self) { group in
                    group.addTask {
                        try await bench.locks.withLock("x") { _ in try await bench.clock.sleep(for: .seconds(20)) }
                    }
                    group.addTask {
                        try await bench.clock.sleep(for: .milliseconds(10))
                        try await bench.locks.withLock("y") { _ in }
                    }
                    try await group.waitForAll()
                }
            }
            try await other.value
            #expect(bench.events.count("deadlock") == 0)
        }
    }

    @Test("A victim that tries again gets through once the other is done")
    func victimTriesAgain() throws {
        try Bench.run { bench in
            let rounds = try await withThrowingTaskGroup(of: Int.self) { group in
                for (first, second) in [("a", "b"), ("b", "c"), ("c", "a")] as [(Resource, Resource)] {
                    group.addTask {
                        var rounds = 1
                        while let error = try await self.nested(bench.locks, bench.clock, first, second) {
                            #expect(error.code == .deadlock)
                            rounds += 1
                        }
                        return rounds
                    }
                }
                return try await group.reduce(0, +)
            }
            #expect(rounds < 10)
        }
    }

    @Test("With reporting only, the observer is told once and nobody gives up")
    func reports() throws {
        try Bench.run { settings in
            settings.deadlocks = .report(after: .milliseconds(200))
        } _: { bench in
            let one = bench.start { try await self.nested(bench.locks, bench.clock, "a", "b") }
            let two = bench.start { try await self.nested(bench.locks, bench.clock, "b", "a") }
            try await bench.clock.sleep(for: .seconds(30))
            #expect(bench.events.count("deadlock") == 1)
            one.cancel()
            await #expect(throws: CancellationError.self) { _ = try await one.value }
            #expect(try await two.value == nil)
        }
    }

    @Test("Waits that are short, and waits of owners that hold nothing, cost no call")
    func costsNothing() throws {
        try Bench.run { bench in
            let holder = try await bench.locks.acquire("a")
            let waiter = bench.start { try await bench.locks.acquire("a") }
            let short = bench.start {
                try await bench.locks.withLock("b") { _ in
                    try await bench.locks.withLock("a", waitingAtMost: .milliseconds(150)) { _ in }
                }
            }
            try await bench.clock.sleep(for: .seconds(5))
            await #expect(throws: LockError.self) { try await short.value }
            await holder.release()
            await (try await waiter.value).release()
            #expect(bench.store.count("waits") == 0)
        }
    }
}
