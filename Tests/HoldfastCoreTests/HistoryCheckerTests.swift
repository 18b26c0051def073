// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import HoldfastTesting
import Testing

/// The checker has to find what is planted, and nothing in a good history.
@Suite struct HistoryCheckerTests {
    private let clock = ManualClock()
    private let history: History

    init() { self.history = History(clock: self.clock) }

    private var rules: [HistoryChecker.Rule] { HistoryChecker().check(self.history.events).map(\.rule) }

    private func grant(
        _ client: String,
        _ token: UInt64,
        mode: LockMode = .exclusive,
        lease: Duration = .seconds(10)
    ) -> History.Attempt {
        let attempt = self.history.begin(client, "x", mode: mode)
        attempt.record(
            .granted(mode, FencingToken(rawValue: token), validUntil: self.clock.now.advanced(by: lease))
        )
        return attempt
    }

    private func release(_ attempt: History.Attempt) {
        attempt.record(.releasing)
        attempt.record(.released(.released))
    }

    private func pass(_ seconds: Int) { self.clock.advance(by: .seconds(seconds)) }

    @Test("A good history is good")
    func good() {
        let first = self.grant("a", 1)
        self.pass(3)
        first.record(.renewed(validUntil: self.clock.now.advanced(by: .seconds(10))))
        self.pass(8)
        first.record(.wrote(FencingToken(rawValue: 1), accepted: true))
        self.release(first)
        let readers = [self.grant("a", 2, mode: .shared), self.grant("b", 3, mode: .shared)]
        self.pass(1)
        readers.forEach(self.release)
        let lost = self.grant("b", 4)
        self.pass(9)
        lost.record(.lost(.deadline))
        self.pass(1)
        self.release(self.grant("a", 5))
        lost.record(.wrote(FencingToken(rawValue: 4), accepted: true))
        #expect(HistoryChecker().check(self.history.events) == [])
    }

    @Test("Two writers at once are found, with both grants")
    func twoWriters() {
        let first = self.grant("a", 1)
        self.pass(1)
        let second = self.grant("b", 2)
        self.pass(1)
        self.release(second)
        first.record(.lost(.expired))
        let violations = HistoryChecker().check(self.history.events)
        #expect(violations.map(\.rule) == [.exclusion])
        #expect(violations.first?.first?.client == "a" && violations.first?.second?.client == "b")
    }

    @Test("A reader beside a writer is found, in either order", arguments: [LockMode.shared, .exclusive])
    func readerBesideWriter(first: LockMode) {
        let one = self.grant("a", 1, mode: first)
        self.pass(1)
        let other = self.grant("b", 2, mode: first == .shared ? .exclusive : .shared)
        self.pass(1)
        one.record(.lost(.forced))
        self.release(other)
        #expect(self.rules == [.exclusion])
    }

    @Test("A renewal that is heard of after the deadline does not count")
    func lateRenewal() {
        let late = self.grant("a", 1)
        self.pass(11)
        late.record(.renewed(validUntil: self.clock.now.advanced(by: .seconds(10))))
        self.release(self.grant("b", 2))
        late.record(.releasing)
        #expect(self.rules == [.honest])
    }

    @Test("A token twice, and a token that goes down, are found")
    func tokens() {
        self.release(self.grant("a", 5))
        self.pass(1)
        self.release(self.grant("b", 5))
        #expect(self.rules == [.fence, .fence])
        self.pass(1)
        self.release(self.grant("b", 4))
        #expect(self.rules.filter { $0 == .fence }.count == 3)
    }

    @Test("Tokens of requests that overlap may come back in any order")
    func overlappingRequests() {
        let first = self.history.begin("a", "x", mode: .shared)
        let second = self.history.begin("b", "x", mode: .shared)
        for (attempt, token) in [(second, 2), (first, 1)] as [(History.Attempt, UInt64)] {
            attempt.record(
                .granted(.shared, FencingToken(rawValue: token), validUntil: self.clock.now.advanced(by: .seconds(1)))
            )
        }
        self.release(first)
        self.release(second)
        #expect(self.rules == [])
    }

    @Test("A fenced resource that lets an old writer in is found, and one that refuses a good one")
    func writes() {
        let old = self.grant("a", 1)
        old.record(.lost(.deadline))
        let new = self.grant("b", 2)
        new.record(.wrote(FencingToken(rawValue: 2), accepted: true))
        old.record(.wrote(FencingToken(rawValue: 1), accepted: true))
        new.record(.wrote(FencingToken(rawValue: 2), accepted: false))
        self.release(new)
        #expect(self.rules == [.fence, .fence])
    }

    @Test("A loss that is announced late, or never, is found")
    func announcements() {
        let late = self.grant("a", 1)
        self.pass(11)
        late.record(.lost(.deadline))
        _ = self.grant("a", 2)
        self.pass(12)
        self.history.record("a", .healed)
        #expect(self.rules == [.honest, .honest])
        var patient = HistoryChecker()
        patient.announcementSlack = .seconds(1)
        #expect(patient.check(self.history.events).map(\.rule) == [.honest])
    }

    @Test("A process that was stopped is excused until it goes on, and no longer")
    func pauses() {
        let held = self.grant("a", 1)
        self.history.record("a", .paused)
        self.pass(30)
        self.history.record("a", .resumed)
        held.record(.lost(.deadline))
        #expect(self.rules == [])
        let other = self.grant("a", 2)
        self.history.record("a", .paused)
        self.pass(30)
        self.history.record("a", .resumed)
        self.pass(1)
        other.record(.lost(.deadline))
        #expect(self.rules == [.honest])
    }

    @Test("A release that says released after the lock went to another is found")
    func release() {
        let old = self.grant("a", 1)
        self.pass(9)
        let new = self.grant("b", 2)
        self.release(old)
        self.release(new)
        #expect(self.rules.contains(.honest))
    }

    @Test("A request that never ends is found, and one that takes too long without faults")
    func liveness() {
        _ = self.history.begin("a", "x")
        #expect(self.rules == [.live])
        let slow = self.history.begin("b", "x")
        self.history.record("all", .healed)
        self.pass(5)
        slow.record(.notGranted)
        let checker = HistoryChecker(liveBound: .seconds(4))
        #expect(checker.check(self.history.events).map(\.rule) == [.live, .live])
        #expect(HistoryChecker(liveBound: .seconds(5)).check(self.history.events).map(\.rule) == [.live])
    }

    @Test("What is left in the store is found")
    func leftovers() {
        let left = ResourceStatus(resource: "x", holders: [], waiters: [], restingFor: .seconds(1))
        #expect(HistoryChecker().check([], leftovers: [left]).map(\.rule) == [.clean])
    }
}
