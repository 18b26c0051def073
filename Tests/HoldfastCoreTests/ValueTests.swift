// SPDX-License-Identifier: Apache-2.0

import Foundation
import HoldfastCore
import HoldfastTesting
import Testing

@Suite struct LockModeTests {
    @Test("Modes exclude each other as the table says")
    func compatibility() {
        let modes: [LockMode] = [.shared, .update, .exclusive, .permit(of: 2)]
        // Rows ask, columns hold.
        let fits: [[Bool]] = [
            [true, true, false, false],
            [true, false, false, false],
            [false, false, false, false],
            [false, false, false, true],
        ]
        for (row, asked) in modes.enumerated() {
            #expect(asked.isCompatible(with: []))
            for (column, held) in modes.enumerated() {
                #expect(asked.isCompatible(with: [held]) == fits[row][column], "\(asked) beside \(held)")
            }
        }
        #expect(LockMode.shared.isCompatible(with: [.shared, .update, .shared]))
        #expect(!LockMode.update.isCompatible(with: [.shared, .update]))
        #expect(!LockMode.permit(of: 2).isCompatible(with: [.permit(of: 2), .permit(of: 2)]))
        #expect(LockMode.permit(of: 3).isCompatible(with: [.permit(of: 2), .permit(of: 2)]))
    }

    @Test("Two modes fit in either order or in none")
    func symmetry() {
        let modes: [LockMode] = [.shared, .update, .exclusive, .permit(of: 2)]
        for left in modes {
            for right in modes {
                #expect(left.isCompatible(with: [right]) == right.isCompatible(with: [left]))
            }
        }
    }

    @Test(
        "Text and coding keep a mode",
        arguments: [LockMode.shared, .update, .exclusive, .permit(of: 1), .permit(of: 99)]
    )
    func text(mode: LockMode) throws {
        #expect(LockMode(mode.description) == mode)
        #expect(try JSONDecoder().decode([LockMode].self, from: try JSONEncoder().encode([mode])) == [mode])
    }

    @Test("Other text is no mode", arguments: ["", "Shared", "permit", "permit:", "permit:0", "permit:-1", "permit:x"])
    func badText(text: String) {
        #expect(LockMode(text) == nil)
        #expect(throws: DecodingError.self) {
            try JSONDecoder().decode([LockMode].self, from: try JSONEncoder().encode([text]))
        }
    }
}

@Suite struct IdentityTests {
    @Test("A request id survives its secret and its coding, and shows only eight digits")
    func requestID() throws {
        var generator = SeededGenerator(seed: 1)
        for _ in 0..<1000 {
            let id = RequestID(using: &generator)
            #expect(id.secret.count == 32)
            #expect(RequestID(secret: id.secret) == id)
            #expect(id.secret.hasPrefix(id.reference) && id.reference.count == 8)
            #expect("\(id)" == id.reference)
            #expect(!String(reflecting: id).contains(id.secret))
            #expect(try JSONDecoder().decode([RequestID].self, from: try JSONEncoder().encode([id])) == [id])
        }
    }

    @Test(
        "Other text is no request id",
        arguments: [
            "", "0", String(repeating: "g", count: 32), String(repeating: "A", count: 32),
            String(repeating: "0", count: 33),
        ]
    )
    func badSecret(text: String) { #expect(RequestID(secret: text) == nil) }

    @Test("An owner survives coding")
    func owner() throws {
        let owner = OwnerID(process: .example, serial: 17, label: "night job")
        let back = try JSONDecoder().decode(OwnerID.self, from: try JSONEncoder().encode(owner))
        #expect(back == owner)
        #expect(back.description == owner.description)
        #expect(back.process.started == owner.process.started)
        #expect(back.description == "tool[42]@host (night job)")
    }

    @Test("A label loses control characters and is cut at a character")
    func label() {
        #expect(OwnerID(process: .example, serial: 1, label: "a\u{1b}[31m\nb\u{85}").label == "a[31mb")
        let long = OwnerID(process: .example, serial: 1, label: String(repeating: "日", count: 100)).label ?? ""
        #expect(long.utf8.count <= OwnerID.maximumLabelLength && long.utf8.count > OwnerID.maximumLabelLength - 3)
        #expect(long.allSatisfy { $0 == "日" })
    }

    @Test(
        "A broken owner is an error and not a crash",
        arguments: ["", "-", "1-", "x-1", "0123456789abcdef-", "0123456789abcdef-x"]
    )
    func badOwner(id: String) {
        let json = #"{"id":"\#(id)","host":"h","pid":1,"started":0,"program":"p"}"#
        #expect(throws: DecodingError.self) { try JSONDecoder().decode(OwnerID.self, from: Data(json.utf8)) }
    }

    @Test("A grant survives coding")
    func grant() throws {
        var generator = SeededGenerator(seed: 2)
        let grant = Grant(
            id: RequestID(using: &generator),
            resource: "a/b",
            mode: .permit(of: 3),
            owner: OwnerID(process: .example, serial: 3),
            fencingToken: FencingToken(rawValue: 1 << 52),
            lease: .milliseconds(1500),
            validUntil: ContinuousClock().now
        )
        #expect(try JSONDecoder().decode(Grant.self, from: try JSONEncoder().encode(grant)) == grant)
        #expect(!"\(grant)".contains(grant.id.secret))
    }
}

@Suite struct TimeTests {
    @Test("Timestamps saturate instead of overflowing")
    func saturation() {
        #expect(Timestamp.distantFuture.advanced(by: .seconds(1)) == .distantFuture)
        #expect(Timestamp(nanoseconds: .min).advanced(by: .seconds(-1)) == Timestamp(nanoseconds: .min))
        #expect(Timestamp(nanoseconds: .min).duration(to: .distantFuture) == .nanoseconds(Int64.max))
        #expect(Timestamp.distantFuture.duration(to: Timestamp(nanoseconds: .min)) == .nanoseconds(Int64.min))
        #expect(Timestamp.zero.advanced(by: .seconds(Int64.max)) == .distantFuture)
        #expect(Timestamp.zero.advanced(by: .nanoseconds(5)).duration(to: .zero) == .nanoseconds(-5))
    }

    @Test("Durations saturate, and waits round up")
    func durations() {
        #expect(Duration.seconds(Int64.max).nanoseconds == .max)
        #expect(Duration.seconds(Int64.min).nanoseconds == .min)
        #expect(Duration.milliseconds(1500).nanoseconds == 1_500_000_000)
        #expect(Duration.nanoseconds(-1).nanoseconds == -1)
        #expect(Duration.nanoseconds(1).millisecondsRoundedUp == 1)
        #expect(Duration.milliseconds(7).millisecondsRoundedUp == 7)
        #expect(Duration.zero.millisecondsRoundedUp == 0)
        #expect(Duration.nanoseconds(-1).millisecondsRoundedUp == 0)
        #expect(Duration.milliseconds(2500).inSeconds == 2.5)
    }
}

@Suite struct FenceTests {
    @Test("A fence accepts what is not below, and remembers the highest")
    func fence() throws {
        var fence = Fence()
        try fence.admit(FencingToken(rawValue: 5))
        try fence.admit(FencingToken(rawValue: 5))
        try fence.admit(FencingToken(rawValue: 7))
        let error = #expect(throws: LockError.self) { try fence.admit(FencingToken(rawValue: 6)) }
        #expect(error?.code == .fenced)
        #expect(error?.message.contains("6") == true && error?.message.contains("7") == true)
        #expect(fence.highest == FencingToken(rawValue: 7))
    }
}

@Suite struct RetryScheduleTests {
    @Test("Pauses stay between the base and the cap, grow, and start again after a success")
    func bounds() {
        var generator = SeededGenerator(seed: 3)
        var schedule = RetrySchedule(base: .milliseconds(10), cap: .seconds(2))
        var last: Duration = .milliseconds(10)
        var longest: Duration = .zero
        for _ in 0..<5000 {
            let pause = schedule.next(using: &generator)
            #expect(pause >= .milliseconds(10) && pause <= min(.seconds(2), last * 3))
            longest = max(longest, pause)
            last = pause
        }
        #expect(longest > .seconds(1))
        schedule.reset()
        #expect(schedule.next(using: &generator) <= .milliseconds(30))
    }

    @Test("Clients that failed together do not come back together")
    func spread() {
        let pauses = (0..<100 as Range<UInt64>).map { seed in
            var generator = SeededGenerator(seed: seed)
            var schedule = RetrySchedule(base: .milliseconds(10), cap: .seconds(2))
            return (0..<5).map { _ in schedule.next(using: &generator) }.last
        }
        #expect(Set(pauses).count == 100)
    }
}

extension ProcessIdentity {
    static let example = ProcessIdentity(instance: 0xfeed, host: "host", pid: 42, started: 99, program: "tool")
}
