// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
import HoldfastTesting
import Testing

/// The switches of the doubles.
@Suite("Memory tier and bus on demand fail", .timeLimit(.minutes(5)))
struct MemoryCacheFaultTests {
    private func code(_ call: () async throws -> Void) async -> CacheError.Code? {
        do {
            try await call()
            return nil
        } catch { return (error as? CacheError)?.code }
    }

    @Test
    func `a tier that fails does nothing, one that loses replies does`() async throws {
        let tier = MemoryCacheTier()
        _ = try await tier.put(Make.write("k", "1"))
        tier.fault = .fail
        #expect(await self.code { _ = try await tier.put(Make.write("k", "2")) } == .tierUnavailable)
        #expect(await self.code { _ = try await tier.get("k") } == .tierUnavailable)
        #expect(await self.code { _ = try await tier.remove(["k"], in: "n", keepFor: .seconds(1)) } == .tierUnavailable)
        #expect(
            await self.code { _ = try await tier.invalidate(.all, in: "n", keepFor: .seconds(1)) } == .tierUnavailable
        )
        #expect(await self.code { _ = try await tier.marks(of: ["t"], in: "n") } == .tierUnavailable)
        #expect(await self.code { _ = try await tier.keys(in: "n", prefix: "", after: nil) } == .tierUnavailable)
        tier.fault = .none
        #expect(try await tier.get("k").payload == Array("1".utf8))
        #expect(try await tier.read([], in: "n").marks == TierMarks())
        tier.fault = .loseReplies
        #expect(await self.code { _ = try await tier.put(Make.write("k", "3")) } == .tierUnavailable)
        tier.fault = .none
        #expect(try await tier.get("k").payload == Array("3".utf8))
        #expect(tier.counts.writes == 3 && tier.counts.removals == 1 && tier.counts.invalidations == 1)
        tier.forget()
        #expect(try await tier.get("k") == .absent)
    }

    @Test
    func `a tier that hangs goes on when it is told to, or ends with its caller`() async throws {
        let tier = MemoryCacheTier()
        tier.fault = .hang
        let waiting = Task { try await tier.put(Make.write("k", "1")) }
        let cancelled = Task { try await tier.get("k") }
        try await eventually("they do not come") { tier.counts.writes == 1 && tier.counts.reads == 1 }
        cancelled.cancel()
        await #expect(throws: CancellationError.self) { try await cancelled.value }
        #expect(tier.counts.writes == 1)
        tier.fault = .none
        #expect(try await waiting.value.version != nil)
        #expect(try await tier.get("k").payload == Array("1".utf8))
    }

    @Test
    func `a delay is on the tier's clock`() async throws {
        let clock = ManualClock()
        let tier = MemoryCacheTier(clock: clock)
        tier.fault = .delay(.seconds(3600))
        let start = ContinuousClock.now
        let reply = Task { try await tier.put(Make.write("k", life: .seconds(7200))) }
        try await eventually("it is not delayed") {
            clock.advance(by: .seconds(60))
            tier.fault = .none
            return try await tier.get("k").payload != nil
        }
        #expect(try await reply.value.version != nil)
        #expect(start.duration(to: .now) < .seconds(20))
    }

    @Test
    func `a bus loses what it is told to, and says when it hears nothing`() async throws {
        let bus = MemoryCacheBus()
        let log = BusLog(bus)
        try await bus.publish([1])
        bus.lose(next: 2)
        for number in 2...4 { try await bus.publish([UInt8(number)]) }
        bus.isInterrupted = true
        bus.isInterrupted = true
        try await bus.publish([5])
        let late = BusLog(bus)
        #expect(late.events == [])
        bus.isInterrupted = false
        try await bus.publish([6])
        let expected: [CacheBusEvent] = [
            .listening, .message([1]), .message([4]), .interrupted, .listening, .message([6]),
        ]
        #expect(log.events == expected)
        #expect(late.events == [.listening, .message([6])])
        #expect(bus.published == 6)
        bus.fault = .fail
        #expect(await self.code { try await bus.publish([7]) } == .tierUnavailable)
        #expect(log.events == expected)
    }
}
