// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import HoldfastTesting
import Synchronization
import Testing

@Suite("Barriers", .timeLimit(.minutes(5)))
struct BarrierTests {
    /// In which round each of three parties is.
    private final class Rounds: Sendable {
        private let rounds = Mutex([0, 0, 0])

        var all: Set<Int> { self.rounds.withLock { Set($0) } }

        func set(_ round: Int, of party: Int) { self.rounds.withLock { $0[party] = round } }
    }

    @Test("Nobody goes on before all have come, and nobody leaves before all are done, round after round")
    func rounds() throws {
        try Bench.run { bench in
            let other = try bench.neighbour()
            let dice = Dice(bench.simulation.makeGenerator())
            let entered = Rounds()
            let done = Rounds()
            try await other.whileRunning {
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for party in 0..<3 {
                        let barrier = try Barrier("b", parties: 3, on: party == 0 ? bench.locks : other.locks)
                        group.addTask {
                            for round in 1...20 {
                                try await bench.sleep(dice.upTo(.milliseconds(700)))
                                entered.set(round, of: party)
                                try await barrier.withBarrier { pass in
                                    #expect(entered.all == [round])
                                    try await bench.sleep(dice.upTo(.milliseconds(700)))
                                    try pass.checkValid()
                                    done.set(round, of: party)
                                }
                                #expect(done.all == [round])
                            }
                        }
                    }
                    try await group.waitForAll()
                }
            }
            let isFree = try await bench.isAllFree()
            #expect(isFree)
        }
    }

    @Test("All go on within a quarter of a second after the last has come")
    func promptness() throws {
        try Bench.run { bench in
            let barrier = try Barrier("b", parties: 2, on: bench.locks)
            let first = bench.start {
                let pass = try await barrier.enter()
                return (pass, bench.clock.now)
            }
            try await bench.sleep(.seconds(30))
            #expect(try await barrier.waiting() == 1)
            let started = bench.clock.now
            let second = try await barrier.enter()
            let (pass, at) = try await first.value
            #expect(pass.round == second.round)
            #expect(started.duration(to: at) <= .milliseconds(260))
            #expect(try await barrier.waiting() == 0)
            await pass.abandon()
            try await second.leave()
            #expect(try await bench.isAllFree())
        }
    }

    @Test("Whoever comes a second time, or as one too many, waits for the next round")
    func nextRound() throws {
        try Bench.run { bench in
            let barrier = try Barrier("b", parties: 2, on: bench.locks)
            let passes = bench.start { [try await barrier.enter()] }
            let own = try await barrier.enter()
            let others = try await passes.value
            let early = bench.start { try await barrier.enter() }
            try await bench.sleep(.seconds(3))
            #expect(try await barrier.waiting() == 1)
            await others[0].abandon()
            try await own.leave(waitingAtMost: .seconds(1))
            let next = try await barrier.enter(waitingAtMost: .seconds(1))
            let last = try await early.value
            #expect(next.round == last.round)
            #expect(next.round != own.round)
            await last.abandon()
            try await next.leave()
            #expect(try await bench.isAllFree())
        }
    }

    @Test("A cancelled party, or one that is out of patience, leaves nothing behind", arguments: 0...40)
    func cancelled(step: Int) throws {
        try Bench.run { bench in
            bench.store.script.withLock { $0.beforeAcquire = { _ in try? await bench.sleep(.milliseconds(7)) } }
            let barrier = try Barrier("b", parties: 2, on: bench.locks)
            let party = bench.start { try await barrier.withBarrier { _ in try await bench.sleep(.milliseconds(20)) } }
            let other = bench.start { try await barrier.withBarrier(waitingAtMost: .seconds(2)) { _ in } }
            try await bench.sleep(.milliseconds(3 * step))
            party.cancel()
            _ = await party.result
            _ = await other.result
            #expect(try await bench.isAllFree())
            #expect(await lockErrorCode { _ = try await barrier.enter(waitingAtMost: .seconds(1)) } == .timeout)
            #expect(try await bench.isAllFree())
        }
    }

    @Test("A party that dies has left when its lease ends, and one in its place completes the round")
    func deadParty() throws {
        try Bench.run { bench in
            let other = try bench.distantNeighbour()
            try await other.whileRunning {
                let barrier = try Barrier("b", parties: 3, on: bench.locks, lease: .seconds(4))
                let doomed = bench.start {
                    try await Barrier("b", parties: 3, on: other.locks, lease: .seconds(4)).enter().leave()
                }
                let living = bench.start { try await barrier.enter() }
                try await bench.sleep(.seconds(10))
                #expect(try await barrier.waiting() == 2)
                other.store.cutOff()
                try await bench.sleep(.seconds(5))
                #expect(try await barrier.waiting() == 1)
                let heir = bench.start { try await barrier.enter() }
                try await bench.sleep(.seconds(1))
                let third = try await barrier.enter(waitingAtMost: .seconds(1))
                let passes = [third, try await living.value, try await heir.value]
                #expect(Set(passes.map(\.round)).count == 1)
                for pass in passes { await pass.abandon() }
                _ = await doomed.result
            }
        }
    }

    @Test("Who came to a new round while the one before was full moves to it when a place there is free")
    func moves() throws {
        try Bench.run { bench in
            let other = try bench.distantNeighbour()
            try await other.whileRunning {
                let first = bench.start { try await Barrier("b", parties: 2, on: other.locks).enter() }
                try await bench.sleep(.seconds(1))
                let round = try await bench.locks.holders(of: "b").first?.owner?.label
                // The first does not see that its round was complete for a moment.
                other.store.cutOff()
                let doomed = try await bench.locks.acquire("b", mode: .shared, lease: .seconds(2), label: round)
                let second = bench.start { try await Barrier("b", parties: 2, on: bench.locks).enter() }
                try await bench.sleep(.seconds(1))
                _ = try await doomed.detach()
                try await bench.sleep(.seconds(2))
                other.store.join()
                let passes = [try await first.value, try await second.value]
                #expect(passes.map(\.round) == [round, round])
                for pass in passes { await pass.abandon() }
                let isFree = try await bench.isAllFree()
                #expect(isFree)
            }
        }
    }

    @Test("Work that fails leaves without waiting for the others")
    func failure() throws {
        struct Failure: Error {}
        try Bench.run { bench in
            let barrier = try Barrier("b", parties: 2, on: bench.locks)
            let slow = bench.start { try await barrier.withBarrier { _ in try await bench.sleep(.seconds(60)) } }
            let started = bench.clock.now
            await #expect(throws: Failure.self) { try await barrier.withBarrier { _ in throw Failure() } }
            #expect(started.duration(to: bench.clock.now) < .seconds(1))
            slow.cancel()
            _ = await slow.result
            let isFree = try await bench.isAllFree()
            #expect(isFree)
        }
    }

    @Test("A number of parties out of range and a name too long are refused")
    func limits() throws {
        try Bench.run { bench in
            for parties in [0, Barrier.maximumParties + 1] {
                #expect(throws: LockError.self) { try Barrier("b", parties: parties, on: bench.locks) }
            }
            let name = try Resource(String(repeating: "x", count: Resource.maximumLength))
            #expect(throws: LockError.self) { try Barrier(name, parties: 2, on: bench.locks) }
        }
    }
}
