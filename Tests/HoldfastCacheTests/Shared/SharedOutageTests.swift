// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
import HoldfastCore
import HoldfastTesting
import Testing

@Suite("Caches without their tier or locks", .timeLimit(.minutes(5)))
struct SharedOutageTests {
    @Test("without its tier, a process goes on by itself, and asks it again only now and then")
    func tierDown() async throws {
        try await withNodes(2) { (shared, nodes) async throws in
            shared.tier.fault = .fail
            for number in 0..<20 { #expect(try await nodes[0].value("k\(number)", "v") == "v") }
            #expect(nodes[0].cache.cached("k0") == "v")
            #expect(nodes[0].statistics.tierFailures >= 20)
            // Three failures open the breaker, and each read is tried twice.
            #expect(shared.tier.counts.reads + shared.tier.counts.writes <= 6)
            let hasTold = nodes[0].log.all.contains { if case .tierOutage = $0 { true } else { false } }
            #expect(hasTold)
            shared.tier.fault = .none
            shared.clock.advance(by: .seconds(2))
            #expect(try await nodes[0].value("again", "v") == "v")
            #expect(try await nodes[1].value("again", "other") == "v")
        }
    }

    @Test("what is only doubted is given while the tier does not answer, so that the source does not get all the work")
    func doubtWithoutTier() async throws {
        try await withNodes(1) { (shared, nodes) async throws in
            #expect(try await nodes[0].value("k", "1") == "1")
            shared.bus.isInterrupted = true
            #expect(await eventually { !nodes[0].caches.isListening })
            shared.tier.fault = .fail
            let hasDoubted = await eventuallyAsync {
                shared.clock.advance(by: .milliseconds(2))
                let value = try await nodes[0].value("k", "2")
                #expect(value == "1")
                return nodes[0].statistics.staleServes > 0
            }
            #expect(hasDoubted)
            #expect(nodes[0].statistics.loads == 1)
        }
    }

    @Test("a reply of the tier that is lost makes no value old, and none is given twice its life")
    func lostReplies() async throws {
        try await withNodes(2) { (shared, nodes) async throws in
            shared.tier.fault = .loseReplies
            #expect(try await nodes[0].value("k", "1") == "1")
            shared.tier.fault = .none
            shared.clock.advance(by: .seconds(2))
            let value = try await nodes[1].value("k", "2")
            #expect(value == "1" || value == "2")
        }
    }

    @Test("what lies in the tier and is no entry of ours is a miss, and is counted")
    func unreadable() async throws {
        try await withNodes(2) { (shared, nodes) async throws in
            #expect(try await nodes[0].value("k", "1") == "1")
            let reading = try await shared.tier.read(["k"], in: "test")
            let bytes = try #require(reading.entries.first?.payload)
            for place in bytes.indices {
                for bit in 0..<8 {
                    var damaged = bytes
                    damaged[place] ^= 1 << UInt8(bit)
                    try await self.expectMiss(damaged, shared, nodes[1])
                }
            }
            for count in [0, 1, 4, bytes.count / 2, bytes.count - 1] {
                try await self.expectMiss(Array(bytes.prefix(count)), shared, nodes[1])
            }
            try await self.expectMiss(Array("{\"an\":\"older program\"}".utf8), shared, nodes[1])
            // Each bit of a byte, each cut, and what is no entry at all.
            #expect(nodes[1].statistics.unreadable == UInt64(bytes.count * 8 + 6))
            // Loaded anew, it is there again.
            #expect(try await nodes[1].value("k", "2") == "2")
            #expect(try await nodes[0].cache.get("k") != nil)
        }
    }

    private func expectMiss(_ bytes: [UInt8], _ shared: Shared, _ node: Node) async throws {
        let write = TierWrite(key: "k", payload: bytes, timeToLive: .seconds(100), condition: .always, token: 0)
        _ = try await shared.tier.write([write], in: "test")
        let value = try await node.cache.get("k")
        #expect(value == nil)
    }

    /// The lock store is gone from here on; calls fail when the clock goes on.
    private func cutOff(_ node: Node) { node.store.setCutOff(true) }

    private func value(_ node: Node, _ shared: Shared, options: CacheOptions, loads text: String) async throws -> String
    {
        try await ticking(shared.clock) { try await node.cache.value(for: "k", options: options) { text } }
    }

    @Test("without locks each process loads by itself, and says so; the locks are not waited for again and again")
    func locksDown() async throws {
        try await withNodes(1) { (shared, nodes) async throws in
            self.cutOff(nodes[0])
            for _ in 0..<3 {
                #expect(try await self.value(nodes[0], shared, options: tenSeconds, loads: "v") == "v")
                try await nodes[0].cache.remove("k")
            }
            // From here on the clock stands still: whoever asked the locks would wait for ever.
            for _ in 0..<7 {
                #expect(try await nodes[0].value("k", "v") == "v")
                try await nodes[0].cache.remove("k")
            }
            #expect(nodes[0].statistics.unlockedFills == 10)
        }
    }

    @Test("without locks, what the options say decides")
    func lockOutage() async throws {
        try await withNodes(1) { (shared, nodes) async throws in
            self.cutOff(nodes[0])
            let fail = tenSeconds.with { $0.lockOutage = .fail }
            do {
                _ = try await self.value(nodes[0], shared, options: fail, loads: "v")
                Issue.record("it must not load")
            } catch let error as CacheError {
                #expect(error.code == .lockUnavailable)
            }
            // The failure is remembered for a moment.
            shared.clock.advance(by: .seconds(1))
            let stale = tenSeconds.with { $0.lockOutage = .serveStale }
            #expect(try await self.value(nodes[0], shared, options: stale, loads: "v") == "v")
        }
    }

    @Test(
        "a stale value that is given for want of a lock is counted as that, and no load as failed",
        arguments: [CacheOptions.LockOutage.serveStale, .fail]
    )
    func staleForWantOfALock(outage: CacheOptions.LockOutage) async throws {
        let options = tenSeconds.with {
            $0.staleIfError = .seconds(60)
            $0.lockOutage = outage
        }
        try await withNodes(1, options: options) { (shared, nodes) async throws in
            #expect(try await nodes[0].value("k", "old") == "old")
            shared.clock.advance(by: .seconds(11))
            self.cutOff(nodes[0])
            #expect(try await self.value(nodes[0], shared, options: options, loads: "new") == "old")
            let reasons = nodes[0].log.all.compactMap { event in
                if case .staleServed(_, let reason) = event { reason } else { nil }
            }
            #expect(reasons == [.lockOutage])
            #expect(nodes[0].statistics.staleServes == 1 && nodes[0].statistics.loadFailures == 0)
            let hasFailed = nodes[0].log.all.contains { if case .loadFailed = $0 { true } else { false } }
            #expect(!hasFailed)
        }
    }
}
