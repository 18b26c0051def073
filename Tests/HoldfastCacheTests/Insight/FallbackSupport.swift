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

    /// Has a process notice that the primary works again, and does something while it is being told.
    ///
    /// - Returns: The process, and what it sees of the primary.
    func returning(
        _ body: (FallbackTier, PickyTier) async throws -> Void
    ) async throws -> (FallbackTier, PickyTier) {
        let primary = PickyTier(self.primary)
        let tier = FallbackTier(primary: primary, secondary: self.secondary, clock: self.clock)
        _ = try await tier.put("a/1", "old")
        self.primary.fault = .fail
        await self.notice(tier)
        _ = try await tier.invalidate(.tag("t"), in: "n", keepFor: .seconds(3600))
        self.primary.fault = .none
        self.clock.advance(by: .seconds(61))
        let gate = Gate()
        primary.gate = gate
        let trial = Task { try await tier.text("x") }
        await gate.arrived()
        try await body(tier, primary)
        gate.open()
        _ = try await trial.value
        return (tier, primary)
    }

    /// What is written down of outages and was not told.
    func open() async throws -> [String] {
        let names = try await self.secondary.keys(in: "hf-outage", prefix: "", after: nil).keys
        let entries = try await self.secondary.read(names, in: "hf-outage").entries
        return zip(names, entries).filter { $0.1.payload == [1] }.map(\.0)
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
    /// What it is asked for.
    enum Call: Sendable, Hashable {
        case read, write, removal
        case invalidation(InvalidationScope)
    }

    typealias Hook = @Sendable (Call) async throws -> Void

    private struct State {
        var refusesChanges = false
        var refusesWrites = false
        var gate: Gate?
        var hook: Hook?
        var isCalling = false
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

    /// Whether writes are refused.
    var refusesWrites: Bool {
        get { self.state.withLock { $0.refusesWrites } }
        set { self.state.withLock { $0.refusesWrites = newValue } }
    }

    /// Called after a read or a write, and before a removal or an invalidation; not while it runs.
    func onCall(_ hook: Hook?) { self.state.withLock { $0.hook = hook } }

    private func called(_ call: Call) async throws {
        let hook = self.state.withLock { state -> Hook? in
            guard !state.isCalling, let hook = state.hook else { return nil }
            state.isCalling = true
            return hook
        }
        guard let hook else { return }
        defer { self.state.withLock { $0.isCalling = false } }
        try await hook(call)
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
        let reading = try await self.base.read(keys, in: namespace)
        try await self.called(.read)
        return reading
    }
    func write(_ writes: [TierWrite], in namespace: String) async throws -> [TierWriteReply] {
        if self.refusesWrites { return writes.map { _ in .refused(version: 0) } }
        let replies = try await self.base.write(writes, in: namespace)
        try await self.called(.write)
        return replies
    }
    func remove(_ keys: [String], in namespace: String, keepFor: Duration) async throws -> [UInt64] {
        try self.check()
        try await self.called(.removal)
        return try await self.base.remove(keys, in: namespace, keepFor: keepFor)
    }
    func invalidate(_ scope: InvalidationScope, in namespace: String, keepFor: Duration) async throws -> UInt64 {
        try self.check()
        try await self.called(.invalidation(scope))
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
