// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import HoldfastTesting
import Testing

@Suite struct LeaseTimelineTests {
    private let start = ContinuousClock().now
    private let lease: Duration = .seconds(30)

    private func at(_ seconds: Double) -> ContinuousClock.Instant {
        self.start.advanced(by: .milliseconds(Int64((seconds * 1000).rounded())))
    }

    private func timeline() -> LeaseTimeline { LeaseTimeline(lease: self.lease, requestedAt: self.start) }

    @Test("The deadline counts from when the request was sent, less one percent and two milliseconds")
    func validity() {
        let timeline = self.timeline()
        #expect(timeline.validUntil == self.at(29.698))
        #expect(timeline.stopAt == self.at(26.698))
        #expect(timeline.isValid(at: self.at(29.697)))
        #expect(!timeline.isValid(at: self.at(29.698)))
        #expect(LeaseTimeline.validity(of: Limits.minimumLease) == .milliseconds(97))
    }

    @Test("It renews once at about a third, and waits for the answer until it must stop")
    func renewal() {
        var timeline = self.timeline()
        #expect(timeline.action(at: self.at(1)) == .wait(until: self.at(10)))
        #expect(timeline.action(at: self.at(10)) == .renew)
        #expect(timeline.action(at: self.at(10)) == .wait(until: timeline.stopAt))
        timeline.renewalEnded(.renewed(revokeRequested: false), sentAt: self.at(10), at: self.at(12))
        #expect(timeline.validUntil == self.at(39.698))
        #expect(timeline.action(at: self.at(12)) == .wait(until: self.at(20)))
    }

    @Test("A renewal with an unknown outcome moves nothing, ends nothing and is tried again sooner")
    func unknown() {
        var timeline = self.timeline()
        let deadline = timeline.validUntil
        #expect(timeline.action(at: self.at(10)) == .renew)
        timeline.renewalEnded(.unknown, sentAt: self.at(10), at: self.at(11))
        #expect(timeline.validUntil == deadline)
        #expect(timeline.loss == nil && timeline.doubts == 1)
        #expect(timeline.renewAt == self.at(13.5))
        #expect(timeline.action(at: self.at(13.5)) == .renew)
        timeline.renewalEnded(.renewed(revokeRequested: false), sentAt: self.at(13.5), at: self.at(14))
        #expect(timeline.doubts == 0)
        #expect(timeline.validUntil == self.at(13.5 + 29.698))
    }

    @Test("Without a confirmed renewal the work is stopped once, at the margin and before the deadline")
    func margin() {
        var timeline = self.timeline()
        var tries = 0
        var now = self.at(10)
        while now < timeline.stopAt {
            if timeline.action(at: now) == .renew {
                tries += 1
                timeline.renewalEnded(.unknown, sentAt: now, at: now.advanced(by: .milliseconds(50)))
            }
            now = now.advanced(by: .milliseconds(100))
        }
        #expect(tries >= 3)
        #expect(timeline.loss == nil)
        #expect(timeline.action(at: timeline.stopAt) == .stop)
        #expect(timeline.loss == .deadline)
        #expect(timeline.action(at: timeline.stopAt) != .stop)
        #expect(!timeline.isValid(at: self.at(26.7)))
    }

    @Test("An answer that comes after the work was stopped does not bring the lease back")
    func lateReply() {
        var timeline = self.timeline()
        #expect(timeline.action(at: self.at(10)) == .renew)
        #expect(timeline.action(at: self.at(26.7)) == .stop)
        timeline.renewalEnded(.renewed(revokeRequested: false), sentAt: self.at(10), at: self.at(27))
        #expect(timeline.loss == .deadline)
        #expect(!timeline.isValid(at: self.at(27)))
    }

    @Test("An answer that comes after the deadline is a loss even if it says renewed")
    func replyAfterDeadline() {
        var timeline = self.timeline()
        #expect(timeline.action(at: self.at(10)) == .renew)
        timeline.renewalEnded(.renewed(revokeRequested: false), sentAt: self.at(10), at: self.at(30))
        #expect(timeline.loss == .deadline)
    }

    @Test(
        "A reply that says lost ends the lease, and the first reason stays",
        arguments: [LossReason.expired, .forced]
    )
    func lost(reason: LossReason) {
        var timeline = self.timeline()
        #expect(timeline.action(at: self.at(10)) == .renew)
        timeline.renewalEnded(.lost(reason), sentAt: self.at(10), at: self.at(11))
        #expect(timeline.loss == reason)
        #expect(!timeline.isValid(at: self.at(11)))
        timeline.end(.deadline)
        #expect(timeline.loss == reason)
        timeline.renewalEnded(.renewed(revokeRequested: false), sentAt: self.at(10), at: self.at(12))
        #expect(timeline.loss == reason)
    }

    @Test("Renewals that are answered out of order never shorten the lease")
    func outOfOrder() {
        var timeline = self.timeline()
        timeline.renewalEnded(.renewed(revokeRequested: false), sentAt: self.at(12), at: self.at(13))
        let deadline = timeline.validUntil
        timeline.renewalEnded(.renewed(revokeRequested: false), sentAt: self.at(5), at: self.at(14))
        #expect(timeline.validUntil == deadline)
    }

    @Test("A holder never believes in a lease for longer than the store, whatever happens to its renewals")
    func neverLonger() {
        for seed in 0..<2000 as Range<UInt64> {
            var generator = SeededGenerator(seed: seed)
            let clockRate = Double.random(in: 0.99...1.01, using: &generator)
            // The store counts from when it handles a message, on a clock that may run a little faster.
            let storeLease = self.lease / (clockRate > 1 ? clockRate : 1)
            let handled = generator.duration(in: .zero ... .seconds(2))
            var expires = self.start.advanced(by: handled + storeLease)
            var timeline = self.timeline()
            var now = self.start.advanced(by: handled * 2)
            while timeline.loss == nil, now < self.at(300) {
                switch timeline.action(at: now) {
                case .wait(until: let next): now = max(next, now.advanced(by: .milliseconds(1)))
                case .stop: break
                case .renew:
                    let arrives = now.advanced(by: generator.duration(in: .zero ... .seconds(8)))
                    let back = arrives.advanced(by: generator.duration(in: .zero ... .seconds(8)))
                    let isHeld = arrives < expires && !generator.chance(0.2)
                    if isHeld { expires = arrives.advanced(by: storeLease) }
                    let reply: RenewReply = isHeld ? .renewed(revokeRequested: false) : .unknown
                    let sent = now
                    if back >= timeline.stopAt {
                        now = timeline.stopAt
                        _ = timeline.action(at: now)
                    }
                    now = max(now, back)
                    timeline.renewalEnded(generator.chance(0.2) ? .unknown : reply, sentAt: sent, at: now)
                }
                #expect(timeline.validUntil <= expires, "seed \(seed)")
            }
        }
    }
}
