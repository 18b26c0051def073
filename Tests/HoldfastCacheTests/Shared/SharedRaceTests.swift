// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import HoldfastTesting
import Synchronization
import Testing

@testable import HoldfastCache

/// A tier whose answers are late: the work is done, and the caller hears of it when a gate opens.
private final class LateTier: CacheTier {
    let inner: MemoryCacheTier
    /// Where the next answer waits.
    let readGate = Mutex<Gate?>(nil)
    let writeGate = Mutex<Gate?>(nil)
    /// Where the next write waits before it is done.
    let writeBarrier = Mutex<Gate?>(nil)

    let clock: ManualClock

    init(_ inner: MemoryCacheTier, _ clock: ManualClock) { (self.inner, self.clock) = (inner, clock) }

    var name: String { "late" }
    var timeout: Duration? { self.inner.timeout }

    func run() async throws { try await self.inner.run() }

    func read(_ keys: [String], in namespace: String) async throws -> TierReading {
        let result = try await self.inner.read(keys, in: namespace)
        await self.readGate.withLock { $0.take() }?.pass()
        return result
    }

    func write(_ writes: [TierWrite], in namespace: String) async throws -> [TierWriteReply] {
        await self.writeBarrier.withLock { $0.take() }?.pass()
        let result = try await self.inner.write(writes, in: namespace)
        await self.writeGate.withLock { $0.take() }?.pass()
        return result
    }

    func remove(_ keys: [String], in namespace: String, keepFor: Duration) async throws -> [UInt64] {
        try await self.inner.remove(keys, in: namespace, keepFor: keepFor)
    }

    func invalidate(_ scope: InvalidationScope, in namespace: String, keepFor: Duration) async throws -> UInt64 {
        try await self.inner.invalidate(scope, in: namespace, keepFor: keepFor)
    }

    func marks(of tags: [String], in namespace: String) async throws -> [UInt64] {
        try await self.inner.marks(of: tags, in: namespace)
    }

    func keys(in namespace: String, prefix: String, after cursor: String?) async throws -> TierKeyPage {
        try await self.inner.keys(in: namespace, prefix: prefix, after: cursor)
    }
}

@Suite("What a process changes while it reads or writes the same key", .timeLimit(.minutes(5)))
struct SharedRaceTests {
    /// Two processes; the answers of the tier to the first come when the test says so.
    private func withLate(
        _ body: (LateTier, SharedCache<String, String>, SharedCache<String, String>) async throws -> Void
    ) async throws {
        let clock = ManualClock()
        let inner = MemoryCacheTier(clock: clock)
        let late = LateTier(inner, clock)
        let bus = MemoryCacheBus(clock: clock)
        let services = [
            try CacheService(tier: late, bus: bus, clock: clock), try CacheService(tier: inner, bus: bus, clock: clock),
        ]
        let caches = try services.map { service in
            try service.sharedCache("test", of: String.self, keyedBy: String.self) {
                $0.options = tenSeconds.with { $0.staleIfError = .seconds(60) }
            }
        }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for service in services { group.addTask { try await service.run() } }
            #expect(await eventually { services.allSatisfy(\.isListening) })
            try await body(late, caches[0], caches[1])
            group.cancelAll()
            try await ticking(clock) { try await group.waitForAll() }
        }
    }

    /// What the process does while its read has the old value in hand.
    enum Change: CaseIterable {
        case remove, set, updateAway, expire

        func happen(in cache: SharedCache<String, String>) async throws {
            switch self {
            case .remove: try await cache.remove("k")
            case .set: try await cache.set("set", for: "k")
            case .updateAway: try await cache.update("k") { _ in nil }
            case .expire: try await cache.expire("k")
            }
        }
    }

    @Test("a read that has found the old value does not bring it back into memory", arguments: Change.allCases)
    func lateRead(change: Change) async throws {
        try await self.withLate { tier, a, b in
            try await b.set("old", for: "k")
            let gate = Gate()
            tier.readGate.withLock { $0 = gate }
            async let read = a.get("k")
            await gate.arrived()
            try await change.happen(in: a)
            gate.open()
            _ = try await read
            let after = try await a.value(for: "k") { "new" }
            #expect(after == (change == .set ? "set" : "new"))
        }
    }

    @Test("a set whose answer is late is not in memory after a removal")
    func lateSet() async throws {
        try await self.withLate { tier, a, b in
            let gate = Gate()
            tier.writeGate.withLock { $0 = gate }
            async let set: Void = a.set("old", for: "k")
            await gate.arrived()
            try await a.remove("k")
            gate.open()
            try await set
            #expect(a.cached("k") == nil)
            let other = try await b.get("k")
            #expect(other == nil)
        }
    }

    @Test("an expiry by another process reaches a read that has found the value while it was fresh")
    func expiredElsewhere() async throws {
        try await self.withLate { tier, a, b in
            try await b.set("old", for: "k")
            let gate = Gate()
            tier.readGate.withLock { $0 = gate }
            async let read = a.value(for: "k") { "never" }
            await gate.arrived()
            try await b.expire("k")
            // One that is told after it.
            try await b.set("other", for: "other")
            #expect(await eventuallyAsync { try await a.get("other") == "other" })
            gate.open()
            _ = try await read
            #expect(await eventuallyAsync { try await a.value(for: "k") { "new" } == "new" })
        }
    }

    @Test("an expiry reaches a load of another process, though there is nothing to make stale yet")
    func expiredWhileLoaded() async throws {
        try await withNodes(2) { shared, nodes in
            let gate = Gate()
            async let load = nodes[1].cache.value(for: "a") {
                await gate.pass()
                return "old"
            }
            await gate.arrived()
            try await nodes[0].cache.expire("a")
            gate.open()
            _ = try await load
            for node in nodes {
                let value = try await ticking(shared.clock) { try await node.value("a", "new") }
                #expect(value == "new")
            }
        }
    }

    @Test("an update is not made of what a tag made invalid meanwhile, nor of what expired")
    func updateOfInvalid() async throws {
        try await self.withLate { tier, a, b in
            try await b.set("old", for: "a", options: tenSeconds.with { $0.tags = ["t"] })
            let gate = Gate()
            tier.writeBarrier.withLock { $0 = gate }
            let made = Task { try await a.update("a") { ($0 ?? "none") + "+1" } }
            await gate.arrived()
            // Between the look and the write.
            try await b.invalidate(tag: "t")
            gate.open()
            // It begins anew after a pause.
            let value = try await ticking(tier.clock) { try await made.value }
            #expect(value == "none+1")
            let other = try await b.get("a")
            #expect(other == "none+1")
        }
        let clock = ManualClock()
        let service = try CacheService(clock: clock)
        let cache = try service.cache("test", of: String.self, keyedBy: String.self) { $0.options = tenSeconds }
        for isExpired in [true, false] {
            try cache.set("old", for: "a", options: tenSeconds.with { $0.tags = ["t"] })
            let tries = Counter()
            try cache.update("a") { old in
                if tries.next() == 1 {
                    if isExpired { cache.expire("a") } else { cache.invalidate(tag: "t") }
                }
                return (old ?? "none") + "+1"
            }
            #expect(cache.cached("a") == "none+1", "\(isExpired)")
        }
    }

    @Test("what was doubted and is found to be the same is looked for once")
    func doubtEnds() async throws {
        try await withNodes(1, options: tenSeconds.with { $0.timeToLive = .seconds(3600) }) { shared, nodes in
            try await nodes[0].cache.set("v", for: "a")
            let before = shared.tier.counts.reads
            nodes[0].cache.memory.suspect()
            for _ in 0..<10 {
                let value = try await nodes[0].cache.get("a")
                #expect(value == "v")
            }
            #expect(shared.tier.counts.reads == before + 1)
        }
    }
}
