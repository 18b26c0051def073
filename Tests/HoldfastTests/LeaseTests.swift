// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import HoldfastTesting
import Synchronization
import Testing

@Suite("Leases: renewal, doubt and loss", .timeLimit(.minutes(5)))
struct LeaseTests {
    private struct Outage: Error {}

    @Test("A held lease is renewed at about a third of itself, for as long as it is held")
    func renews() throws {
        try Bench.run { bench in
            let lease = try await bench.locks.acquire("a", lease: .seconds(3))
            try await bench.sleep(.seconds(60))
            try lease.checkValid()
            #expect((58...72).contains(bench.store.count("renew")))
            await lease.release()
            let renewals = bench.store.count("renew")
            try await bench.sleep(.seconds(60))
            #expect(bench.store.count("renew") == renewals)
        }
    }

    @Test("A loss that is told before the answer that granted the lock ends the lease at once")
    func earlyLoss() throws {
        try Bench.run { bench in
            let store = bench.store
            store.script.withLock { $0.afterAcquire = { store.tell(.lost($0.id, .forced)) } }
            let lease = try await bench.locks.acquire("a", lease: .seconds(30))
            #expect(throws: LockError.self) { try lease.checkValid() }
            #expect(await lease.release() == .alreadyLost)
            let cancelled = Collector<Bool>()
            await #expect(throws: LockError.self) {
                try await bench.locks.withLock("b", lease: .seconds(30)) { _ in
                    try? await bench.sleep(.seconds(60))
                    cancelled.append(Task.isCancelled)
                }
            }
            #expect(cancelled.values == [true])
        }
    }

    @Test("Ten thousand leases are renewed in a few round trips")
    func batches() throws {
        try Bench.run { bench in
            var leases: [Lease] = []
            for index in 0..<10_000 { leases.append(try await bench.locks.acquire(Resource("r/\(index)"))) }
            try await bench.sleep(.seconds(11))
            #expect(bench.store.count("renew") == 10)
            try await bench.sleep(.seconds(100))
            for lease in leases { try lease.checkValid() }
            #expect(bench.store.count("renew") <= 130)
            for lease in leases { await lease.release() }
            #expect(try await bench.store.survey(.all, after: nil).resources.isEmpty)
        }
    }

    @Test("A failed renewal is doubt, not loss: it is tried again and the lease goes on")
    func unknownIsNotLost() throws {
        try Bench.run { bench in
            let lease = try await bench.locks.acquire("a", lease: .seconds(30))
            let seen = Collector<LeaseEvent>()
            async let watching: Void = { for await event in lease.events { seen.append(event) } }()
            bench.store.script.withLock { $0.beforeRenew = { _ in throw Outage() } }
            try await bench.sleep(.seconds(20))
            try lease.checkValid()
            #expect(bench.store.count("renew") >= 3)
            bench.store.script.withLock { $0.beforeRenew = nil }
            try await bench.sleep(.seconds(30))
            try lease.checkValid()
            await lease.release()
            await watching
            #expect(seen.values.contains { if case .jeopardy = $0 { true } else { false } })
            #expect(!seen.values.contains { if case .lost = $0 { true } else { false } })
            #expect(seen.values.first == .acquired)
            #expect(seen.values.last == .released(.released))
        }
    }

    @Test("Work is cancelled at the margin, before the lease can pass to another, and then awaited")
    func cancelsBeforeDeadline() throws {
        try Bench.run { bench in
            let other = try bench.neighbour()
            try await other.whileRunning {
                bench.store.script.withLock { $0.beforeRenew = { _ in throw Outage() } }
                let stopped = Collector<ContinuousClock.Instant>()
                let taken = Collector<ContinuousClock.Instant>()
                async let next: Void = {
                    try await bench.sleep(.seconds(1))
                    let lease = try await other.locks.acquire("a")
                    taken.append(bench.clock.now)
                    await lease.release()
                }()
                let error = await #expect(throws: LockError.self) {
                    try await bench.locks.withLock("a", lease: .seconds(10)) { lease in
                        let deadline = lease.validUntil
                        do {
                            try await bench.sleep(.seconds(3600))
                        } catch {
                            stopped.append(bench.clock.now)
                            #expect(bench.clock.now < deadline)
                            throw error
                        }
                    }
                }
                #expect(error?.code == .lost)
                try await next
                let stop = try #require(stopped.values.first)
                let take = try #require(taken.values.first)
                #expect(stop <= take)
                #expect(bench.events.count("lost deadline") == 1)
            }
        }
    }

    @Test("The work's own error wins over the loss and over errors of giving back")
    func bodyErrorWins() throws {
        struct Mine: Error {}
        try Bench.run { bench in
            await #expect(throws: Mine.self) {
                try await bench.locks.withLock("a") { lease in
                    _ = try await bench.locks.forceRelease("a")
                    #expect(throws: LockError.self) { try lease.checkValid() }
                    throw Mine()
                }
            }
            bench.store.script.withLock { $0.beforeRelease = { _ in throw Outage() } }
            await #expect(throws: Mine.self) { try await bench.locks.withLock("b") { _ in throw Mine() } }
            let value = try await bench.locks.withLock("c") { _ in 7 }
            #expect(value == 7)
            #expect(bench.events.count("cleanUpFailed") == 2)
        }
    }

    @Test("Work that returns after its lock was lost is told so")
    func returnsAfterLoss() throws {
        try Bench.run { bench in
            let error = await #expect(throws: LockError.self) {
                try await bench.locks.withLock("a") { _ in
                    _ = try await bench.locks.forceRelease("a")
                    return 1
                }
            }
            #expect(error?.code == .lost)
        }
    }

    @Test("The caller's cancellation is CancellationError, and the lock is free at once")
    func callerCancels() throws {
        try Bench.run { bench in
            let task = bench.start {
                try await bench.locks.withLock("a") { _ in try await bench.sleep(.seconds(3600)) }
            }
            try await bench.sleep(.seconds(1))
            let asked = bench.clock.now
            task.cancel()
            await #expect(throws: CancellationError.self) { try await task.value }
            #expect(try await bench.isFree("a"))
            #expect(bench.clock.now == asked)
        }
    }

    @Test("An answer to a renewal that comes after the deadline does not bring the lease back")
    func lateRenewal() throws {
        try Bench.run { bench in
            let lease = try await bench.locks.acquire("a", lease: .seconds(10))
            bench.store.script.withLock { script in
                script.afterRenew = { _ in try await bench.sleep(.seconds(20)) }
            }
            try await bench.sleep(.seconds(40))
            #expect(throws: LockError.self) { try lease.checkValid() }
            #expect(bench.events.count("lost deadline") == 1)
            #expect(await lease.release() == .alreadyLost)
            try await bench.sleep(.seconds(40))
            #expect(try await bench.isFree("a"))
        }
    }

    @Test("A revocation reaches the holder, who decides; force takes the lock and says so")
    func revoke() throws {
        try Bench.run { bench in
            let lease = try await bench.locks.acquire("a")
            var events = lease.events.makeAsyncIterator()
            #expect(await events.next() == .acquired)
            let reply = try await bench.locks.revoke("a")
            #expect(reply.asked.count == 1 && reply.reached == 1)
            #expect(await events.next() == .revokeRequested)
            try lease.checkValid()
            #expect(try await bench.locks.forceRelease("a").count == 1)
            #expect(await events.next() == .lost(.forced))
            let releases = bench.store.count("release")
            #expect(await lease.release() == .alreadyLost)
            #expect(bench.store.count("release") == releases)
            #expect(await events.next() == .released(.alreadyLost))
            #expect(await events.next() == nil)
        }
    }

    @Test("A revocation whose signal was lost is learned at the next renewal")
    func revokeWithoutSignal() throws {
        try Bench.run { bench in
            let lease = try await bench.locks.acquire("a", lease: .seconds(3))
            bench.store.script.withLock { $0.losesSignals = true }
            _ = try await bench.locks.revoke("a")
            #expect(bench.events.count("revokeRequested") == 0)
            var events = lease.events.makeAsyncIterator()
            var asked = false
            while !asked, let event = await events.next() { asked = event == .revokeRequested }
            #expect(asked)
            await lease.release()
        }
    }

    @Test("A handle that goes away without a release stops renewing and is reported once")
    func abandoned() throws {
        try Bench.run { bench in
            do { _ = try await bench.locks.acquire("a", lease: .seconds(3)) }
            #expect(bench.events.count("abandoned") == 1)
            let next = try await bench.locks.acquire("a", waitingAtMost: .seconds(4))
            await next.release()
            #expect(bench.events.count("abandoned") == 1)
            #expect(bench.store.count("renew") == 0)
        }
    }

    @Test("A release that fails is tried again until it succeeds")
    func releaseRetried() throws {
        try Bench.run { bench in
            let lease = try await bench.locks.acquire("a", lease: .seconds(30))
            bench.store.script.withLock { $0.beforeRelease = { _ in throw Outage() } }
            #expect(await lease.release() == .unknown)
            try await bench.sleep(.seconds(1))
            #expect(try await bench.isFree("a"))
        }
    }

    @Test("Renewing by hand moves the deadline, and says when the lock is gone")
    func renewByHand() throws {
        try Bench.run { bench in
            let lease = try await bench.locks.acquire("a")
            let before = lease.validUntil
            try await bench.sleep(.seconds(1))
            try await lease.renew()
            #expect(before.duration(to: lease.validUntil) == .seconds(1))
            bench.store.script.withLock { $0.losesSignals = true }
            _ = try await bench.locks.forceRelease("a")
            let error = await #expect(throws: LockError.self) { try await lease.renew() }
            #expect(error?.code == .lost)
            await lease.release()
        }
    }

    @Test("After a holder vanished the resource rests for its lock delay; after a release it does not")
    func lockDelay() throws {
        try Bench.run { bench in
            do { _ = try await bench.locks.acquire("a", lease: .seconds(2), lockDelay: .seconds(10)) }
            let started = bench.clock.now
            let next = try await bench.locks.acquire("a", lockDelay: .seconds(10))
            let waited = started.duration(to: bench.clock.now)
            #expect(waited >= .seconds(12) && waited < .seconds(13))
            await next.release()
            #expect(try await bench.isFree("a"))
        }
    }
}
