// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
import HoldfastCore
import HoldfastTesting
import Testing

@Suite("Loads ahead of the end and stale values in a shared cache", .timeLimit(.minutes(5)))
struct SharedRefreshTests {
    private static let halfway = tenSeconds.with { $0.refreshAhead = .after(fraction: 0.5) }

    /// Reads a key some times, and gives what is loaded off the readers' path time to land.
    private func read(_ node: Node, _ value: String, runs: Counter) async throws -> String {
        var got = ""
        for _ in 0..<10 {
            got = try await node.value("k", value, runs: runs)
            #expect(await eventually { node.caches.report().loads == 0 })
        }
        return got
    }

    @Test(
        "what is due is loaded anew though the tier has it fresh, once and off the readers' path",
        arguments: [true, false]
    )
    func ahead(hasLocks: Bool) async throws {
        try await withNodes(1, options: Self.halfway, hasLocks: hasLocks) { (shared, nodes) async throws in
            let runs = Counter()
            _ = try await nodes[0].value("k", "old", runs: runs)
            shared.clock.advance(by: .seconds(6))
            let reads = shared.tier.counts.reads
            let first = try await nodes[0].value("k", "new", runs: runs)
            #expect(first == "old")
            #expect(await eventually { nodes[0].cache.cached("k") == "new" })
            let last = try await self.read(nodes[0], "newer", runs: runs)
            #expect(last == "new")
            #expect(runs.value == 2)
            // One look, and under a lock another one.
            #expect(shared.tier.counts.reads - reads <= 2)
        }
    }

    @Test("with XFetch too")
    func probably() async throws {
        let options = tenSeconds.with { $0.refreshAhead = .probabilistic(beta: 100) }
        try await withNodes(1, options: options) { (shared, nodes) async throws in
            let runs = Counter()
            _ = try await nodes[0].cache.value(for: "k") {
                runs.next()
                shared.clock.advance(by: .milliseconds(500))
                return "old"
            }
            // Reads win the draw unless that is below 0.012, here and in what the tier says of the entry.
            shared.clock.advance(by: .milliseconds(9400))
            _ = try await self.read(nodes[0], "new", runs: runs)
            #expect(runs.value > 1)
        }
    }

    @Test("of several processes one loads ahead of the end, and the others get what it loaded")
    func oneForAll() async throws {
        try await withNodes(3, options: Self.halfway) { (shared, nodes) async throws in
            let (gate, runs) = (Gate(), Counter())
            for node in nodes { _ = try await node.value("k", "old", runs: runs) }
            #expect(runs.value == 1)
            shared.clock.advance(by: .seconds(6))
            let first = try await nodes[0].cache.value(for: "k") {
                runs.next()
                await gate.pass()
                return "new"
            }
            #expect(first == "old")
            await gate.arrived()
            for node in nodes[1...] {
                let meanwhile = try await self.read(node, "other", runs: runs)
                #expect(meanwhile == "old")
            }
            gate.open()
            #expect(await eventually { nodes[0].cache.cached("k") == "new" })
            for node in nodes {
                #expect(await eventually { node.cache.cached("k") != "old" })
                let last = try await self.read(node, "other", runs: runs)
                #expect(last == "new")
            }
            #expect(runs.value == 2)
        }
    }
}
