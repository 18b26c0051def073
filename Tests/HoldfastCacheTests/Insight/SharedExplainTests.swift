// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCache
import HoldfastCore
import HoldfastTesting
import Testing

@Suite("Explaining a key of a shared cache", .timeLimit(.minutes(5)))
struct SharedExplainTests {
    @Test("Shows the entry of the tier, and where the value in memory came from")
    func tier() async throws {
        try await withNodes(2) { shared, nodes in
            _ = try await nodes[0].cache.value(for: "a") { context in
                context.tags = ["t"]
                return "secret"
            }
            shared.clock.advance(by: .seconds(3))
            var now = await nodes[1].cache.explain("a")
            #expect(now.verdict == .absent && now.entry == nil)
            let tier = try #require(now.tier)
            #expect(tier.standing == .fresh && tier.age == .seconds(3) && tier.freshFor == .seconds(7))
            #expect(tier.codec == 1 && tier.tags == ["t"] && tier.size > 50 && tier.version > 0)
            #expect(now.lock?.holders.isEmpty == true)
            #expect(!now.description.contains("secret"))
            _ = try await nodes[1].value("a", "other")
            now = await nodes[1].cache.explain("a")
            #expect(now.verdict == .hit && now.entry?.origin == .tier && now.entry?.version == tier.version)
            #expect(await nodes[0].cache.explain("a").entry?.origin == .loader)
        }
    }

    @Test("Says after a load who led it: this process under its lock, or one that wrote to the tier")
    func lastLoad() async throws {
        try await withNodes(2) { shared, nodes in
            let tokens = Kept<FencingToken?>()
            _ = try await nodes[0].cache.value(for: "a") { context in
                tokens.add(context.fencingToken)
                return "v"
            }
            _ = try await nodes[0].cache.values(for: ["b"]) { _ in ["b": "v"] }
            _ = try await nodes[1].value("a", "never")
            shared.clock.advance(by: .seconds(3))
            let a = await nodes[0].cache.explain("a")
            let led = try #require(a.lastLoad)
            guard case .thisProcess(let owner?, let token?) = led.leader else {
                Issue.record("led by \(led.leader)")
                return
            }
            #expect(token == tokens.all.first ?? nil)
            #expect(owner.process == nodes[0].locks.identity)
            #expect(led.ago == .seconds(3))
            let sentence = "last load: 3.0 s ago, led by this process as \(owner), token \(token.rawValue)"
            #expect(a.description.contains(sentence))
            let b = await nodes[0].cache.explain("b")
            guard case .thisProcess(.some, .some)? = b.lastLoad?.leader else {
                Issue.record("nobody led the load of several keys")
                return
            }
            let taken = await nodes[1].cache.explain("a")
            #expect(taken.lastLoad?.leader == .throughTier)
            #expect(taken.description.contains("last load: 3.0 s ago, taken from the tier"))
            let never = await nodes[1].cache.explain("b")
            #expect(never.lastLoad == nil)
        }
    }

    @Test("Asking counts no look into the tier, and puts nothing into memory")
    func changesNothing() async throws {
        try await withNodes(2) { _, nodes in
            _ = try await nodes[0].value("a", "v")
            let before = nodes[1].statistics
            _ = await nodes[1].cache.explain("a")
            #expect(nodes[1].statistics == before)
            #expect(nodes[1].cache.cached("a") == nil)
        }
    }

    @Test("Says why an entry of the tier is not usable")
    func unusable() async throws {
        try await withNodes(1) { shared, nodes in
            let cache = nodes[0].cache
            func standing(_ key: String) async -> CacheExplanation.Tier.Standing? {
                await cache.explain(key).tier?.standing
            }
            for key in ["removed", "user/1", "tagged", "old"] {
                _ = try await cache.value(for: key) { context in
                    if key == "tagged" { context.tags = ["t"] }
                    return "v"
                }
            }
            #expect(await standing("none") == .absent)
            try await cache.remove("removed")
            #expect(await standing("removed") == .removed)
            try await cache.invalidate(tag: "t")
            #expect(await standing("tagged") == .invalidated(.tag("t")))
            try await cache.invalidate(prefix: "user/")
            #expect(await standing("user/1") == .invalidated(.prefix("user/")))
            #expect(await standing("old") == .fresh)
            try await cache.invalidateAll()
            #expect(await standing("old") == .invalidated(.all))
            _ = try await shared.tier.write(
                [TierWrite(key: "odd", payload: Array("hello".utf8), timeToLive: .seconds(60))],
                in: "test"
            )
            guard case .unreadable? = await standing("odd") else {
                Issue.record("bytes of somebody else are said to be readable")
                return
            }
            #expect(await standing(String(repeating: "k", count: 2000)) == .unshareable)
            shared.tier.fault = .fail
            #expect(await standing("old") == .unavailable("CacheError(tierUnavailable)"))
        }
    }

    @Test("Names the process that loads a key")
    func leader() async throws {
        try await withNodes(2) { _, nodes in
            let gate = Gate()
            async let value = nodes[0].cache.value(for: "a") {
                await gate.pass()
                return "v"
            }
            await gate.arrived()
            let now = await nodes[1].cache.explain("a")
            let holder = try #require(now.lock?.holders.first)
            #expect(holder.owner?.process == nodes[0].locks.identity)
            #expect(now.description.contains("held by"))
            gate.open()
            _ = try await value
            // And who did, once it is over, in whichever process one asks.
            #expect(try await nodes[1].cache.value(for: "a") { "other" } == "v")
            for node in nodes {
                let then = await node.cache.explain("a")
                #expect(then.tier?.writer == nodes[0].locks.identity.name)
                #expect(then.description.contains(" by \(nodes[0].locks.identity.name), "))
            }
        }
    }

    @Test("A change by another process is told from one of our own")
    func elsewhere() async throws {
        try await withNodes(2) { _, nodes in
            for node in nodes { _ = try await node.value("a", "v") }
            try await nodes[0].cache.remove("a")
            #expect(nodes[0].cache.cached("a") == nil)
            #expect(await eventually { nodes[1].cache.cached("a") == nil })
            #expect(await nodes[0].cache.explain("a").history.first?.cause == .removed)
            #expect(await nodes[1].cache.explain("a").history.first?.cause == .changedElsewhere)
        }
    }

    @Test("After a gap in the news, what is in memory is said to be suspect")
    func suspect() async throws {
        try await withNodes(1) { shared, nodes in
            _ = try await nodes[0].value("a", "v")
            #expect(await nodes[0].cache.explain("a").verdict == .hit)
            shared.bus.isInterrupted = true
            #expect(await eventually { !nodes[0].caches.isListening })
            var verdict = await nodes[0].cache.explain("a").verdict
            for _ in 0..<1000 where verdict != .suspect {
                await Task.yield()
                verdict = await nodes[0].cache.explain("a").verdict
            }
            #expect(verdict == .suspect)
        }
    }
}
