// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import HoldfastTesting
import Synchronization
import Testing

@Suite("Elections of a leader", .timeLimit(.minutes(5)))
struct LeaderElectionTests {
    @Test("Candidates lead one at a time, each with a greater token than all before")
    func terms() throws {
        try Bench.run { bench in
            let other = try bench.neighbour()
            let room = Occupancy()
            let tokens = Collector<FencingToken>()
            try await other.whileRunning {
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for locks in [bench.locks, bench.locks, other.locks] {
                        group.addTask {
                            let election = try LeaderElection("l", on: locks)
                            var terms = 0
                            for try await term in election.campaign() {
                                room.enter()
                                tokens.append(term.token)
                                try await bench.sleep(.seconds(1))
                                try term.checkValid()
                                room.leave()
                                terms += 1
                                if terms == 5 {
                                    #expect(await term.resign() == .released)
                                    #expect(throws: LockError.self) { try term.checkValid() }
                                    break
                                }
                            }
                        }
                    }
                    try await group.waitForAll()
                }
            }
            #expect(room.most == 1)
            #expect(room.visits == 15)
            #expect(tokens.values == tokens.values.sorted())
            #expect(Set(tokens.values).count == 15)
            #expect(try await bench.isAllFree())
        }
    }

    @Test(
        "21: a leader that is cut off has stopped before the next one leads (curator#1121)",
        arguments: 1...5 as ClosedRange<UInt64>
    )
    func cutOffLeader(seed: UInt64) throws {
        try Bench.run(seed: seed) { bench in
            let other = try bench.distantNeighbour()
            let room = Occupancy()
            let lead: @Sendable (LockService) async throws -> Void = { locks in
                let election = try LeaderElection("l", on: locks, lease: .seconds(4))
                while !Task.isCancelled {
                    do {
                        try await election.withLeadership { term in
                            room.enter()
                            defer { room.leave() }
                            while true {
                                try term.checkValid()
                                try await bench.sleep(.milliseconds(50))
                            }
                        }
                    } catch is LockError { try await bench.sleep(.milliseconds(20)) }
                }
            }
            try await other.whileRunning {
                let candidates = [
                    bench.start { try await lead(bench.locks) }, bench.start { try await lead(other.locks) },
                ]
                for _ in 0..<5 {
                    try await bench.sleep(.seconds(7))
                    let leader = await bench.store.base.status(of: "l").holders.first?.owner
                    let isOurs = leader?.process == bench.locks.identity
                    let store = isOurs ? bench.store : other.store
                    store.cutOff()
                    try await bench.sleep(.seconds(9))
                    let next = try #require(await bench.store.base.status(of: "l").holders.first?.owner)
                    #expect((next.process == bench.locks.identity) != isOurs)
                    store.join()
                }
                for candidate in candidates { candidate.cancel() }
                for candidate in candidates { _ = await candidate.result }
            }
            #expect(room.most == 1)
            #expect(room.visits > 5)
            #expect(try await bench.isAllFree())
        }
    }

    @Test("The work is cancelled, and the term's end is told, a margin before the term can end")
    func toldBefore() throws {
        try Bench.run { bench in
            let election = try LeaderElection("l", on: bench.locks, lease: .seconds(10))
            let code = await lockErrorCode {
                try await election.withLeadership { term in
                    bench.store.cutOff()
                    await withTaskGroup(of: Void.self) { group in
                        group.addTask { await term.ended() }
                        group.addTask { try? await bench.sleep(.seconds(60)) }
                        for await _ in group {
                            #expect(bench.clock.now.duration(to: term.validUntil) == .seconds(1))
                        }
                    }
                }
            }
            #expect(code == .lost)
        }
    }

    @Test("Asking for the next term resigns the one before, and a lost one is followed by another")
    func nextTerm() throws {
        try Bench.run { bench in
            let election = try LeaderElection("l", on: bench.locks)
            var iterator = election.campaign().makeAsyncIterator()
            let first = try #require(try await iterator.next())
            let second = try #require(try await iterator.next())
            #expect(throws: LockError.self) { try first.checkValid() }
            #expect(second.token > first.token)
            _ = try await bench.locks.forceRelease("l")
            await second.ended()
            let third = try #require(try await iterator.next())
            #expect(try await election.leader()?.token == third.token)
            await third.resign()
            #expect(try await election.leader() == nil)
        }
    }

    @Test("A cancelled candidate leaves, whether it leads or waits, and its campaign ends")
    func cancelled() throws {
        try Bench.run { bench in
            let candidates = (0..<2).map { _ in
                bench.start {
                    let election = try LeaderElection("l", on: bench.locks)
                    for try await term in election.campaign() { await term.ended() }
                    #expect(Task.isCancelled)
                }
            }
            try await bench.sleep(.seconds(1))
            #expect(try await bench.locks.holders(of: "l").count == 1)
            for candidate in candidates { candidate.cancel() }
            for candidate in candidates { try await candidate.value }
            #expect(try await bench.isAllFree())
        }
    }

    @Test("A service that stops resigns for its leader")
    func shutdown() throws {
        try Bench.run { bench in
            let other = try bench.neighbour()
            let leader = bench.start {
                try await LeaderElection("l", on: other.locks).withLeadership { _ in
                    try await bench.sleep(.seconds(600))
                }
            }
            try await other.whileRunning {
                try await bench.sleep(.seconds(1))
                #expect(try await bench.locks.holders(of: "l").count == 1)
            }
            #expect(await lockErrorCode { try await leader.value } == .lost)
            #expect(try await bench.isAllFree())
        }
    }

    @Test("A campaign lives through a long outage")
    func outage() throws {
        try Bench.run { bench in
            bench.store.cutOff()
            let candidate = bench.start {
                for try await term in try LeaderElection("l", on: bench.locks).campaign() {
                    await term.resign()
                    return bench.clock.now
                }
                return bench.clock.now
            }
            try await bench.sleep(.seconds(30))
            bench.store.join()
            let joined = bench.clock.now
            #expect(joined.duration(to: try await candidate.value) <= .seconds(2))
            #expect(try await bench.isAllFree())
        }
    }

    @Test("Followers see each leader by name, and when there is none")
    func observed() throws {
        try Bench.run { bench in
            let follower = try LeaderElection("l", on: bench.locks, lookingEvery: .milliseconds(100))
            let seen = Collector<String?>()
            let reader = bench.start {
                for try await leader in follower.observe() { seen.append(leader.map(\.candidate) ?? nil) }
            }
            try await bench.sleep(.milliseconds(500))
            for name in ["x", "y"] {
                let election = try LeaderElection("l", on: bench.locks, candidate: name)
                try await election.withLeadership { _ in try await bench.sleep(.milliseconds(500)) }
            }
            try await bench.sleep(.milliseconds(500))
            #expect(seen.values == [nil, "x", "y", nil])
            reader.cancel()
            try await reader.value
            #expect(throws: LockError.self) { try LeaderElection("l", on: bench.locks, candidate: "a\tb") }
            #expect(throws: LockError.self) { try LeaderElection("l", on: bench.locks, lookingEvery: .zero) }
        }
    }
}
