// SPDX-License-Identifier: Apache-2.0

import Foundation
import Holdfast
import HoldfastCore
import HoldfastTesting
import Synchronization
import Testing

@Suite("Interleavings that once went wrong", .timeLimit(.minutes(5)))
struct RegressionTests {
    private struct Outage: Error {}

    @Test("When run() ends while a renewal hangs, work stops at once and not when the renewal ends")
    func stopDuringRenewal() throws {
        try Bench.idle { bench in
            bench.store.script.withLock { $0.beforeRenew = { _ in try? await bench.sleep(.seconds(4)) } }
            let run = bench.start { try await bench.locks.run() }
            let stopped = Collector<Duration>()
            let work = bench.start {
                try await bench.locks.withLock("a", lease: .seconds(1)) { _ in
                    try? await bench.sleep(.seconds(100))
                    stopped.append(bench.clock.elapsed)
                }
            }
            try await bench.sleep(.milliseconds(500))
            run.cancel()
            await #expect(throws: LockError.self) { try await work.value }
            #expect(stopped.values == [.milliseconds(500)])
            try await run.value
        }
    }

    @Test("A request that is told to wait after the service stopped ends, and does not wait")
    func waitAfterStop() throws {
        try Bench.idle { bench in
            let other = try bench.neighbour()
            try await other.whileRunning {
                let held = try await other.locks.acquire("a")
                bench.store.script.withLock { $0.afterAcquire = { _ in try? await bench.sleep(.seconds(1)) } }
                let run = bench.start { try await bench.locks.run() }
                let waiting = bench.start { try await bench.locks.acquire("a").release() }
                try await bench.sleep(.milliseconds(500))
                run.cancel()
                let asked = bench.clock.now
                let error = await #expect(throws: LockError.self) { try await waiting.value }
                #expect(error?.code == .notRunning)
                #expect(asked.duration(to: bench.clock.now) < .seconds(2))
                try await run.value
                await held.release()
                #expect(try await bench.store.status(of: "a").isFree)
            }
        }
    }

    @Test("A local waiter keeps its limit when the store's signals are interrupted")
    func interruptedGate() throws {
        try Bench.run { bench in
            let held = try await bench.locks.acquire("a")
            let waiting = bench.start { try await bench.locks.acquire("a", waitingAtMost: .milliseconds(500)) }
            try await bench.sleep(.milliseconds(100))
            bench.store.interrupt()
            let error = await #expect(throws: LockError.self) { _ = try await waiting.value }
            #expect(error?.code == .timeout)
            #expect(bench.clock.elapsed < .milliseconds(510))
            await held.release()
        }
    }

    @Test("No duration stops the program: endless waits, damaged grants, wild settings")
    func hugeDurations() throws {
        try Bench.run { bench in
            let held = try await bench.locks.acquire("a")
            let endless = Duration.seconds(Int64.max)
            let waiting = (0..<2).map { _ in
                bench.start { await (try bench.locks.acquire("a", waitingAtMost: endless)).release() }
            }
            try await bench.sleep(.seconds(1))
            await held.release()
            for task in waiting { #expect(try await task.value == .released) }

            let lease = try await bench.locks.acquire("b")
            let text = String(decoding: try JSONEncoder().encode(lease.grant), as: UTF8.self)
            await lease.release()
            for wild in ["[9223372036854775807,0]", "[-9223372036854775808,0]", "[0,0]"] {
                let damaged = text.replacing(/"lease":\[[^\]]*\]/, with: "\"lease\":\(wild)")
                let grant = try JSONDecoder().decode(Grant.self, from: Data(damaged.utf8))
                let error = await #expect(throws: LockError.self) { try await bench.locks.resume(grant) }
                #expect(error?.code == .invalidArgument)
            }
        }
        var configuration = LockServiceConfiguration()
        configuration.acceptance = .seconds(Int64.max)
        #expect(throws: LockError.self) { try LockService(store: MemoryStore(), configuration: configuration) }
        configuration = LockServiceConfiguration()
        configuration.startupLimit = .seconds(Int64.max)
        #expect(throws: LockError.self) { try LockService(store: MemoryStore(), configuration: configuration) }
        configuration = LockServiceConfiguration()
        configuration.timeline = .init(marginFraction: 0.5, renewalFraction: 0.499)
        #expect(throws: LockError.self) { try LockService(store: MemoryStore(), configuration: configuration) }
    }

    @Test("A grant whose reply was lost is given back even if the next try is refused for a limit")
    func limitAfterLostReply() throws {
        try Bench.run { bench in
            let tries = Mutex(0)
            bench.store.script.withLock { script in
                script.beforeAcquire = { _ in
                    if tries.withLock({ $0 }) == 1 { throw LockError(.limitReached, "too many commands") }
                }
                script.afterAcquire = { _ in
                    tries.withLock { $0 += 1 }
                    throw LockError(.storeUnavailable, "the reply was lost")
                }
            }
            let error = await #expect(throws: LockError.self) { try await bench.locks.acquire("a") }
            #expect(error?.code == .limitReached)
            let isFree = try await bench.isFree("a")
            #expect(isFree)
        }
    }

    @Test("A grant that this process holds cannot be taken up a second time")
    func resumedTwice() throws {
        try Bench.run { bench in
            let lease = try await bench.locks.acquire("a", mode: .shared)
            let error = await #expect(throws: LockError.self) { try await bench.locks.resume(lease.grant) }
            #expect(error?.code == .invalidArgument)
            try await bench.sleep(.seconds(100))
            try lease.checkValid()
            #expect(await lease.release() == .released)
        }
    }

    @Test("A detached grant is taken up past those of the same process who wait for it")
    func resumeWhileOthersWait() throws {
        try Bench.run { bench in
            let lease = try await bench.locks.acquire("a")
            let waiting = bench.start { try await bench.locks.acquire("a").release() }
            try await bench.sleep(.milliseconds(10))
            let grant = try await lease.detach()
            try await bench.sleep(.milliseconds(10))
            let resumed = try await bench.locks.resume(grant)
            #expect(await resumed.release() == .released)
            #expect(try await waiting.value == .released)
        }
    }

    @Test("An inner handle cannot be detached from under the scope that will release it")
    func detachInner() throws {
        try Bench.run { bench in
            try await bench.locks.withLock("a") { outer in
                let inner = try await bench.locks.acquire("a")
                let error = await #expect(throws: LockError.self) { try await inner.detach() }
                #expect(error?.code == .invalidArgument)
                #expect(await inner.release() == .released)
                try outer.checkValid()
            }
            let lease = try await bench.locks.acquire("a")
            await lease.release()
            let error = await #expect(throws: LockError.self) { try await lease.detach() }
            #expect(error?.code == .lost)
        }
    }

    @Test("Events end with a detachment")
    func eventsAfterDetach() throws {
        try Bench.run { bench in
            let lease = try await bench.locks.acquire("a")
            let events = lease.events
            _ = try await lease.detach()
            var seen: [LeaseEvent] = []
            for await event in events { seen.append(event) }
            #expect(seen == [.acquired])
        }
    }

    @Test("Work that returns after its deadline is told of the loss, even if nobody has looked at the time yet")
    func frozenWork() throws {
        try Bench.run { bench in
            let error = await #expect(throws: LockError.self) {
                try await bench.locks.withLock("a", lease: .seconds(10)) { _ in
                    // As after a machine's sleep: time has passed, and no other task has run.
                    bench.clock.advance(by: .seconds(20))
                    return 1
                }
            }
            #expect(error?.code == .lost)
        }
    }

    @Test("A renewal by hand whose answer comes after the margin is a loss")
    func lateRenewalByHand() throws {
        try Bench.run { bench in
            let lease = try await bench.locks.acquire("a", lease: .seconds(1))
            bench.store.script.withLock { $0.afterRenew = { _ in try? await bench.sleep(.seconds(2)) } }
            let error = await #expect(throws: LockError.self) { try await lease.renew() }
            #expect(error?.code == .lost)
            await lease.release()
        }
    }

    @Test("A name that was cut is not the name of any other text that was not")
    func cutNames() throws {
        for index in 0..<2000 {
            let long = String(repeating: "x", count: 600) + "\(index)"
            let cut = Resource(escaping: long)
            #expect(cut.name.utf8.count <= Resource.maximumLength)
            #expect(cut.name.contains("%~"))
        }
        #expect(!Resource(escaping: "a%~b").name.contains("%~"))
    }
}
