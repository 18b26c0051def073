// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import HoldfastTesting
import Testing

@Suite("Owners: re-entry, handing on, taking up", .timeLimit(.minutes(5)))
struct OwnershipTests {
    @Test("A nested scoped lock of the same owner re-enters: same token, no call, released once")
    func reenters() throws {
        try Bench.run { bench in
            try await bench.locks.withLock("a") { outer in
                try await bench.locks.withLock("a") { inner in
                    #expect(inner.fencingToken == outer.fencingToken)
                    #expect(inner.owner == outer.owner)
                }
                try await withThrowingTaskGroup(of: Void.self) { group in
                    group.addTask { try await bench.locks.withLock("a", mode: .shared) { _ in } }
                    try await group.waitForAll()
                }
                try outer.checkValid()
                #expect(!(try await bench.isFree("a")))
            }
            #expect(bench.store.count("acquire") == 1)
            #expect(bench.store.count("release") == 1)
            #expect(bench.events.count("acquired reentered") == 2)
        }
    }

    @Test("Nested locks of other resources belong to the same owner")
    func nestedOwner() throws {
        try Bench.run { bench in
            try await bench.locks.withLock("a") { outer in
                try await bench.locks.withLock("b") { inner in #expect(inner.owner == outer.owner) }
            }
            let one = try await bench.locks.acquire("a")
            let two = try await bench.locks.acquire("b")
            #expect(one.owner != two.owner)
            await one.release()
            await two.release()
        }
    }

    @Test("Asking for a stronger mode than the owner holds is an error, not a wait for oneself")
    func selfDeadlock() throws {
        try Bench.run { bench in
            let error = await #expect(throws: LockError.self) {
                try await bench.locks.withLock("a", mode: .shared) { _ in
                    try await bench.locks.withLock("a") { _ in }
                }
            }
            #expect(error?.code == .deadlock)
            let isFree = try await bench.isFree("a")
            #expect(isFree)
        }
    }

    @Test("With re-entry off, asking again is an error")
    func reentryOff() throws {
        try Bench.run {
            $0.isReentrant = false
        } _: { bench in
            let error = await #expect(throws: LockError.self) {
                try await bench.locks.withLock("a") { _ in try await bench.locks.withLock("a") { _ in } }
            }
            #expect(error?.code == .deadlock)
        }
    }

    @Test("A task that outlives its scope does not re-enter what was given back")
    func strayTask() throws {
        try Bench.run { bench in
            let stray = Collector<Task<FencingToken, any Error>>()
            let first = try await bench.locks.withLock("a") { lease in
                stray.append(
                    bench.start {
                        try await bench.sleep(.seconds(1))
                        return try await bench.locks.withLock("a") { $0.fencingToken }
                    }
                )
                return lease.fencingToken
            }
            let task = try #require(stray.values.first)
            #expect(try await task.value > first)
            #expect(bench.store.count("acquire") == 2)
        }
    }

    @Test("A passed lease makes its holder the owner of nested scoped locks")
    func within() throws {
        try Bench.run { bench in
            let lease = try await bench.locks.acquire("a")
            try await lease.within {
                try await bench.locks.withLock("a") { #expect($0.fencingToken == lease.fencingToken) }
            }
            #expect(try await bench.locks.tryAcquire("a") == nil)
            await lease.release()
        }
    }

    @Test("A lock outlives the scope that took it while a re-entered handle holds it")
    func handleOutlives() throws {
        try Bench.run { bench in
            let handles = Collector<Lease>()
            try await bench.locks.withLock("a") { _ in handles.append(try await bench.locks.acquire("a")) }
            #expect(try await bench.locks.tryAcquire("a") == nil)
            try handles.values.first?.checkValid()
            await handles.values.first?.release()
            #expect(try await bench.isFree("a"))
        }
    }

    @Test("A detached grant is taken up again with its token, by another process too")
    func resumes() throws {
        try Bench.run { bench in
            let other = try bench.neighbour()
            try await other.whileRunning {
                let lease = try await bench.locks.acquire("a", lease: .seconds(10))
                let grant = try await lease.detach()
                #expect(try await bench.locks.tryAcquire("a") == nil)
                try await bench.sleep(.seconds(5))
                #expect(bench.store.count("renew") == 0)
                let resumed = try await other.locks.resume(grant)
                #expect(resumed.fencingToken == grant.fencingToken)
                try await bench.sleep(.seconds(60))
                try resumed.checkValid()
                #expect(await resumed.release() == .released)
                let error = await #expect(throws: LockError.self) { try await bench.locks.resume(grant) }
                #expect(error?.code == .lost)
            }
        }
    }

    @Test("A grant that was written down before a change of mode is taken up as what the store says")
    func resumesAfterConversion() throws {
        try Bench.run { bench in
            let other = try bench.neighbour()
            try await other.whileRunning {
                let lease = try await bench.locks.acquire("a", mode: .update, lease: .seconds(10))
                let early = lease.grant
                try await lease.upgrade()
                let token = try await lease.detach().fencingToken
                #expect(token != early.fencingToken)
                let resumed = try await other.locks.resume(early)
                #expect(resumed.mode == .exclusive)
                #expect(resumed.fencingToken == token)
                let exclusive = resumed.grant
                try await resumed.downgrade(to: .shared)
                _ = try await resumed.detach()
                let again = try await bench.locks.resume(exclusive)
                #expect(again.mode == .shared)
                // Readers of this process and of others come in beside it.
                let reader = try #require(try await bench.locks.tryAcquire("a", mode: .shared))
                await reader.release()
                #expect(try await bench.locks.tryAcquire("a") == nil)
                #expect(await again.release() == .released)
            }
        }
    }
}
