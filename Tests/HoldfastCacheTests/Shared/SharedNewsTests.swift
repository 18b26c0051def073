// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
import HoldfastCore
import HoldfastTesting
import Synchronization
import Testing

@Suite("What other processes change", .timeLimit(.minutes(5)))
struct SharedNewsTests {
    /// What somebody else can do to an entry that carries the tag `t` while it is being loaded.
    enum Change: CaseIterable, Sendable {
        case remove, tag, prefix, all, set

        func make(_ cache: SharedCache<String, String>) async throws {
            switch self {
            case .remove: try await cache.remove("k/1")
            case .tag: try await cache.invalidate(tag: "t")
            case .prefix: try await cache.invalidate(prefix: "k/")
            case .all: try await cache.invalidateAll()
            case .set: try await cache.set("set", for: "k/1")
            }
        }

        /// What is read after it.
        var result: String { self == .set ? "set" : "second" }
    }

    @Test("what was loaded before a change elsewhere is not given after it", arguments: Change.allCases, [true, false])
    func changedWhileLoading(change: Change, hasBus: Bool) async throws {
        try await withNodes(2, hasBus: hasBus) { (_, nodes) async throws in
            let gate = Gate()
            let first = Task {
                try await nodes[0].cache.value(for: "k/1") { context in
                    context.tags = ["t"]
                    await gate.pass()
                    return "first"
                }
            }
            await gate.arrived()
            try await change.make(nodes[1].cache)
            gate.open()
            // Who waited gets what he waited for.
            #expect(try await first.value == "first")
            let read = try await nodes[1].cache.value(for: "k/1") { context in
                context.tags = ["t"]
                return "second"
            }
            #expect(read == change.result)
            if hasBus {
                #expect(await eventuallyAsync { try await nodes[0].value("k/1", "third") == change.result })
                #expect(await eventually { nodes[0].cache.cached("k/1") == change.result })
            }
        }
    }

    @Test("a change elsewhere reaches this memory", arguments: Change.allCases)
    func changedAfterwards(change: Change) async throws {
        try await withNodes(3) { (_, nodes) async throws in
            for node in nodes {
                let value = try await node.cache.value(for: "k/1") { context in
                    context.tags = ["t"]
                    return "first"
                }
                #expect(value == "first")
                #expect(try await node.value("other", "o") == "o")
            }
            try await change.make(nodes[2].cache)
            for node in nodes {
                #expect(await eventually { node.cache.cached("k/1") != "first" })
                #expect(try await node.value("k/1", "second") == change.result)
                if change != .all { #expect(node.cache.cached("other") == "o") }
            }
        }
    }

    @Test("the namespace users never clears usersAbc, nor a prefix what only begins alike (bentocache 1.3.0)")
    func namesAreApart() async throws {
        let shared = Shared()
        let caches = try CacheService(tier: shared.tier, bus: shared.bus, clock: shared.clock)
        let users = try caches.sharedCache("users", of: String.self, keyedBy: String.self)
        let others = try caches.sharedCache("usersAbc", of: String.self, keyedBy: String.self)
        try await withCacheService(caches) { _ async throws in
            for cache in [users, others] {
                for key in ["a", "a/b", "ab"] { try await cache.set("v", for: key) }
            }
            try await users.invalidate(prefix: "a/")
            #expect(try await users.get("a/b") == nil)
            #expect(try await users.get("ab") == "v")
            try await users.invalidateAll()
            #expect(try await users.get("a") == nil)
            for key in ["a", "a/b", "ab"] { #expect(try await others.get(key) == "v") }
        }
    }

    @Test("after the bus was cut, nothing old is given: memory is checked against the tier")
    func reconnect() async throws {
        try await withNodes(2) { (shared, nodes) async throws in
            for node in nodes { #expect(try await node.value("k", "old") == "old") }
            shared.bus.isInterrupted = true
            try await nodes[1].cache.set("new", for: "k")
            shared.bus.isInterrupted = false
            #expect(await eventuallyAsync { try await nodes[0].value("k", "loaded") == "new" })
            #expect(nodes[0].statistics.loads == 1)
            // Checked once, it is believed again.
            let reads = shared.tier.counts.reads
            #expect(await eventually { nodes[0].caches.isListening })
            #expect(try await nodes[0].value("k", "loaded") == "new")
            #expect(try await nodes[0].value("k", "loaded") == "new")
            #expect(shared.tier.counts.reads <= reads + 1)
        }
    }

    @Test("while nothing is heard, nothing is believed for longer than a sweep")
    func deaf() async throws {
        try await withNodes(2) { (shared, nodes) async throws in
            for node in nodes { #expect(try await node.value("k", "old") == "old") }
            shared.bus.isInterrupted = true
            #expect(await eventually { !nodes[0].caches.isListening })
            #expect(await eventuallyAsync { try await nodes[0].value("k", "loaded") == "old" })
            try await nodes[1].cache.set("new", for: "k")
            let isNew = await eventuallyAsync {
                shared.clock.advance(by: .milliseconds(2))
                return try await nodes[0].value("k", "loaded") == "new"
            }
            #expect(isNew)
            #expect(shared.clock.elapsed < .seconds(5))
        }
    }

    @Test("a message that is lost without a word is noticed at the next one")
    func gap() async throws {
        try await withNodes(2) { (shared, nodes) async throws in
            try await nodes[1].cache.set("x", for: "warm up")
            for node in nodes { #expect(try await node.value("k", "old") == "old") }
            #expect(await eventually { shared.bus.published >= 2 })
            shared.bus.lose(next: 1)
            let published = shared.bus.published
            try await nodes[1].cache.set("new", for: "k")
            #expect(await eventually { shared.bus.published > published })
            #expect(nodes[0].cache.cached("k") == "old")
            try await nodes[1].cache.set("x", for: "something else")
            #expect(await eventuallyAsync { try await nodes[0].value("k", "loaded") == "new" })
        }
    }

    @Test("news of keys that nobody asks for cost no read of the tier, and many go in one message (FusionCache 442)")
    func lazy() async throws {
        try await withNodes(4) { (shared, nodes) async throws in
            let (reads, published) = (shared.tier.counts.reads, shared.bus.published)
            try await nodes[0].cache.remove((0..<2000).map { "k\($0)" })
            for number in 0..<1000 { try await nodes[0].cache.invalidate(tag: "t\(number % 10)") }
            try await nodes[0].cache.set("v", for: "last")
            #expect(await eventuallyAsync { try await nodes[3].cache.get("last") == "v" })
            #expect(shared.tier.counts.reads <= reads + 2)
            #expect(shared.bus.published - published < 1100)
        }
    }

    @Test("a hundred processes that hear of thousands of changes read nothing for them (FusionCache 442)")
    func flood() async throws {
        try await withNodes(100) { (shared, nodes) async throws in
            for number in 0..<10 { try await nodes[0].cache.set("old", for: "k\(number)") }
            for node in nodes { _ = try await node.cache.get("k0") }
            let (reads, published) = (shared.tier.counts.reads, shared.bus.published)
            try await withThrowingTaskGroup(of: Void.self) { group in
                for node in nodes {
                    group.addTask {
                        // Of one process at the same time, so that they can go together.
                        try await withThrowingTaskGroup(of: Void.self) { group in
                            for number in 0..<10 {
                                group.addTask { try await node.cache.remove("k\(number)") }
                                group.addTask { try await node.cache.invalidate(tag: "t\(number)") }
                            }
                            try await group.waitForAll()
                        }
                    }
                }
                try await group.waitForAll()
            }
            for node in nodes { #expect(await eventually { node.cache.cached("k0") == nil }) }
            #expect(shared.tier.counts.reads == reads)
            #expect(shared.bus.published - published < 2000)
        }
    }

    @Test("of an entry that another process loaded anew, the old one is not fresh any more")
    func refreshed() async throws {
        try await withNodes(2) { (_, nodes) async throws in
            for node in nodes { #expect(try await node.value("k", "1") == "1") }
            try await nodes[1].cache.expire("k")
            #expect(await eventually { nodes[0].cache.cached("k") == nil })
            #expect(try await nodes[1].value("k", "2") == "2")
            #expect(try await nodes[0].value("k", "3") == "2")
        }
    }

    @Test("what is expired everywhere is still given when loading fails")
    func expire() async throws {
        try await withNodes(2, options: tenSeconds.with { $0.staleIfError = .seconds(60) }) { (_, nodes) async throws in
            for node in nodes { #expect(try await node.value("k", "1") == "1") }
            try await nodes[1].cache.expire("k")
            #expect(await eventually { nodes[0].cache.cached("k") == nil })
            for node in nodes {
                let value = try await node.cache.value(for: "k") { () -> String in throw Failure() }
                #expect(value == "1")
            }
        }
    }

    @Test("hundreds of updates of one key by several processes are all counted")
    func update() async throws {
        try await withNodes(3) { (shared, nodes) async throws in
            try await withThrowingTaskGroup(of: Void.self) { group in
                for node in nodes {
                    for _ in 0..<20 {
                        group.addTask {
                            try await node.cache.update("k") { String((Int($0 ?? "0") ?? 0) + 1) }
                        }
                    }
                }
                // Pauses between attempts.
                group.addTask {
                    while !Task.isCancelled {
                        shared.clock.advance(by: .milliseconds(5))
                        try await Task.sleep(for: .milliseconds(1))
                    }
                }
                for _ in 0..<60 { try await group.next() }
                group.cancelAll()
            }
            #expect(try await nodes[0].cache.get("k") == "60")
        }
    }

    @Test("an update can remove what it found, everywhere, and refuses loads from before")
    func updateRemoves() async throws {
        try await withNodes(2) { (shared, nodes) async throws in
            for node in nodes {
                let value = try await node.value("k", "old")
                #expect(value == "old")
                #expect(node.cache.contains("k"))
            }
            let kept = try await nodes[0].cache.update("k") { $0 == "old" ? nil : $0 }
            #expect(kept == nil)
            #expect(!nodes[0].cache.contains("k"))
            let isGone = await eventually { !nodes[1].cache.contains("k") }
            #expect(isGone)
            for node in nodes {
                let value = try await node.cache.get("k")
                #expect(value == nil)
            }
            let explained = await nodes[1].cache.explain("k")
            #expect(explained.tier?.standing == .removed)
            let content = try await TierInspector(shared.tier, namespace: "test").inspect(["k"]).first?.content
            guard case .tombstone? = content else {
                Issue.record("operators see \(content as Any)")
                return
            }
        }
    }

    @Test("what an update removed is not brought back by a load from before, though nothing was there")
    func updateRefuses() async throws {
        try await withNodes(2, hasBus: false, hasLocks: false) { (shared, nodes) async throws in
            let gate = Gate()
            let slow = Task {
                try await nodes[1].cache.value(for: "k") {
                    await gate.pass()
                    return "slow"
                }
            }
            await gate.arrived()
            try await nodes[0].cache.update("k") { _ in nil }
            shared.clock.advance(by: .seconds(20))
            gate.open()
            let slowly = try await slow.value
            #expect(slowly == "slow")
            let new = try await nodes[0].value("k", "new")
            #expect(new == "new")
        }
    }

    @Test("removals by updates lose no value that somebody set meanwhile")
    func updatesThatRemove() async throws {
        try await withNodes(2, options: CacheOptions()) { (shared, nodes) async throws in
            let (taken, count) = (Kept<String>(), 30)
            // Slowly: a call to the tier that a busy machine holds up must not run out of its time.
            try await ticking(shared.clock, by: .milliseconds(10)) {
                try await withThrowingTaskGroup(of: Void.self) { group in
                    group.addTask {
                        for number in 0..<count {
                            // Only where there is nothing: each is there until it is taken.
                            while try await nodes[0].cache.update("k", { $0 ?? "\(number)" }) != "\(number)" {
                                await Task.yield()
                            }
                        }
                    }
                    group.addTask {
                        while taken.all.count < count {
                            try Task.checkCancellation()
                            var seen: String?
                            try await nodes[1].cache.update("k") { old in
                                seen = old
                                return nil
                            }
                            if let seen { taken.add(seen) }
                            // Neither may keep a thread for itself: the clock needs one.
                            await Task.yield()
                        }
                    }
                    try await group.waitForAll()
                }
            }
            #expect(taken.all == (0..<count).map(String.init))
        }
    }

    @Test("a set that fails leaves no old value in this memory")
    func setFails() async throws {
        try await withNodes(1) { (shared, nodes) async throws in
            try await nodes[0].cache.set("old", for: "k")
            shared.tier.fault = .fail
            await #expect(throws: CacheError.self) { try await nodes[0].cache.set("new", for: "k") }
            #expect(nodes[0].cache.cached("k") == nil)
            await #expect(throws: CacheError.self) { try await nodes[0].cache.remove("k") }
            await #expect(throws: CacheError.self) { try await nodes[0].cache.invalidateAll() }
        }
    }
}
