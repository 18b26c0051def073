// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCache
import HoldfastCore
import HoldfastTesting
import Testing

@Suite("Scheduled invalidation", .timeLimit(.minutes(5)))
struct ScheduledTests {
    private let clock = ManualClock()

    @Test("Keys, tags, prefixes and everything are forgotten when it is time, and not before")
    func scopes() async throws {
        try await withCache(clock: self.clock) { cache in
            let tagged = CacheOptions().with { $0.tags = ["t"] }
            for key in ["key", "p/1", "rest"] { try cache.set("v", for: key) }
            try cache.set("v", for: "tagged", options: tagged)
            func there() -> Set<String> { Set(["key", "tagged", "p/1", "rest"].filter { cache.contains($0) }) }
            try cache.remove("key", after: .seconds(1))
            try cache.invalidate(tag: "t", after: .seconds(2))
            try cache.invalidate(prefix: "p/", after: .seconds(3))
            try cache.invalidateAll(after: .seconds(4))
            self.clock.advance(by: .milliseconds(999))
            #expect(there().count == 4)
            for (gone, left) in [("key", 3), ("tagged", 2), ("p/1", 1), ("rest", 0)] {
                self.clock.advance(by: .milliseconds(gone == "key" ? 1 : 1000))
                #expect(await eventually { !cache.contains(gone) })
                #expect(there().count == left)
            }
        }
    }

    @Test("A cancelled one does not happen, and says whether it was in time")
    func cancel() async throws {
        try await withCache(clock: self.clock) { cache in
            try cache.set("v", for: "a")
            let plan = try cache.remove("a", after: .seconds(1))
            #expect(plan.isPending)
            #expect(plan.cancel())
            #expect(!plan.isPending && !plan.cancel())
            let other = try cache.remove("b", after: .seconds(1))
            self.clock.advance(by: .seconds(2))
            #expect(await eventually { !other.isPending })
            #expect(!other.cancel())
            #expect(cache.contains("a"))
        }
    }

    @Test("Of several for one scope the earliest is done for all of them")
    func coalesced() async throws {
        try await withCache(clock: self.clock) { cache in
            try cache.set("v", for: "a")
            let late = try cache.remove("a", after: .seconds(10))
            let early = try cache.remove("a", after: .seconds(5))
            let latest = try cache.remove("a", after: .seconds(20))
            self.clock.advance(by: .seconds(5))
            #expect(await eventually { !cache.contains("a") })
            #expect(!late.isPending && !early.isPending && !latest.isPending)
            // What is stored afterwards is not what was meant.
            try cache.set("w", for: "a")
            self.clock.advance(by: .seconds(30))
            #expect(await eventually { cache.statistics().invalidations == 1 })
            #expect(cache.cached("a") == "w")
        }
    }

    @Test("Cancelling the earliest leaves the others of its scope")
    func cancelEarliest() async throws {
        try await withCache(clock: self.clock) { cache in
            try cache.set("v", for: "a")
            let early = try cache.remove("a", after: .seconds(5))
            try cache.remove("a", after: .seconds(10))
            early.cancel()
            self.clock.advance(by: .seconds(9))
            #expect(cache.contains("a"))
            self.clock.advance(by: .seconds(1))
            #expect(await eventually { !cache.contains("a") })
        }
    }

    @Test("There is a limit, cancelling makes room, and a time below zero is refused")
    func bound() async throws {
        try await withCache(clock: self.clock) { cache in
            var plans: [ScheduledInvalidation] = []
            for number in 0..<CacheLimits.maximumScheduled {
                plans.append(try cache.remove("\(number)", after: .seconds(60)))
            }
            let error = #expect(throws: CacheError.self) { try cache.remove("more", after: .seconds(60)) }
            #expect(error?.code == .invalidArgument)
            #expect(throws: CacheError.self) { try cache.remove("a", after: .seconds(-1)) }
            plans[0].cancel()
            try cache.remove("more", after: .seconds(60))
        }
    }

    @Test("In a shared cache the tier and the other processes forget too")
    func shared() async throws {
        try await withNodes(2) { shared, nodes in
            for node in nodes { _ = try await node.value("a", "v") }
            try nodes[0].cache.remove("a", after: .seconds(2))
            shared.clock.advance(by: .seconds(2))
            #expect(await eventually { nodes.allSatisfy { $0.cache.cached("a") == nil } })
            #expect(await nodes[1].cache.explain("a").tier?.standing == .removed)
        }
    }

    @Test("A tier that does not work when it is time is tried until it does")
    func insists() async throws {
        try await withNodes(2) { shared, nodes in
            for node in nodes { _ = try await node.value("a", "v") }
            try nodes[0].cache.invalidateAll(after: .seconds(1))
            shared.tier.fault = .fail
            shared.clock.advance(by: .seconds(1))
            #expect(await eventually { nodes[0].cache.cached("a") == nil })
            #expect(nodes[1].cache.cached("a") == "v")
            shared.tier.fault = .none
            var steps = 0
            while nodes[1].cache.cached("a") != nil, steps < 2000 {
                shared.clock.advance(by: .milliseconds(2))
                try await Task.sleep(for: .milliseconds(1))
                steps += 1
            }
            #expect(nodes[1].cache.cached("a") == nil)
            #expect(nodes[0].statistics.invalidationFailures == 0)
        }
    }

    @Test("A tier that stays away is given up, counted and told")
    func givesUp() async throws {
        try await withNodes(1) { shared, nodes in
            _ = try await nodes[0].value("a", "v")
            try nodes[0].cache.invalidate(tag: "t", after: .seconds(1))
            shared.tier.fault = .fail
            shared.clock.advance(by: .seconds(1))
            var steps = 0
            while nodes[0].statistics.invalidationFailures == 0, steps < 2000 {
                shared.clock.advance(by: .milliseconds(500))
                try await Task.sleep(for: .milliseconds(1))
                steps += 1
            }
            #expect(nodes[0].statistics.invalidationFailures == 1)
            #expect(nodes[0].log.all.contains { if case .invalidationFailed = $0 { true } else { false } })
        }
    }
}
