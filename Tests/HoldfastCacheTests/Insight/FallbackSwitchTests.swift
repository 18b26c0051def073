// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCache
import HoldfastCore
import HoldfastTesting
import Testing

@Suite("A tier that switches in the middle of something", .timeLimit(.minutes(5)))
struct FallbackSwitchTests {
    private let pair = TierPair()
    private let primary: PickyTier
    private let tier: FallbackTier

    init() {
        self.primary = PickyTier(self.pair.primary)
        self.tier = FallbackTier(primary: self.primary, secondary: self.pair.secondary, clock: self.pair.clock)
    }

    /// A process' cache.
    private func process(
        _ tier: any CacheTier,
        bus: MemoryCacheBus? = nil
    ) throws -> (CacheService, SharedCache<String, String>) {
        let service = try CacheService(tier: tier, bus: bus, clock: self.pair.clock)
        let cache = try service.sharedCache("n", of: String.self, keyedBy: String.self) {
            $0.options.timeToLive = .seconds(3600)
        }
        return (service, cache)
    }

    /// Has the primary fail after the next look into it.
    private func failAfterLook() {
        self.primary.onCall { [pair, primary, tier] call in
            guard call == .read else { return }
            primary.onCall(nil)
            pair.primary.fault = .fail
            await pair.notice(tier)
        }
    }

    /// Makes the numbers of a tier far higher than those of another.
    private func count(_ tier: MemoryCacheTier) async throws {
        for number in 0..<200 {
            _ = try await tier.invalidate(.tag("\(number)"), in: "n", keepFor: .seconds(36000))
        }
    }

    /// Who looks for an entry.
    enum Look: String, CaseIterable, CustomTestStringConvertible {
        case get, inspect, explain

        var testDescription: String { self.rawValue }
    }

    @Test("What a tag made invalid is not given by a look that a switch interrupts", arguments: Look.allCases)
    func straddled(_ look: Look) async throws {
        let ((one, writer), (two, reader)) = (try self.process(self.tier), try self.process(self.tier))
        defer { withExtendedLifetime((one, two)) {} }
        try await writer.set("old", for: "k", options: CacheOptions().with { $0.tags = ["t"] })
        try await writer.invalidate(tag: "t")
        self.failAfterLook()
        switch look {
        case .get: #expect(try await reader.get("k") == nil)
        case .inspect: #expect(try await TierInspector(self.tier, namespace: "n").inspect(["k"])[0].valid == nil)
        case .explain: #expect(await reader.explain("k").tier?.standing == .absent)
        }
        #expect(self.tier.isOut && self.tier.switches == 1)
    }

    @Test("A value that is set at a switch is in the tier that is used from then on")
    func setAtSwitch() async throws {
        let ((one, writer), (two, reader)) = (try self.process(self.tier), try self.process(self.tier))
        defer { withExtendedLifetime((one, two)) {} }
        // The secondary does not know the primary's mark.
        try await writer.invalidate(tag: "t")
        self.failAfterLook()
        try await writer.set("new", for: "k")
        #expect(self.tier.isOut && self.tier.counts.refusedWrites == 1)
        #expect(try await reader.get("k") == "new")
    }

    @Test("A value that the tier refuses each time is not said to be set, and nothing is left in memory")
    func refusedSet() async throws {
        let (service, cache) = try self.process(self.primary)
        defer { withExtendedLifetime(service) {} }
        try await cache.set("1", for: "k")
        self.primary.refusesWrites = true
        let error = await #expect(throws: CacheError.self) { try await cache.set("2", for: "k") }
        #expect(error?.code == .tierUnavailable)
        #expect(cache.cached("k") == nil)
    }

    @Test("News of a change in the one tier forgets what is in memory from the other, whatever their numbers")
    func newsOfTheOther() async throws {
        try await self.count(self.pair.primary)
        let (bus, near) = (MemoryCacheBus(clock: self.pair.clock), self.pair.join())
        let ((one, a), (two, b)) = (try self.process(self.tier, bus: bus), try self.process(near, bus: bus))
        try await withCacheService(one) { _ in
            try await withCacheService(two) { _ in
                #expect(await eventually { one.isListening && two.isListening })
                try await b.set("old", for: "k")
                // Only one of them does not reach the primary.
                self.primary.onCall { _ in throw CacheError(.tierUnavailable, "cut off") }
                await self.pair.notice(self.tier)
                #expect(self.tier.isOut && !near.isOut)
                try await a.remove("k")
                #expect(await eventually { b.cached("k") == nil })
            }
        }
    }

    @Test("A value that is set after a switch is not hidden by what a call from before it brings into memory")
    func setAfterSwitch() async throws {
        try await self.count(self.pair.secondary)
        let secondary = PickyTier(self.pair.secondary)
        let tier = FallbackTier(primary: self.pair.primary, secondary: secondary, clock: self.pair.clock)
        let (service, cache) = try self.process(tier)
        defer { withExtendedLifetime(service) {} }
        self.pair.primary.fault = .fail
        await self.pair.notice(tier)
        secondary.onCall { [pair] call in
            guard call == .write else { return }
            secondary.onCall(nil)
            try await pair.end(tier)
        }
        try await cache.set("old", for: "k")
        #expect(!tier.isOut)
        try await cache.set("new", for: "k")
        #expect(cache.cached("k") != "old")
        #expect(try await cache.get("k") == "new")
    }
}
