// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
import HoldfastCommands
import HoldfastCore
import Synchronization
import Testing

@Suite
struct RuleTests {
    private func status(holders: [String], waiters: [String]) -> ResourceStatus {
        ResourceStatus(
            resource: "r",
            holders: holders.map {
                Holder(reference: $0, owner: nil, mode: .shared, fencingToken: nil, heldFor: nil, remaining: nil)
            },
            waiters: waiters.map { Waiter(reference: $0, owner: nil, mode: .shared, waitingFor: nil) }
        )
    }

    @Test
    func `a watch reports who came and who went, and a waiter that got the lock has not left`() {
        let before = ["r" as Resource: self.status(holders: ["a"], waiters: ["b", "c"])]
        let after = ["r" as Resource: self.status(holders: ["b"], waiters: ["d"])]
        #expect(SurveyChange.between(before, after).map(\.kind) == [.ended, .left, .acquired, .waiting])
        #expect(SurveyChange.between(after, [:]).map(\.kind) == [.ended, .left])
        #expect(SurveyChange.between(after, after).isEmpty)
    }

    @Test
    func `a lock that lasts for longer than clocks count is handed to a command as well`() {
        let holder = Holder(
            reference: nil,
            owner: nil,
            mode: .exclusive,
            fencingToken: nil,
            heldFor: nil,
            remaining: .seconds(Int64.max)
        )
        let variables = ChildEnvironment.variables(for: holder, of: "r")
        let texts = variables.map { String(decoding: $0.bytes, as: UTF8.self) }
        #expect(texts.contains { $0.hasPrefix("HOLDFAST_VALID_UNTIL=9223372036") })
    }

    @Test
    func `the kill margin lies inside the margin at which the engine gives up`() throws {
        for (lease, margin) in [
            (Duration.seconds(30), Duration?.none), (.seconds(30), .seconds(5)), (.seconds(4), .seconds(1)),
        ] {
            let margins = try KillMargins(lease: lease, killMargin: margin)
            #expect(lease * margins.policy.marginFraction >= margins.killMargin(of: lease) * 2)
            #expect(margins.policy.marginFraction <= 0.5)
        }
        // A store of sessions gives a shorter lease than was asked for.
        let short = StoreCapabilities(name: "short", scope: .network, modes: [.exclusive], sessionLease: .seconds(9))
        let usual = try KillMargins(lease: .seconds(600), killMargin: nil)
        try usual.check(short)
        #expect(usual.killMargin(of: .seconds(9)) * 2 <= .seconds(9) * usual.policy.marginFraction)
        let asked = try KillMargins(lease: .seconds(600), killMargin: .seconds(20))
        #expect(throws: CommandFailure.self) { try asked.check(short) }
        #expect(throws: Never.self) {
            try asked.check(StoreCapabilities(name: "long", scope: .network, modes: [.exclusive]))
        }
        #expect(throws: CommandFailure.self) { try KillMargins(lease: .seconds(4), killMargin: .milliseconds(1001)) }
    }

    @Test
    func `a bench report counts changes of owner, overlaps and shares`() throws {
        var first = BenchLog(worker: 0)
        first.add(asked: 0, entered: 10, left: 20, ended: 25, mode: .exclusive)
        first.add(asked: 25, entered: 50, left: 60, ended: 65, mode: .exclusive)
        var second = BenchLog(worker: 1)
        second.add(asked: 0, entered: 30, left: 55, ended: 58, mode: .exclusive)
        let report = BenchReport(.cont16, logs: [first, second], started: 0, cpu: 30)
        #expect(report.handovers.count == 2)
        #expect(report.handovers.overlaps == 1)
        #expect(report.jain == 0.9)
        var words = (first.words + second.words)[...]
        #expect(BenchLog(words: &words)?.ended == first.ended)
        #expect(BenchLog(words: &words)?.entered == second.entered)
        #expect(BenchLog(words: &words) == nil)
    }

    @Test
    func `a demo is judged by its log`() {
        func event(
            _ time: Int64,
            _ worker: Int,
            _ kind: DemoEvent.Kind,
            _ token: UInt64,
            _ generation: Int64,
            _ value: Int64
        ) -> DemoEvent {
            DemoEvent(time: time, worker: worker, kind: kind, token: token, generation: generation, value: value)
        }
        // The second was granted before the first had the reply to its release.
        let good = [
            event(0, 1, .begin, 1, 1, 100), event(10, 1, .wrote, 1, 1, 0), event(11, 1, .leave, 1, 1, 0),
            event(21, 1, .ended, 1, 0, 100),
            event(20, 2, .begin, 2, 2, 120),  // killed at 25
            event(30, 3, .begin, 3, 2, 130), event(40, 3, .wrote, 3, 2, 0), event(41, 3, .leave, 3, 2, 0),
            event(42, 3, .ended, 3, 0, 130), event(50, 1, .begin, 4, 3, 140),  // stopped past 150
            event(151, 3, .begin, 5, 3, 250), event(160, 3, .wrote, 5, 3, 0), event(161, 3, .leave, 5, 3, 0),
            event(162, 3, .ended, 5, 0, 250), event(165, 1, .ended, 4, 0, 150), event(170, 1, .refused, 4, 3, 0),
            event(171, 1, .leave, 4, 3, 0), event(200, 1, .requests, 0, 0, 7),
        ]
        let verdict = DemoVerdict(good, killed: (2, 25))
        #expect(verdict.problems.isEmpty)
        #expect((verdict.overlaps, verdict.rebuilds, verdict.expiries, verdict.refusedStaleWrites) == (0, 3, 3, 1))
        #expect(verdict.takeover == 5)
        #expect(verdict.requests == 7)
        #expect(DemoVerdict(good + [event(149, 4, .begin, 9, 9, 300)], killed: (2, 25)).overlaps == 2)
        // Nobody knows when the lease of the stopped one ended: it may have held until its work was over.
        let unknown = good.filter { $0.kind != .ended || $0.token != 4 }
        #expect(DemoVerdict(unknown, killed: (2, 25)).overlaps == 1)
        #expect(!DemoVerdict(good + [event(180, 2, .wrote, 6, 3, 300)], killed: (2, 25)).problems.isEmpty)
        for event in good { #expect(DemoEvent(line: event.line) == event) }
    }

    @Test
    func `the tier of the demo refuses an older token and an older version, and keeps its content`() async throws {
        let directory = try TestDirectory()
        let told = Mutex<[String]>([])
        let tier = DemoTier(path: "\(directory.path)/cache") { token, generation, isWritten in
            told.withLock { $0.append("\(token) \(generation) \(isWritten)") }
        }
        func write(_ payload: [UInt8], seen version: UInt64, token: UInt64) async throws -> TierWriteReply? {
            try await tier.write(
                [
                    TierWrite(
                        key: DemoTier.key,
                        payload: payload,
                        timeToLive: .seconds(1),
                        condition: .version(version),
                        token: token
                    )
                ],
                in: "demo"
            ).first
        }
        #expect(try await tier.content() == .empty)
        #expect(try await tier.read([DemoTier.key], in: "demo").entries == [.absent])
        #expect(try await write([1, 10, 2], seen: 0, token: 7) == .written(version: 1))
        #expect(try await write([3], seen: 1, token: 6) == .refused(version: 1))
        #expect(try await write([4], seen: 0, token: 8) == .refused(version: 1))
        let content = try await tier.content()
        #expect(content.payload == [1, 10, 2] && content.generation == 1 && content.token.rawValue == 7)
        #expect(try await tier.read([DemoTier.key], in: "demo").entries.first?.payload == [1, 10, 2])
        #expect(try await write([5], seen: 1, token: 9) == .written(version: 2))
        #expect(told.withLock { $0 } == ["7 1 true", "6 2 false", "8 1 false", "9 2 true"])
    }
}
