// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import HoldfastTesting
import Testing

@Suite("Groups of those who are alive", .timeLimit(.minutes(5)))
struct GroupMembershipTests {
    @Test("Members are seen with their data, several of a process too, even one inside another")
    func members() throws {
        try Bench.run { bench in
            let group = try GroupMembership("g", on: bench.locks)
            #expect(try await group.members().isEmpty)
            try await group.withMembership(data: "10.0.0.7:80 é") { first in
                try await group.withMembership { second in
                    let members = try await group.members()
                    #expect(members.map(\.data) == ["10.0.0.7:80 é", ""])
                    #expect(members.map(\.id) == [first.owner, second.owner])
                    #expect(members.allSatisfy { $0.process == bench.locks.identity })
                }
                #expect(try await group.members().count == 1)
            }
            #expect(try await bench.isAllFree())
        }
    }

    @Test("Who reads the changes sees joins and leaves, once each, a second later at most")
    func changes() throws {
        try Bench.run { bench in
            let group = try GroupMembership("g", on: bench.locks)
            let seen = Collector<[String]>()
            let reader = bench.start {
                for try await members in group.changes { seen.append(members.map(\.data)) }
                #expect(Task.isCancelled)
            }
            try await bench.sleep(.milliseconds(1500))
            let first = try await group.join(data: "a")
            try await bench.sleep(.milliseconds(1000))
            #expect(seen.values == [[], ["a"]])
            let second = try await group.join(data: "b")
            try await bench.sleep(.seconds(60))
            await first.release()
            try await bench.sleep(.milliseconds(1000))
            #expect(seen.values == [[], ["a"], ["a", "b"], ["b"]])
            await second.release()
            reader.cancel()
            try await reader.value
        }
    }

    @Test("An outage is no change, and reading goes on after it")
    func outage() throws {
        try Bench.run { bench in
            let group = try GroupMembership("g", on: bench.locks, lookingEvery: .milliseconds(100))
            let seen = Collector<Int>()
            let reader = bench.start { for try await members in group.changes { seen.append(members.count) } }
            try await bench.sleep(.seconds(1))
            bench.store.cutOff()
            try await bench.sleep(.seconds(20))
            bench.store.join()
            let member = try await group.join()
            try await bench.sleep(.seconds(1))
            #expect(seen.values == [0, 1])
            reader.cancel()
            try await reader.value
            await member.release()
        }
    }

    @Test("A dead member is gone when its own lease ends, whatever the others do")
    func deadMember() throws {
        try Bench.run { bench in
            let other = try bench.distantNeighbour()
            try await other.whileRunning {
                let group = try GroupMembership("g", on: bench.locks, lookingEvery: .milliseconds(100))
                let living = try await group.join(data: "living", lease: .seconds(4))
                let doomed = bench.start {
                    try await GroupMembership("g", on: other.locks).withMembership(data: "dead", lease: .seconds(4)) {
                        _ in
                        try await bench.sleep(.seconds(600))
                    }
                }
                try await bench.sleep(.seconds(10))
                #expect(try await group.members().count == 2)
                other.store.cutOff()
                try await bench.sleep(.seconds(4))
                #expect(try await group.members().map(\.data) == ["living"])
                #expect(await lockErrorCode { try await doomed.value } == .lost)
                await living.release()
            }
        }
    }

    @Test("A cancelled member leaves at once")
    func cancelled() throws {
        try Bench.run { bench in
            let group = try GroupMembership("g", on: bench.locks)
            let member = bench.start {
                try await group.withMembership { _ in try await bench.sleep(.seconds(600)) }
            }
            try await bench.sleep(.seconds(1))
            #expect(try await group.members().count == 1)
            member.cancel()
            await #expect(throws: CancellationError.self) { try await member.value }
            #expect(try await bench.isAllFree())
        }
    }

    @Test(
        "Data that would not arrive as it was given is refused",
        arguments: [String(repeating: "x", count: 129), String(repeating: "é", count: 65), "a\nb", "\u{7F}", "\u{85}"]
    )
    func data(_ data: String) throws {
        try Bench.run { bench in
            let group = try GroupMembership("g", on: bench.locks)
            #expect(await lockErrorCode { try await group.join(data: data).release() } == .invalidArgument)
            #expect(bench.store.count("acquire") == 0)
            let longest = String(repeating: "é", count: 64)
            try await group.withMembership(data: longest) { _ in
                let members = try await group.members()
                #expect(members.map(\.data) == [longest])
            }
        }
    }

    @Test("An interval out of range is refused", arguments: [Duration.zero, .milliseconds(9), .seconds(90_000)])
    func interval(_ interval: Duration) throws {
        try Bench.run { bench in
            #expect(throws: LockError.self) { try GroupMembership("g", on: bench.locks, lookingEvery: interval) }
        }
    }
}
