// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import HoldfastTesting
import Synchronization
import Testing

/// What went wrong in other lock libraries, one test each; the stores' own cases are in their suites.
@Suite("Bugs of others that must not be ours", .timeLimit(.minutes(5)))
struct PainPointTests {
    private struct Lost: Error {}

    @Test("1: a lost reply to an acquire is sent again and gives one hold that one release frees (redisson#7367)")
    func resentAcquire() throws {
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
            let lease = try await bench.locks.acquire("a")
            #expect(bench.store.count("acquire") == 3)
            #expect(try await bench.locks.holders(of: "a").count == 1)
            #expect(await lease.release() == .released)
            #expect(try await bench.isFree("a"))
        }
    }

    @Test("2: after ten thousand cycles with slow answers nothing is renewed any more (redisson#7272)")
    func noImmortalRenewal() throws {
        try Bench.run { bench in
            let dice = Dice(bench.simulation.makeGenerator())
            bench.store.script.withLock { script in
                script.beforeRenew = { _ in try? await bench.sleep(dice.upTo(.milliseconds(60))) }
                script.beforeRelease = { _ in try? await bench.sleep(dice.upTo(.milliseconds(60))) }
            }
            try await withThrowingTaskGroup(of: Void.self) { group in
                for worker in 0..<100 {
                    group.addTask {
                        let resource = try Resource("r/\(worker % 50)")
                        for _ in 0..<100 {
                            let lease = try await bench.locks.acquire(resource, lease: .milliseconds(300))
                            try await bench.sleep(dice.upTo(.milliseconds(120)))
                            await lease.release()
                        }
                    }
                }
                try await group.waitForAll()
            }
            try await bench.sleep(.seconds(1))
            let renewals = bench.store.count("renew")
            try await bench.sleep(.seconds(5))
            #expect(bench.store.count("renew") == renewals)
            #expect(try await bench.store.survey(.all, after: nil).resources.isEmpty)
        }
    }

    @Test("3: an interrupted acquire does not keep the lock it was given (redisson#2714)")
    func interruptedAcquire() throws {
        try Bench.run { bench in
            bench.store.script.withLock { $0.afterAcquire = { _ in try? await bench.sleep(.seconds(1)) } }
            let task = bench.start { try await bench.locks.acquire("a").release() }
            try await bench.sleep(.milliseconds(500))
            task.cancel()
            await #expect(throws: CancellationError.self) { try await task.value }
            #expect(try await bench.isFree("a"))
        }
    }

    @Test("4: after a failed renewal the same name is locked and renewed again (redisson#3194)")
    func renewedAfterFailure() throws {
        try Bench.run { bench in
            bench.store.script.withLock { $0.beforeRenew = { _ in throw Lost() } }
            let first = try await bench.locks.acquire("a", lease: .seconds(3))
            try await bench.sleep(.seconds(10))
            #expect(throws: LockError.self) { try first.checkValid() }
            await first.release()
            bench.store.script.withLock { $0.beforeRenew = nil }
            let before = bench.store.count("renew")
            let second = try await bench.locks.acquire("a", lease: .seconds(3))
            try await bench.sleep(.seconds(10))
            try second.checkValid()
            #expect(bench.store.count("renew") - before >= 3)
            await second.release()
        }
    }

    @Test("5: a holder cut off is told before its deadline, and its work is cancelled (redisson#4698, etcd#6127)")
    func toldOfLoss() throws {
        try Bench.run { bench in
            bench.store.script.withLock { $0.beforeRenew = { _ in try await bench.sleep(.seconds(3600)) } }
            let told = Collector<Bool>()
            await #expect(throws: LockError.self) {
                try await bench.locks.withLock("a", lease: .seconds(10)) { lease in
                    let deadline = lease.validUntil
                    for await event in lease.events {
                        if case .lost = event { told.append(bench.clock.now < deadline) }
                        if Task.isCancelled { break }
                    }
                    #expect(Task.isCancelled)
                }
            }
            #expect(told.values == [true])
        }
    }

    @Test("6: a release message that is missed costs a look, not the whole lease (redisson#5761)")
    func missedRelease() throws {
        try Bench.run { bench in
            let other = try bench.neighbour()
            try await other.whileRunning {
                bench.store.script.withLock { $0.losesSignals = true }
                let held = try await bench.locks.acquire("a", lease: .seconds(60))
                async let waiting = other.locks.acquire("a", waitingAtMost: .seconds(60))
                try await bench.sleep(.seconds(1))
                await held.release()
                let released = bench.clock.now
                let lease = try await waiting
                // The first in line looks once in each acceptance time.
                #expect(released.duration(to: bench.clock.now) < LockServiceConfiguration().acceptance * 1.1)
                await lease.release()
            }
        }
    }

    @Test(
        "7: a row of dead waiters costs the queue at most two acceptance times each (redisson#1104)"
    )
    func deadWaiters() throws {
        try Bench.run { bench in
            let held = try await bench.locks.acquire("a")
            for serial in 1...3 as ClosedRange<UInt64> {
                let ghost = LockRequest(
                    id: RequestID(high: serial, low: 0),
                    resource: "a",
                    owner: OwnerID(process: bench.locks.identity, serial: serial + 1000),
                    lease: .seconds(3600),
                    waitLimit: .seconds(3600)
                )
                _ = try await bench.store.acquire(ghost)
            }
            let other = try bench.neighbour()
            try await other.whileRunning {
                async let waiting = other.locks.acquire("a")
                try await bench.sleep(.milliseconds(100))
                await held.release()
                let released = bench.clock.now
                let lease = try await waiting
                #expect(released.duration(to: bench.clock.now) < .seconds(8))
                await lease.release()
            }
        }
    }

    @Test("13: a lock won after waiting longer than its lease has its whole validity left (node-redlock#296)")
    func validityAfterWait() throws {
        try Bench.run { bench in
            let other = try bench.neighbour()
            try await other.whileRunning {
                let held = try await bench.locks.acquire("a")
                async let waiting = other.locks.acquire("a", lease: .seconds(2))
                try await bench.sleep(.seconds(20))
                await held.release()
                let lease = try await waiting
                let left = bench.clock.now.duration(to: lease.validUntil)
                #expect(left > .milliseconds(1900) && left <= .seconds(2))
                await lease.release()
            }
        }
    }

    @Test("13: a grant whose answer took longer than the lease is given back, not handed out (etcd#11456)")
    func staleGrant() throws {
        try Bench.run { bench in
            let slow = Mutex(true)
            bench.store.script.withLock { script in
                script.afterAcquire = { _ in
                    let isSlow = slow.withLock { value in
                        defer { value = false }
                        return value
                    }
                    if isSlow { try? await bench.sleep(.seconds(5)) }
                }
            }
            let lease = try await bench.locks.acquire("a", lease: .seconds(2))
            #expect(bench.clock.now.duration(to: lease.validUntil) > .seconds(1))
            #expect(bench.store.count("withdraw") == 1)
            await lease.release()
            #expect(try await bench.isFree("a"))
        }
    }

    @Test("14: releasing a lost lock takes one round trip at most and says so (node-redlock#309)")
    func releaseOfLost() throws {
        try Bench.run { bench in
            bench.store.script.withLock { $0.beforeRenew = { _ in throw Lost() } }
            let lease = try await bench.locks.acquire("a", lease: .seconds(3))
            try await bench.sleep(.seconds(10))
            let next = try await bench.locks.acquire("b")
            #expect(await lease.release() == .alreadyLost)
            #expect(bench.store.count("release") == 1)
            bench.store.script.withLock { $0.beforeRelease = { _ in throw Lost() } }
            let other = try await bench.locks.acquire("c", lease: .seconds(3))
            try await bench.sleep(.seconds(10))
            let asked = bench.store.count("release")
            #expect(await other.release() == .unknown)
            try await bench.sleep(.seconds(10))
            #expect(bench.store.count("release") == asked + 1)
            await next.release()
        }
    }

    @Test(
        "15: renewing an expired lock that somebody held meanwhile is a loss, and makes nothing anew (RedLock.net#48)"
    )
    func renewAfterOther() throws {
        try Bench.run { bench in
            let other = try bench.neighbour()
            try await other.whileRunning {
                let grant = try await bench.locks.acquire("a", lease: .seconds(2)).detach()
                try await bench.sleep(.seconds(3))
                let second = try await other.locks.acquire("a")
                await second.release()
                await #expect(throws: LockError.self) { try await bench.locks.resume(grant) }
                #expect(try await bench.isFree("a"))
            }
        }
    }

    @Test("17: a cancelled caller still releases at once, and a failed release is tried again (redis-py#3847)")
    func releaseWhileCancelled() throws {
        try Bench.run { bench in
            let task = bench.start {
                try await bench.locks.withLock("a") { _ in
                    withUnsafeCurrentTask { unsafe $0?.cancel() }
                    try await bench.sleep(.seconds(3600))
                }
            }
            _ = await task.result
            let isFree = try await bench.isFree("a")
            #expect(isFree)
            #expect(bench.clock.elapsed < .seconds(1))
        }
    }

    @Test("18: a stale task cannot free the lock of the one after it (aredis#119)")
    func staleTask() throws {
        try Bench.run { bench in
            let old = try await bench.locks.acquire("a")
            _ = try await bench.locks.forceRelease("a")
            let other = try bench.neighbour()
            try await other.whileRunning {
                let new = try await other.locks.acquire("a")
                #expect(await old.release() == .alreadyLost)
                #expect(try await bench.store.release(old.grant.key) == .alreadyLost)
                try new.checkValid()
                #expect(try await bench.locks.holders(of: "a").first?.fencingToken == new.fencingToken)
                #expect(await new.release() == .released)
            }
        }
    }

    @Test("20: a hundred tasks of one client are one holder at a time (etcd#11364)")
    func oneClient() throws {
        try Bench.run { bench in
            let room = Occupancy()
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<100 {
                    group.addTask {
                        try await bench.locks.withLock("a") { _ in
                            room.enter()
                            await Task.yield()
                            room.leave()
                        }
                    }
                }
                try await group.waitForAll()
            }
            #expect(room.most == 1 && room.visits == 100)
        }
    }
}
