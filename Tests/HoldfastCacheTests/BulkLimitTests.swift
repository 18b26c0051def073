// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import HoldfastTesting
import Testing

@testable import HoldfastCache

@Suite("Many keys at once: room, lateness and what is stale", .timeLimit(.minutes(5)))
struct BulkLimitTests {
    @Test("any number of missing keys is one load for the limits")
    func anyNumber() async throws {
        try await withCache { cache in
            let runs = Counter()
            let values = try await cache.values(for: (0..<5000).map { "k\($0)" }) { keys in
                runs.next()
                return Dictionary(uniqueKeysWithValues: keys.map { ($0, "v") })
            }
            #expect(values.count == 5000 && runs.value == 1)
        }
    }

    @Test("callers who leave, of one load or of many, do not shut the cache", arguments: [true, false])
    func callersLeave(isBulk: Bool) async throws {
        try await withCache { cache in
            let gate = Gate()
            let keys = (0..<64).map { "k\($0)" }
            let callers =
                isBulk
                ? [
                    Task {
                        _ = try await cache.values(for: keys) { _ in
                            await gate.pass()
                            return [:]
                        }
                    }
                ]
                : keys.map { key in
                    Task {
                        _ = try await cache.value(for: key) {
                            await gate.pass()
                            return "v"
                        }
                    }
                }
            await gate.arrived(callers.count)
            for caller in callers { caller.cancel() }
            for caller in callers { _ = try? await caller.value }
            let value = try await cache.value(for: "other") { "v" }
            #expect(value == "v")
            #expect(cache.statistics().abandonedLoads == 64)
            gate.open()
        }
    }

    @Test("a loader that does not heed its cancellation counts after a second, once for all of its keys")
    func lingering() async throws {
        let clock = ManualClock()
        var configuration = CacheServiceConfiguration()
        configuration.maximumAbandoned = 2
        try await withCache(clock: clock, service: configuration) { cache in
            let gate = Gate()
            for number in 0..<2 {
                let caller = Task {
                    _ = try await cache.values(for: (0..<10).map { "\(number)/\($0)" }) { _ in
                        await gate.pass()
                        return [:]
                    }
                }
                await gate.arrived(number + 1)
                caller.cancel()
                _ = try? await caller.value
                clock.advance(by: .seconds(2))
                #expect(await eventually { cache.lingeringLoaders == number + 1 })
            }
            let error = await #expect(throws: CacheError.self) { try await cache.value(for: "other") { "v" } }
            #expect(error?.code == .bulkheadFull)
            gate.open()
            #expect(await eventually { cache.lingeringLoaders == 0 })
            let value = try await cache.value(for: "other") { "v" }
            #expect(value == "v")
        }
    }

    @Test("the soft deadline of a call is one for all of its keys")
    func softDeadline() async throws {
        let options = tenSeconds.with {
            $0.staleIfError = .seconds(60)
            $0.softDeadline = .milliseconds(100)
        }
        let clock = ManualClock()
        try await withCache(clock: clock, options: options) { cache in
            let keys = (0..<20).map { "k\($0)" }
            _ = try await cache.values(for: keys) { keys in Dictionary(uniqueKeysWithValues: keys.map { ($0, "v") }) }
            clock.advance(by: .seconds(11))
            let gate = Gate()
            let start = clock.now
            let bulk = Task {
                let values = try await cache.values(for: keys) { _ in
                    await gate.pass()
                    return [:]
                }
                return (values.count, start.duration(to: clock.now))
            }
            await gate.arrived()
            let (count, time) = try await ticking(clock, by: .milliseconds(10)) { try await bulk.value }
            gate.open()
            #expect(count == 20)
            // As many again, for ticks between the alarm and a look at the clock.
            #expect(time < .milliseconds(1000), "\(time)")
        }
    }

    @Test("what may be given while it is loaded anew is loaded anew, by a load that says so")
    func revalidates() async throws {
        let options = tenSeconds.with { $0.staleWhileRevalidate = .seconds(60) }
        try await withNodes(1, options: options) { shared, nodes in
            let runs = Counter()
            let isBackground = Kept<Bool>()
            let load = { @Sendable () async throws -> String? in
                try await nodes[0].cache.values(for: ["a"]) { keys, context in
                    isBackground.add(context.isBackground)
                    return ["a": "v\(runs.next())"]
                }["a"]
            }
            let first = try await load()
            #expect(first == "v1")
            shared.clock.advance(by: .seconds(11))
            let second = try await load()
            #expect(second == "v1")
            #expect(await eventuallyAsync { try await load() == "v2" })
            #expect(isBackground.all == [false, true])
        }
    }

    @Test("a loader of one key among many sees its present value, and may say that it is not modified")
    func unmodified() async throws {
        let clock = ManualClock()
        try await withCache(clock: clock, options: tenSeconds.with { $0.staleIfError = .seconds(60) }) { cache in
            for _ in 0..<3 {
                let values = try await cache.values(for: ["a"]) { _, context in
                    guard context.stale?.entityTag != "e" else { return ["a": try context.notModified()] }
                    context.entityTag = "e"
                    return ["a": "v"]
                }
                #expect(values == ["a": "v"])
                clock.advance(by: .seconds(11))
            }
        }
    }

    @Test("a stale value that only the tier has is given when the load is late or its time is over")
    func staleInTier() async throws {
        for softDeadline in [Duration.milliseconds(100), nil] {
            let options = tenSeconds.with {
                $0.staleIfError = .seconds(60)
                $0.softDeadline = softDeadline
                $0.hardDeadline = .seconds(2)
            }
            try await withNodes(2, options: options) { shared, nodes in
                _ = try await nodes[0].value("a", "old")
                shared.clock.advance(by: .seconds(11))
                let gate = Gate()
                let caller = Task {
                    try await nodes[1].cache.value(for: "a") {
                        await gate.pass()
                        return "new"
                    }
                }
                await gate.arrived()
                let value = try await ticking(shared.clock) { try await caller.value }
                #expect(value == "old")
                gate.open()
            }
        }
    }

    @Test("what a tag made invalid in the tier is not given to who comes after that, however late the load is")
    func invalidInTier() async throws {
        let options = tenSeconds.with {
            $0.staleIfError = .seconds(60)
            $0.softDeadline = .milliseconds(100)
            $0.hardDeadline = .seconds(2)
        }
        try await withNodes(2, options: options) { shared, nodes in
            try await nodes[0].cache.set("old", for: "a", options: options.with { $0.tags = ["t"] })
            shared.clock.advance(by: .seconds(11))
            let gate = Gate()
            let first = Task {
                try await nodes[1].cache.value(for: "a") {
                    await gate.pass()
                    return "new"
                }
            }
            await gate.arrived()
            try await nodes[1].cache.invalidate(tag: "t")
            let second = Task { try await nodes[1].cache.value(for: "a") { "new" } }
            _ = try? await ticking(shared.clock) { try await first.value }
            let value = try? await ticking(shared.clock) { try await second.value }
            #expect(value != "old")
            gate.open()
        }
    }

    @Test("a load ahead of the end whose loader says not to keep it is not begun again by each reader")
    func unwantedAhead() async throws {
        let clock = ManualClock()
        let options = tenSeconds.with { $0.refreshAhead = .after(fraction: 0.5) }
        try await withCache(clock: clock, options: options) { cache in
            let runs = Counter()
            let read = { @Sendable () async throws -> String in
                try await cache.value(for: "a") { context in
                    if runs.next() > 1 { context.skipCaching() }
                    return "v"
                }
            }
            _ = try await read()
            clock.advance(by: .seconds(6))
            for number in 1...20 {
                _ = try await read()
                #expect(await eventually { cache.statistics().loads >= min(number + 1, 2) })
            }
            #expect(runs.value == 2)
            clock.advance(by: .seconds(1))
            _ = try await read()
            #expect(await eventually { runs.value == 3 })
        }
    }
}
