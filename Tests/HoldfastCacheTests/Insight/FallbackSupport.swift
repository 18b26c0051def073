// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
import HoldfastCore
import HoldfastTesting
import Synchronization

/// Two tiers, and processes that use the second while the first fails.
final class TierPair: Sendable {
    let clock = ManualClock()
    let primary: MemoryCacheTier
    let secondary: MemoryCacheTier

    init() {
        self.primary = MemoryCacheTier(name: "one", clock: self.clock)
        self.secondary = MemoryCacheTier(name: "two", clock: self.clock)
    }

    func join(life: Duration = .seconds(300)) -> FallbackTier {
        FallbackTier(primary: self.primary, secondary: self.secondary, secondaryLife: life, clock: self.clock)
    }

    /// Has a process notice that the primary fails.
    func notice(_ tier: FallbackTier) async {
        for _ in 0..<5 where !tier.isOut { _ = try? await tier.read(["x"], in: "n") }
    }

    /// Ends the outage, and has a process notice.
    func end(_ tier: FallbackTier) async throws {
        self.primary.fault = .none
        self.clock.advance(by: .seconds(61))
        _ = try await tier.read(["x"], in: "n")
    }
}

extension FallbackTier {
    func put(
        _ key: String,
        _ text: String,
        if condition: TierWrite.Condition = .always,
        token: UInt64 = 0,
        life: Duration = .seconds(3600)
    ) async throws -> TierWriteReply? {
        let write = TierWrite(
            key: key,
            payload: Array(text.utf8),
            timeToLive: life,
            condition: condition,
            token: token
        )
        return try await self.write([write], in: "n").first
    }

    func text(_ key: String) async throws -> String? {
        try await self.read([key], in: "n").entries[0].payload.map { String(decoding: $0, as: UTF8.self) }
    }
}

/// A tier that may refuse to hear of changes, or let one wait.
final class PickyTier: CacheTier {
    private struct State {
        var refusesChanges = false
        var gate: Gate?
    }

    private let base: MemoryCacheTier
    private let state = Mutex(State())
    var name: String { "picky" }

    init(_ base: MemoryCacheTier) { self.base = base }

    /// Whether removals and invalidations fail.
    var refusesChanges: Bool {
        get { self.state.withLock { $0.refusesChanges } }
        set { self.state.withLock { $0.refusesChanges = newValue } }
    }

    /// Where invalidations wait.
    var gate: Gate? {
        get { self.state.withLock { $0.gate } }
        set { self.state.withLock { $0.gate = newValue } }
    }

    private func check() throws {
        if self.refusesChanges { throw CacheError(.tierUnavailable, "picky") }
    }

    func run() async throws {}
    func read(_ keys: [String], in namespace: String) async throws -> TierReading {
        try await self.base.read(keys, in: namespace)
    }
    func write(_ writes: [TierWrite], in namespace: String) async throws -> [TierWriteReply] {
        try await self.base.write(writes, in: namespace)
    }
    func remove(_ keys: [String], in namespace: String, keepFor: Duration) async throws -> [UInt64] {
        try self.check()
        return try await self.base.remove(keys, in: namespace, keepFor: keepFor)
    }
    func invalidate(_ scope: InvalidationScope, in namespace: String, keepFor: Duration) async throws -> UInt64 {
        try self.check()
        await self.gate?.pass()
        return try await self.base.invalidate(scope, in: namespace, keepFor: keepFor)
    }
    func marks(of tags: [String], in namespace: String) async throws -> [UInt64] {
        try await self.base.marks(of: tags, in: namespace)
    }
    func keys(in namespace: String, prefix: String, after cursor: String?) async throws -> TierKeyPage {
        try await self.base.keys(in: namespace, prefix: prefix, after: cursor)
    }
}
