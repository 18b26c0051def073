// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCache
import HoldfastCore
import HoldfastTesting
import Synchronization
import Testing

@Suite("Loads of several processes", .timeLimit(.minutes(5)))
struct SharedFillTests {
    @Test(
        "five processes load a cold key once, and those who wait are woken and do not poll",
        arguments: [true, false]
    )
    func once(hasBus: Bool) async throws {
        try await withNodes(5, hasBus: hasBus) { (shared, nodes) async throws in
            let (gate, runs) = (Gate(), Counter())
            try await withThrowingTaskGroup(of: String.self) { group in
                for node in nodes {
                    for _ in 0..<20 {
                        group.addTask {
                            try await node.cache.value(for: "k") {
                                runs.next()
                                await gate.pass()
                                return "v"
                            }
                        }
                    }
                }
                await gate.arrived()
                #expect(await eventually { nodes.map { $0.statistics.misses }.reduce(0, +) == 100 })
                // The clock stands still from here to the end: whoever polled would wait for ever.
                gate.open()
                for try await value in group { #expect(value == "v") }
            }
            #expect(runs.value == 1)
            #expect(shared.tier.counts.writes == 1)
            #expect(nodes.map { $0.statistics.loads }.reduce(0, +) == 1)
            #expect(nodes.map { $0.statistics.tierHits }.reduce(0, +) == 4)
            for node in nodes { #expect(node.cache.cached("k") == "v") }
        }
    }

    @Test("one slow key does not hold up another, in any process (spring-data-redis 2890)")
    func keysAreApart() async throws {
        try await withNodes(2) { (_, nodes) async throws in
            let gate = Gate()
            async let slow = nodes[0].cache.value(for: "slow") {
                await gate.pass()
                return "late"
            }
            await gate.arrived()
            for node in nodes { #expect(try await node.value("quick", "v") == "v") }
            gate.open()
            #expect(try await slow == "late")
        }
    }

    @Test("when the process that loads dies, another loads after its lease, and its late write is refused")
    func takeover() async throws {
        try await withNodes(3, fillLease: .seconds(2)) { (shared, nodes) async throws in
            let (first, second) = (Gate(), Gate())
            let tokens = Kept<FencingToken?>()
            let dead = Task {
                try await nodes[0].cache.value(for: "k") { context in
                    tokens.add(context.fencingToken)
                    await first.pass()
                    return "old"
                }
            }
            await first.arrived()
            let next = Task {
                try await nodes[1].cache.value(for: "k") { context in
                    tokens.add(context.fencingToken)
                    await second.pass()
                    return "new"
                }
            }
            #expect(await eventually { nodes[1].statistics.misses == 1 && nodes[1].store.calls > 0 })
            nodes[0].store.setCutOff(true)
            #expect(second.arrivals == 0)
            // The lease, and what a clock may be off.
            for _ in 0..<24 {
                shared.clock.advance(by: .milliseconds(100))
                try await Task.sleep(for: .milliseconds(2))
            }
            await second.arrived()
            // The dead one comes back and gives its lock away: not the other's, or a third would load.
            nodes[0].store.setCutOff(false)
            let third = Task { try await nodes[2].value("k", "third") }
            #expect(await eventually { nodes[2].statistics.misses == 1 })
            second.open()
            #expect(try await next.value == "new")
            #expect(try await third.value == "new")
            first.open()
            #expect(try await dead.value == "old")
            #expect(nodes[0].statistics.supersededLoads == 1)
            #expect(nodes[0].cache.cached("k") == nil)
            for node in nodes { #expect(try await node.value("k", "again") == "new") }
            let got = tokens.all
            #expect(got.count == 2)
            if let one = got.first ?? nil, let two = got.last ?? nil { #expect(one < two) }
        }
    }

    @Test("a removal refuses a load that began before it for as long as any call may take")
    func longLoad() async throws {
        try await withNodes(2, hasBus: false, hasLocks: false) { (shared, nodes) async throws in
            let gate = Gate()
            let options = tenSeconds.with { $0.hardDeadline = CacheLimits.longestLoad }
            let slow = Task {
                try await nodes[0].cache.value(for: "k", options: options) {
                    await gate.pass()
                    return "old"
                }
            }
            await gate.arrived()
            try await nodes[1].cache.remove("k")
            shared.clock.advance(by: CacheLimits.longestLoad - .seconds(1))
            gate.open()
            let (old, new) = (try await slow.value, try await nodes[1].value("k", "new"))
            #expect(old == "old")
            #expect(new == "new")
        }
    }

    @Test("a load from before a removal gives its lock back at once, wherever the key was removed", arguments: [0, 1])
    func supersededLock(remover: Int) async throws {
        try await withNodes(2) { (shared, nodes) async throws in
            let gate = Gate()
            let old = Task {
                try await nodes[0].cache.value(for: "k") {
                    await gate.pass()
                    return "old"
                }
            }
            await gate.arrived()
            try await nodes[remover].cache.remove("k")
            let start = shared.clock.now
            let fresh = try await ticking(shared.clock) { try await nodes[remover].value("k", "new") }
            #expect(fresh == "new")
            #expect(start.duration(to: shared.clock.now) < .seconds(2))
            gate.open()
            let late = try await old.value
            #expect(late == "old")
            let last = try await nodes[1].value("k", "other")
            #expect(last == "new")
        }
    }

    @Test("who gives up at his own short deadline leaves the key to those who wait longer")
    func shortDeadline() async throws {
        try await withNodes(2) { (shared, nodes) async throws in
            let (gate, runs) = (Gate(), Counter())
            let hasty = Task {
                try await nodes[0].cache.value(for: "k", options: tenSeconds.with { $0.hardDeadline = .seconds(1) }) {
                    await gate.pass()
                    return "never"
                }
            }
            await gate.arrived()
            let patient = Task { try await nodes[1].value("k", "v", runs: runs) }
            #expect(await eventually { nodes[1].statistics.misses == 1 })
            shared.clock.advance(by: .seconds(1))
            await #expect(throws: CacheError.self) { try await hasty.value }
            #expect(try await patient.value == "v")
            #expect(runs.value == 1)
            gate.open()
            #expect(await eventually { nodes[0].statistics.abandonedLoads == 1 })
            #expect(try await nodes[1].value("k", "other") == "v")
        }
    }

    @Test("a loader that throws frees the key for the next process at once")
    func failure() async throws {
        try await withNodes(2) { (_, nodes) async throws in
            let gate = Gate()
            let failing = Task {
                try await nodes[0].cache.value(for: "k") { () -> String in
                    await gate.pass()
                    throw Failure(number: 1)
                }
            }
            await gate.arrived()
            let next = Task { try await nodes[1].value("k", "v") }
            #expect(await eventually { nodes[1].statistics.misses == 1 })
            gate.open()
            await #expect(throws: Failure(number: 1)) { try await failing.value }
            #expect(try await next.value == "v")
        }
    }

    @Test("a caller who leaves while the process waits for its turn leaves nothing behind")
    func leaves() async throws {
        try await withNodes(3) { (_, nodes) async throws in
            let (gate, runs) = (Gate(), Counter())
            let leader = Task {
                try await nodes[0].cache.value(for: "k") {
                    await gate.pass()
                    throw Failure(number: 1)
                }
            }
            await gate.arrived()
            let calls = nodes[1].store.calls
            let leaver = Task { try await nodes[1].value("k", "never", runs: runs) }
            #expect(await eventually { nodes[1].store.calls > calls })
            leaver.cancel()
            await #expect(throws: CancellationError.self) { try await leaver.value }
            gate.open()
            _ = await leader.result
            #expect(try await nodes[2].value("k", "v") == "v")
            #expect(runs.value == 0)
        }
    }

    @Test("of a stale value, one process loads it anew, and the others do not wait for him")
    func staleInTheBackground() async throws {
        let options = tenSeconds.with { $0.staleWhileRevalidate = .seconds(60) }
        try await withNodes(3, options: options) { (shared, nodes) async throws in
            for node in nodes { #expect(try await node.value("k", "old") == "old") }
            shared.clock.advance(by: .seconds(11))
            let (gate, runs) = (Gate(), Counter())
            for _ in 0..<5 {
                for node in nodes {
                    let value = try await node.cache.value(for: "k") {
                        runs.next()
                        await gate.pass()
                        return "new"
                    }
                    #expect(value == "old")
                }
            }
            await gate.arrived()
            gate.open()
            let hasNews = await eventually {
                nodes.allSatisfy {
                    $0.cache.cached("k") == "new" || $0.statistics.misses > 1 || $0.cache.cached("k") == nil
                }
            }
            #expect(hasNews)
            #expect(await eventually { nodes.map { $0.statistics.loads }.reduce(0, +) == 2 })
            #expect(runs.value == 1)
            for node in nodes {
                let isNew = await eventuallyAsync { try await node.value("k", "other") == "new" }
                #expect(isNew)
            }
            #expect(runs.value == 1)
        }
    }

    @Test("an entry lives as long elsewhere as where it was loaded")
    func age() async throws {
        try await withNodes(2) { (shared, nodes) async throws in
            #expect(try await nodes[0].value("k", "1") == "1")
            shared.clock.advance(by: .seconds(6))
            #expect(try await nodes[1].value("k", "2") == "1")
            shared.clock.advance(by: .seconds(3))
            #expect(nodes[1].cache.cached("k") == "1")
            shared.clock.advance(by: .seconds(2))
            #expect(nodes[1].cache.cached("k") == nil)
            #expect(try await nodes[1].value("k", "3") == "3")
        }
    }

    @Test("that there is nothing is known to all")
    func negative() async throws {
        try await withNodes(2) { (_, nodes) async throws in
            await #expect(throws: NotFound.self) {
                try await nodes[0].cache.value(for: "k") { () -> String in throw NotFound() }
            }
            await #expect(throws: NotFound.self) { try await nodes[1].value("k", "v") }
            #expect(nodes[1].statistics.loads == 0)
        }
    }

    @Test("a value that is too large to be shared is kept here, and loaded by each process once")
    func tooLarge() async throws {
        try await withNodes(2, maximumSharedValue: 100) { (shared, nodes) async throws in
            let large = String(repeating: "x", count: 200)
            for node in nodes {
                for _ in 0..<2 { #expect(try await node.value("k", large) == large) }
                #expect(node.statistics.loads == 1)
                #expect(node.statistics.unshared == 1)
            }
            #expect(shared.tier.counts.writes == 0)
            await #expect(throws: CacheError.self) { try await nodes[0].cache.set(large, for: "k") }
        }
    }

    @Test("a key that no tier can have is loaded all the same")
    func strangeKey() async throws {
        try await withNodes(1) { (shared, nodes) async throws in
            let key = String(repeating: "k", count: CacheLimits.maximumKey + 1)
            #expect(try await nodes[0].value(key, "v") == "v")
            #expect(nodes[0].cache.cached(key) == "v")
            #expect(shared.tier.counts.reads == 0)
        }
    }

    @Test("many processes, many keys, all at once: each is loaded once")
    func stress() async throws {
        try await withNodes(4) { (shared, nodes) async throws in
            let runs = Kept<String>()
            try await withThrowingTaskGroup(of: Void.self) { group in
                for node in nodes {
                    for number in 0..<100 {
                        group.addTask {
                            let key = "k\(number)"
                            let value = try await node.cache.value(for: key) {
                                runs.add(key)
                                await Task.yield()
                                return "v\(number)"
                            }
                            #expect(value == "v\(number)")
                        }
                    }
                }
                try await group.waitForAll()
            }
            #expect(runs.all.sorted() == (0..<100).map { "k\($0)" }.sorted())
        }
    }

    @Test("of many keys, one loader gets those that no other process has or is loading")
    func bulk() async throws {
        try await withNodes(2) { (shared, nodes) async throws in
            let gate = Gate()
            #expect(try await nodes[1].value("there", "1") == "1")
            let busy = Task {
                try await nodes[1].cache.value(for: "busy") {
                    await gate.pass()
                    return "2"
                }
            }
            await gate.arrived()
            let asked = Kept<[String]>()
            let writes = shared.tier.counts.writes
            let all = Task {
                try await nodes[0].cache.values(for: ["there", "busy", "cold 1", "cold 2", "none"]) { keys in
                    asked.add(keys.sorted())
                    return ["cold 1": "3", "cold 2": "4"]
                }
            }
            #expect(await eventually { shared.tier.counts.writes == writes + 1 })
            gate.open()
            #expect(try await busy.value == "2")
            let values = try await all.value
            #expect(values == ["there": "1", "busy": "2", "cold 1": "3", "cold 2": "4"])
            #expect(asked.all == [["cold 1", "cold 2", "none"]])
            #expect(try await nodes[1].value("cold 1", "x") == "3")
            await #expect(throws: NotFound.self) { try await nodes[1].value("none", "x") }
        }
    }

    @Test("processes that wait in line for a key when it is removed load it once, one after the other looking first")
    func removedInLine() async throws {
        try await withNodes(4) { shared, nodes in
            let (gate, runs) = (Gate(), Counter())
            let leader = Task { () async throws -> String in
                try await nodes[0].cache.value(for: "a") {
                    await gate.pass()
                    return "old"
                }
            }
            await gate.arrived()
            let others = nodes.dropFirst().map { node in
                Task { try await node.cache.value(for: "a") { "new \(runs.next())" } }
            }
            let resource = TierInspector.resource("a", in: "test")
            #expect(await eventuallyAsync { try await nodes[0].locks.status(of: resource).waiters.count == 3 })
            try await nodes[0].cache.remove("a")
            let values = try await ticking(shared.clock) {
                var values: Set<String> = []
                for other in others { values.insert(try await other.value) }
                return values
            }
            #expect(values == ["new 1"] && runs.value == 1)
            gate.open()
            let old = try await leader.value
            #expect(old == "old")
            let now = try await nodes[0].value("a", "newer")
            #expect(now == "new 1")
        }
    }
}

/// The same as ``eventually(_:)`` for what takes time itself.
func eventuallyAsync(_ condition: () async throws -> Bool) async -> Bool {
    for _ in 0..<2000 {
        if (try? await condition()) == true { return true }
        try? await Task.sleep(for: .milliseconds(1))
    }
    return false
}
