// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCache
import HoldfastCore
import HoldfastTesting
import Testing

/// Callers who leave at any moment of a load, and callers who meet at its end, on a network that takes its time.
@Suite("No lock and no load is left behind", .timeLimit(.minutes(5)))
struct SharedLeakTests {
    /// Each message takes some milliseconds of the test's clock, so that each step of a load can be caught under way.
    private static func slowNetwork(_ shared: Shared, _ nodes: [Node], seed: UInt64) {
        var plan = FaultPlan()
        plan.delay = .milliseconds(1) ... .milliseconds(2)
        for node in nodes { node.store.plan = plan }
        shared.tier.fault = .delay(.milliseconds(2 + Int64(seed % 2)))
    }

    /// Lets time pass in steps of a millisecond, each of which everybody uses.
    private static func pass(_ milliseconds: Int, _ clock: ManualClock) async {
        for _ in 0..<milliseconds {
            clock.advance(by: .milliseconds(1))
            for _ in 0..<50 { await Task.yield() }
        }
    }

    /// Lets time pass until something is so.
    private static func pass(until holds: () -> Bool, _ clock: ManualClock) async -> Bool {
        for _ in 0..<2000 {
            if holds() { return true }
            clock.advance(by: .milliseconds(1))
            try? await Task.sleep(for: .microseconds(200))
        }
        return holds()
    }

    @Test(
        "a caller who is cancelled at any step of a load leaves no lock and no load (FusionCache 218)",
        arguments: [CacheOptions.Abandonment.cancel, .finish]
    )
    func cancelledAnywhere(abandonment: CacheOptions.Abandonment) async throws {
        let options = tenSeconds.with { $0.abandonment = abandonment }
        var cutShort = 0
        for seed: UInt64 in 0..<30 {
            try await withNodes(2, options: options) { (shared, nodes) async throws in
                Self.slowNetwork(shared, nodes, seed: seed)
                let caller = Task {
                    try await nodes[0].cache.value(for: "k") {
                        try await shared.clock.sleep(until: shared.clock.now + .milliseconds(3), tolerance: nil)
                        return "v"
                    }
                }
                // A look, the lock, a look, the loader, the write, the release: about thirty milliseconds.
                await Self.pass(Int(seed) + 1, shared.clock)
                caller.cancel()
                let isOver = await Self.pass(until: { nodes[0].caches.report().loads == 0 }, shared.clock)
                #expect(isOver, "a load goes on, seed \(seed)")
                let result = await caller.result
                if case .failure = result { cutShort += 1 }
                let isFree = await Self.pass(until: { shared.server.residue().isEmpty }, shared.clock)
                #expect(isFree, "a lock is held, seed \(seed)")
                #expect(shared.clock.elapsed < .seconds(2), "it was given back, and did not just end")
                // In this process and in another, the next one loads as if nothing had been.
                try await nodes[0].cache.remove("k", ticking: shared.clock)
                for node in nodes {
                    let next = try await ticking(shared.clock) { try await node.value("k", "next") }
                    #expect(next == "next", "seed \(seed)")
                }
            }
        }
        // Otherwise the steps were over before anybody was cancelled, and nothing was tested.
        #expect(cutShort > 10)
    }

    @Test("three callers who release and take the lock at the same moment all get a value (aiocache 979)")
    func threeCallers() async throws {
        for seed: UInt64 in 0..<12 {
            let options = tenSeconds.with { $0.coordination = .distributed }
            try await withNodes(3, options: options) { (shared, nodes) async throws in
                Self.slowNetwork(shared, nodes, seed: seed)
                let values = Kept<String>()
                try await ticking(shared.clock) {
                    try await withThrowingTaskGroup(of: Void.self) { group in
                        for (number, node) in nodes.enumerated() {
                            group.addTask {
                                var generator = SeededGenerator(seed: seed * 3 + UInt64(number))
                                for round in 0..<8 {
                                    let pause = generator.duration(in: .zero ... .milliseconds(12))
                                    try await shared.clock.sleep(until: shared.clock.now + pause, tolerance: nil)
                                    values.add(try await node.value("k", "\(number) \(round)"))
                                    // So that the next round is a race for the lock again.
                                    if generator.chance(0.5) { try await node.cache.remove("k") }
                                }
                            }
                        }
                        try await group.waitForAll()
                    }
                }
                #expect(values.all.count == 24)
                let isFree = await Self.pass(until: { shared.server.residue().isEmpty }, shared.clock)
                #expect(isFree, "a lock is held, seed \(seed)")
                #expect(nodes.allSatisfy { $0.statistics.loadFailures == 0 && $0.statistics.unlockedFills == 0 })
            }
        }
    }
}

extension SharedCache<String, String> {
    /// Removes a key while time passes.
    fileprivate func remove(_ key: String, ticking clock: ManualClock) async throws {
        try await HoldfastCacheTests.ticking(clock) { try await self.remove(key) }
    }
}
