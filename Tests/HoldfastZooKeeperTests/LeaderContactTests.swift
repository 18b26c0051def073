// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import Testing

@testable import HoldfastZooKeeper

/// What answers say about the time that the leader counts, for a session of 10 s and a tick of 4 s: a ping each 2 s, and
/// half a second for what is late.
@Suite("What the leader has heard of a session")
struct LeaderContactTests {
    private let zero = ContinuousClock.Instant.now
    private static let settings = LeaderContact(session: .seconds(10), tick: .seconds(4))

    private func at(_ seconds: Double) -> ContinuousClock.Instant { self.zero.advanced(by: .seconds(seconds)) }

    /// A contact after calls, each with its times of sending and answer; and when the leader counts from.
    private func since(_ calls: [(Double, Double)], began start: Double? = nil) -> Double? {
        var contact = Self.settings
        if let start { contact.began(at: self.at(start)) }
        for (sent, answered) in calls { contact.answered(sentAt: self.at(sent), at: self.at(answered)) }
        return contact.since.map { self.zero.duration(to: $0) / .seconds(1) }
    }

    @Test("An answer alone says nothing")
    func one() {
        #expect(self.since([(5, 5.1)]) == nil)
        #expect(self.since([(5, 5.1)], began: 1) == 1)
    }

    @Test("A call counts when another was sent half a tick and what is late after its answer, and was answered")
    func two() {
        #expect(self.since([(5, 5.5), (7.9, 7.9)], began: 1) == 1)
        #expect(self.since([(5, 5.5), (8, 12)], began: 1) == 5)
    }

    @Test("Of many calls the newest that the leader has heard of counts, and one that was slow counts late")
    func many() {
        let calls = (0...100).map { (Double($0) * 0.25, Double($0) * 0.25) }
        #expect(self.since(calls) == 22.5)
        #expect(self.since([(5, 9), (8, 9), (11, 11), (11.5, 11.5)]) == 8)
    }

    @Test("Another connection goes through the leader, and is later than all that was answered before")
    func moved() {
        var contact = Self.settings
        contact.answered(sentAt: self.at(5), at: self.at(5.1))
        contact.moved()
        #expect(contact.since == self.at(5))
        // What was on its way to the old server may never have come.
        contact.answered(sentAt: self.at(9), at: self.at(9))
        #expect(contact.since == self.at(5))
    }

    @Test("It never goes back")
    func monotone() {
        #expect(self.since([(1, 1), (9, 9)], began: 8) == 8)
    }

    @Test("A steady beat keeps what a holder believes in, answers that take a hundredth of the session included")
    func steady() {
        for (session, tick) in [(4.0, 1.0), (10, 2), (10, 3), (60, 2)] {
            var contact = LeaderContact(session: .seconds(session), tick: .seconds(tick))
            let belief = LeaderContact.belief(session: .seconds(session), tick: .seconds(tick)) / .seconds(1)
            let (pause, late) = (contact.pause / .seconds(1), session / 100)
            contact.began(at: self.at(0))
            for number in 1..<500 {
                let sent = Double(number) * pause
                contact.answered(sentAt: self.at(sent), at: self.at(sent + late))
                // Asked just before the next beat.
                let end = sent + pause + belief
                let kept = contact.since.map { self.zero.duration(to: $0) / .seconds(1) + session } ?? 0
                #expect(kept >= end, "\(session) \(tick) \(number)")
            }
        }
    }
}
