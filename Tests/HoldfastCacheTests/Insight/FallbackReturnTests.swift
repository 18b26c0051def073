// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
import HoldfastCore
import HoldfastTesting
import Testing

@Suite("What is written down of an outage", .timeLimit(.minutes(5)))
struct FallbackReturnTests {
    private let pair = TierPair()

    private func join(_ primary: PickyTier) -> FallbackTier {
        FallbackTier(primary: primary, secondary: self.pair.secondary, clock: self.pair.clock)
    }

    /// Has the primary fail, and processes notice.
    private func fail(_ tiers: FallbackTier...) async {
        self.pair.primary.fault = .fail
        for tier in tiers { await self.pair.notice(tier) }
    }

    private func record(_ name: String) -> TierWrite {
        TierWrite(key: name, payload: [1], timeToLive: .seconds(3600))
    }

    // MARK: - What no tier takes

    @Test("An argument that is out of its range is not written down, and keeps nobody from returning")
    func invalidArguments() async throws {
        let tier = self.pair.join()
        _ = try await tier.put("a", "old")
        await self.fail(tier)
        let (key, tag) = (String(repeating: "k", count: 2000), String(repeating: "t", count: 200))
        let errors = [
            await #expect(throws: CacheError.self) { try await tier.remove([key], in: "n", keepFor: .seconds(60)) },
            await #expect(throws: CacheError.self) {
                try await tier.invalidate(.tag(tag), in: "n", keepFor: .seconds(60))
            },
            await #expect(throws: CacheError.self) {
                try await tier.invalidate(.prefix(key), in: "n", keepFor: .seconds(60))
            },
            await #expect(throws: CacheError.self) { try await tier.put(key, "v") },
            await #expect(throws: CacheError.self) { try await tier.read([], in: tag) },
        ]
        #expect(errors.allSatisfy { $0?.code == .invalidArgument })
        #expect(try await self.pair.open() == [])
        try await self.pair.end(tier)
        #expect(!tier.isOut)
        #expect(try await tier.text("a") == "old")
    }

    @Test("Records that no tier takes keep nobody from returning")
    func invalidRecords() async throws {
        let tier = self.pair.join()
        let mark = try await tier.read([], in: "n").marks.current
        await self.fail(tier)
        let (tag, namespace) = (String(repeating: "t", count: 200), String(repeating: "n", count: 200))
        let records = [self.record("1:nt" + tag), self.record("200:\(namespace)kx")]
        _ = try await self.pair.secondary.write(records, in: "hf-outage")
        try await self.pair.end(tier)
        #expect(!tier.isOut)
        #expect(try await !tier.read([], in: "n").marks.admits("a", since: mark))
        #expect(try await self.pair.open() == [])
    }

    @Test(
        "A change that the primary does not take is told as one of everything",
        arguments: [CacheError.Code.invalidArgument, .tierRefused]
    )
    func refusedChange(_ code: CacheError.Code) async throws {
        let primary = PickyTier(self.pair.primary)
        let tier = self.join(primary)
        let mark = try await tier.read([], in: "n").marks.current
        await self.fail(tier)
        _ = try await tier.remove(["a"], in: "n", keepFor: .seconds(60))
        primary.onCall { if $0 == .removal { throw CacheError(code, "picky") } }
        try await self.pair.end(tier)
        #expect(!tier.isOut)
        #expect(try await !tier.read([], in: "n").marks.admits("a", since: mark))
    }

    @Test("When the primary does not take even that, an event says why it is not used")
    func refusedEverything() async throws {
        let (primary, log) = (PickyTier(self.pair.primary), Node.Log())
        let tier = self.join(primary)
        let service = try CacheService(tier: tier, observer: log, clock: self.pair.clock)
        defer { withExtendedLifetime(service) {} }
        await self.fail(tier)
        _ = try await tier.remove(["a"], in: "n", keepFor: .seconds(60))
        primary.onCall { if $0 != .read { throw CacheError(.tierRefused, "picky") } }
        try await self.pair.end(tier)
        #expect(tier.isOut)
        let reasons = log.all.compactMap { event -> CacheError? in
            guard case .tierReturnFailed("picky+two", let error) = event else { return nil }
            return error as? CacheError
        }
        #expect(reasons.map(\.code) == [.tierRefused])
        primary.onCall(nil)
        try await self.pair.end(tier)
        #expect(!tier.isOut)
    }

    // MARK: - Processes that start

    @Test(
        "What a process changed that ended in an outage is told by the next one that starts",
        arguments: FallbackTests.Change.allCases
    )
    func starts(_ change: FallbackTests.Change) async throws {
        let gone = self.pair.join()
        let mark = try await gone.read([], in: "n").marks.current
        _ = try await gone.put("a/1", "old")
        _ = try await gone.put("b/1", "other")
        await self.fail(gone)
        try await change.make(gone)
        self.pair.primary.fault = .none
        let tier = self.pair.join()
        #expect(try await !change.isResurrected(tier, loadedUnder: mark))
        #expect(try await tier.text("b/1") == "other")
        #expect(try await self.pair.open() == [])
        // It is told once.
        _ = try await tier.put("a/1", "newer")
        #expect(try await self.pair.join().text("a/1") == "newer")
    }

    @Test("While the secondary does not answer, a process that starts does not believe what is older than itself")
    func startsInDoubt() async throws {
        let gone = self.pair.join()
        _ = try await gone.put("a", "old")
        _ = try await gone.put("b", "other")
        await self.fail(gone)
        _ = try await gone.remove(["a"], in: "n", keepFor: .seconds(60))
        self.pair.primary.fault = .none
        self.pair.secondary.fault = .fail
        let tier = self.pair.join()
        self.pair.clock.advance(by: .seconds(5))
        for key in ["a", "b"] { #expect(try await tier.text(key) == nil) }
        _ = try await tier.put("c", "new")
        #expect(try await tier.text("c") == "new")
        // The others still have it.
        #expect(try await self.pair.primary.read(["b"], in: "n").entries[0].payload != nil)
        self.pair.secondary.fault = .none
        self.pair.clock.advance(by: .seconds(31))
        #expect(try await tier.text("a") == nil)
        #expect(try await tier.text("b") == "other")
        #expect(try await self.pair.primary.read(["a"], in: "n").entries[0].payload == nil)
    }

    @Test("What a process does not believe is stale for all when it makes it stale")
    func expiresInDoubt() async throws {
        func process() throws -> (CacheService, SharedCache<String, String>) {
            let service = try CacheService(tier: self.pair.join(), clock: self.pair.clock)
            return (service, try service.sharedCache("n", of: String.self, keyedBy: String.self))
        }
        let ((one, before), (two, other)) = (try process(), try process())
        try await before.set("old", for: "k")
        // Knows what is written down.
        #expect(try await other.get("x") == nil)
        self.pair.secondary.fault = .fail
        let (three, after) = try process()
        defer { withExtendedLifetime((one, two, three)) {} }
        #expect(try await after.get("k") == nil)
        try await after.expire("k")
        #expect(try await other.get("k") == nil)
    }

    // MARK: - Several at once

    @Test("A return that takes long is not begun anew while it goes on")
    func longReturn() async throws {
        let primary = PickyTier(self.pair.primary)
        let tier = self.join(primary)
        await self.fail(tier)
        for tag in 0..<4 { _ = try await tier.invalidate(.tag("\(tag)"), in: "n", keepFor: .seconds(3600)) }
        self.pair.primary.fault = .none
        self.pair.clock.advance(by: .seconds(61))
        primary.onCall { [pair] call in
            guard case .invalidation = call else { return }
            pair.clock.advance(by: .seconds(8))
            _ = try await tier.text("x")
        }
        _ = try await tier.text("x")
        #expect(!tier.isOut)
        #expect(self.pair.primary.counts.invalidations == 4)
    }

    @Test("What the primary missed while it was told is written down, for when its process ends too")
    func missedAndEnded() async throws {
        let (gone, _) = try await self.pair.returning { tier, primary in
            primary.refusesChanges = true
            _ = try await tier.remove(["a/1"], in: "n", keepFor: .seconds(60))
        }
        #expect(gone.isOut)
        #expect(try await self.pair.join().text("a/1") == nil)
    }

    @Test("A change that another process tells is written down anew when it is made again", arguments: [true, false])
    func writtenAnew(_ isWhileTold: Bool) async throws {
        let (primary, far) = (PickyTier(self.pair.primary), PickyTier(self.pair.primary))
        let (tier, other) = (self.join(primary), self.join(far))
        await self.fail(tier, other)
        _ = try await other.remove(["a"], in: "n", keepFor: .seconds(60))
        // Only one of them reaches the primary again.
        far.onCall { _ in throw CacheError(.tierUnavailable, "cut off") }
        self.pair.primary.fault = .none
        self.pair.clock.advance(by: .seconds(61))
        primary.onCall { call in
            guard isWhileTold, call == .removal else { return }
            _ = try await other.remove(["a"], in: "n", keepFor: .seconds(60))
        }
        _ = try await tier.text("x")
        #expect(!tier.isOut && other.isOut)
        primary.onCall(nil)
        if !isWhileTold { _ = try await other.remove(["a"], in: "n", keepFor: .seconds(60)) }
        // From before that change.
        _ = try await tier.put("a", "old")
        #expect(try await self.pair.join().text("a") == nil)
    }
}
