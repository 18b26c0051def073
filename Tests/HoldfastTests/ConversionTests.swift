// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import HoldfastTesting
import Testing

@Suite("Upgrades and downgrades", .timeLimit(.minutes(5)))
struct ConversionTests {
    @Test("An upgrade waits for the readers, keeps newcomers out and brings a new token")
    func upgrades() throws {
        try Bench.run { bench in
            let reader = try await bench.locks.acquire("a", mode: .shared)
            let lease = try await bench.locks.acquire("a", mode: .update)
            let before = lease.fencingToken
            let upgrade = bench.start { try await lease.upgrade() }
            try await bench.clock.sleep(for: .milliseconds(50))
            #expect(lease.mode == .update)
            let newcomer = bench.start { try await bench.locks.acquire("a", mode: .shared) }
            try await bench.clock.sleep(for: .milliseconds(50))
            await reader.release()
            try await upgrade.value
            #expect(lease.mode == .exclusive)
            #expect(lease.fencingToken > before)
            #expect(try await bench.store.status(of: "a").holders.map(\.mode) == [.exclusive])
            await lease.release()
            let late = try await newcomer.value
            #expect(late.mode == .shared)
            await late.release()
            #expect(bench.events.count("converted exclusive") == 1)
        }
    }

    @Test("Two upgraders at once: one is told at once, none hangs (redisson 4796)")
    func conflict() throws {
        try Bench.run { bench in
            let reader = try await bench.locks.acquire("a", mode: .shared)
            let lease = try await bench.locks.acquire("a", mode: .update)
            let first = bench.start { try await lease.upgrade() }
            try await bench.clock.sleep(for: .milliseconds(10))
            let before = bench.clock.now
            let second = await #expect(throws: LockError.self) { try await lease.upgrade() }
            #expect(second?.code == .upgradeConflict)
            let third = await #expect(throws: LockError.self) { try await reader.upgrade() }
            #expect(third?.code == .upgradeConflict)
            #expect(bench.clock.now == before)
            await reader.release()
            try await first.value
            await lease.release()
        }
    }

    @Test("A cancelled upgrade leaves the update lock, and readers come in again")
    func cancelled() throws {
        try Bench.run { bench in
            let reader = try await bench.locks.acquire("a", mode: .shared)
            let lease = try await bench.locks.acquire("a", mode: .update)
            let token = lease.fencingToken
            let upgrade = bench.start { try await lease.upgrade() }
            try await bench.clock.sleep(for: .milliseconds(50))
            upgrade.cancel()
            await #expect(throws: CancellationError.self) { try await upgrade.value }
            #expect(lease.mode == .update)
            #expect(lease.fencingToken == token)
            let other = try await bench.locks.acquire("a", mode: .shared, waitingAtMost: .zero)
            for lease in [reader, lease, other] { #expect(await lease.release() == .released) }
        }
    }

    @Test("An upgrade that is not done within its limit times out and holds on to the update lock")
    func timeout() throws {
        try Bench.run { bench in
            let reader = try await bench.locks.acquire("a", mode: .shared)
            let lease = try await bench.locks.acquire("a", mode: .update)
            let error = await #expect(throws: LockError.self) {
                try await lease.upgrade(waitingAtMost: .seconds(1))
            }
            #expect(error?.code == .timeout)
            #expect(error?.blockers.count == 1)
            #expect(lease.mode == .update)
            try lease.checkValid()
            await reader.release()
            try await lease.upgrade(waitingAtMost: .zero)
            #expect(lease.mode == .exclusive)
            await lease.release()
        }
    }

    @Test("A downgrade keeps the token, lets waiting readers in and keeps writers out")
    func downgrades() throws {
        try Bench.run { bench in
            let lease = try await bench.locks.acquire("a")
            let token = lease.fencingToken
            let near = bench.start { try await bench.locks.acquire("a", mode: .shared) }
            let neighbour = try bench.neighbour()
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await neighbour.locks.run() }
                let far = bench.start { try await neighbour.locks.acquire("a", mode: .shared) }
                try await bench.clock.sleep(for: .milliseconds(10))
                let writer = bench.start { try await neighbour.locks.acquire("a") }
                try await bench.clock.sleep(for: .milliseconds(10))
                try await lease.downgrade()
                #expect(lease.mode == .shared)
                #expect(lease.fencingToken == token)
                let readers = [try await near.value, try await far.value]
                for reader in readers { await reader.release() }
                #expect(try await bench.store.status(of: "a").holders.map(\.mode) == [.shared])
                await lease.release()
                await (try await writer.value).release()
                group.cancelAll()
            }
        }
    }

    @Test("What is weaker than asked for cannot be downgraded, and a lost lock not converted")
    func refusals() throws {
        try Bench.run { bench in
            let lease = try await bench.locks.acquire("a", mode: .shared)
            let error = await #expect(throws: LockError.self) { try await lease.downgrade(to: .update) }
            #expect(error?.code == .invalidArgument)
            await lease.release()
            let lost = await #expect(throws: LockError.self) { try await lease.downgrade() }
            #expect(lost?.code == .lost)
        }
    }

    @Test("A loss while an upgrade waits is told as a loss")
    func lostWhileWaiting() throws {
        try Bench.run { bench in
            let reader = try await bench.locks.acquire("a", mode: .shared)
            let lease = try await bench.locks.acquire("a", mode: .update)
            let upgrade = bench.start { try await lease.upgrade() }
            try await bench.clock.sleep(for: .milliseconds(50))
            _ = try await bench.store.forceRelease("a")
            let error = await #expect(throws: LockError.self) { try await upgrade.value }
            #expect(error?.code == .lost)
            await reader.release()
            await lease.release()
        }
    }
}
