// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
import HoldfastTesting
import Testing

@Suite("Loads", .timeLimit(.minutes(5)))
struct FlightTests {
    @Test("a thousand callers of a cold key share one load (laravel 60920)")
    func share() async throws {
        try await withCache(
            options: CacheOptions().with {
                $0.timeToLive = .seconds(10)
                $0.staleWhileRevalidate = .seconds(10)
            }
        ) { cache in
            let (gate, runs) = (Gate(), Counter())
            try await withThrowingTaskGroup(of: String.self) { group in
                for _ in 0..<1000 {
                    group.addTask {
                        try await cache.value(for: "k") {
                            runs.next()
                            await gate.pass()
                            return "v"
                        }
                    }
                }
                #expect(await eventually { cache.statistics().joins == 999 })
                gate.open()
                for try await value in group { #expect(value == "v") }
            }
            #expect(runs.value == 1)
            #expect(cache.cached("k") == "v")
            #expect(cache.statistics().misses == 1000)
        }
    }

    @Test("a failing load is no convoy: all who wait get its error, and it runs once")
    func noConvoy() async throws {
        try await withCache { cache in
            let (gate, runs) = (Gate(), Counter())
            await withTaskGroup(of: Bool.self) { group in
                for _ in 0..<1000 {
                    group.addTask {
                        do {
                            _ = try await cache.value(for: "k") {
                                let number = runs.next()
                                await gate.pass()
                                throw Failure(number: number)
                            }
                            return false
                        } catch { return error as? Failure == Failure(number: 1) }
                    }
                }
                let hasJoined = await eventually { cache.statistics().joins == 999 }
                #expect(hasJoined)
                gate.open()
                for await isRight in group { #expect(isRight) }
            }
            #expect(runs.value == 1)
        }
    }

    @Test("an error is remembered for the back-off, and not longer")
    func errorBackoff() async throws {
        let clock = ManualClock()
        try await withCache(clock: clock, options: CacheOptions().with { $0.errorBackoff = .seconds(1) }) { cache in
            let runs = Counter()
            let fail: @Sendable () async throws -> String = {
                throw Failure(number: runs.next())
            }
            await #expect(throws: Failure(number: 1)) { try await cache.value(for: "k", loader: fail) }
            await #expect(throws: Failure(number: 1)) { try await cache.value(for: "k", loader: fail) }
            clock.advance(by: .milliseconds(1251))
            await #expect(throws: Failure(number: 2)) { try await cache.value(for: "k", loader: fail) }
            cache.remove("k")
            await #expect(throws: Failure(number: 3)) { try await cache.value(for: "k", loader: fail) }
        }
    }

    @Test("a loader's own cancellation is not remembered: the next caller loads")
    func ownCancellation() async throws {
        try await withCache { cache in
            await #expect(throws: CancellationError.self) {
                try await cache.value(for: "k") { () async throws -> String in throw CancellationError() }
            }
            let value = try await cache.value(for: "k") { "v" }
            #expect(value == "v")
        }
    }

    @Test("one of many callers leaves, and takes nobody with him (caffeine 870)", arguments: [0, 1])
    func cancelOne(leaver: Int) async throws {
        try await withCache { cache in
            let (gate, runs) = (Gate(), Counter())
            let callers = (0..<4).map { _ in
                Task {
                    try await cache.value(for: "k") {
                        runs.next()
                        await gate.pass()
                        try Task.checkCancellation()
                        return "v"
                    }
                }
            }
            await gate.arrived()
            #expect(await eventually { cache.statistics().joins == 3 })
            callers[leaver].cancel()
            await #expect(throws: CancellationError.self) { try await callers[leaver].value }
            gate.open()
            for (number, caller) in callers.enumerated() where number != leaver {
                let value = try await caller.value
                #expect(value == "v")
            }
            #expect(runs.value == 1)
        }
    }

    @Test("the last caller who leaves takes the load with him, and the next one loads")
    func lastLeaves() async throws {
        try await withCache { cache in
            let (gate, stopped) = (Gate(), Gate())
            let callers = (0..<3).map { _ in
                Task {
                    try await cache.value(for: "k") {
                        await gate.pass()
                        try? await Task.sleep(for: .seconds(3600))
                        if Task.isCancelled { stopped.open() }
                        throw CancellationError()
                    }
                }
            }
            await gate.arrived()
            #expect(await eventually { cache.statistics().joins == 2 })
            gate.open()
            for caller in callers { caller.cancel() }
            for caller in callers { await #expect(throws: CancellationError.self) { try await caller.value } }
            await stopped.pass()
            let next = try await cache.value(for: "k") { "next" }
            #expect(next == "next")
            #expect(cache.statistics().abandonedLoads == 1)
        }
    }

    @Test("a load that may finish does, though all callers have left")
    func finishes() async throws {
        try await withCache(options: CacheOptions().with { $0.abandonment = .finish }) { cache in
            let gate = Gate()
            let caller = Task {
                try await cache.value(for: "k") {
                    await gate.pass()
                    return "v"
                }
            }
            await gate.arrived()
            caller.cancel()
            await #expect(throws: CancellationError.self) { try await caller.value }
            gate.open()
            #expect(await eventually { cache.contains("k") })
        }
    }

    @Test("a loader that never ends frees its key at the deadline, and is counted (dialogporten 4300)")
    func hangingLoader() async throws {
        let clock = ManualClock()
        try await withCache(clock: clock, options: CacheOptions().with { $0.hardDeadline = .seconds(5) }) { cache in
            let gate = Gate()
            let hanging = Task {
                try await cache.value(for: "k") {
                    await gate.pass()
                    return "late"
                }
            }
            await gate.arrived()
            clock.advance(by: .seconds(5))
            let error = await #expect(throws: CacheError.self) { try await hanging.value }
            #expect(error?.code == .deadline)
            let next = try await cache.value(for: "k") { "next" }
            #expect(next == "next")
            #expect(cache.statistics().abandonedLoads == 1)
            gate.open()
            #expect(await eventually { cache.statistics().loads == 2 })
            // What came late does not replace what was stored after it began.
            #expect(cache.cached("k") == "next")
        }
    }

    @Test("who waits longer than the leader goes on when that one's time is over", arguments: [true, false])
    func longerDeadline(isBulk: Bool) async throws {
        let clock = ManualClock()
        try await withCache(clock: clock) { cache in
            let (gate, runs) = (Gate(), Counter())
            let hasty = Task {
                try await cache.value(for: "k", options: CacheOptions().with { $0.hardDeadline = .seconds(1) }) {
                    await gate.pass()
                    return "never"
                }
            }
            await gate.arrived()
            let options = CacheOptions().with { $0.hardDeadline = .seconds(5) }
            let patient = (0..<3).map { _ in
                Task { () async throws -> String? in
                    guard isBulk else {
                        return try await cache.value(for: "k", options: options) { "v\(runs.next())" }
                    }
                    return try await cache.values(for: ["k"], options: options) { _ in ["k": "v\(runs.next())"] }["k"]
                }
            }
            #expect(await eventually { cache.statistics().joins == 3 })
            clock.advance(by: .seconds(1))
            let error = await #expect(throws: CacheError.self) { try await hasty.value }
            #expect(error?.code == .deadline)
            for one in patient {
                let value = try await one.value
                #expect(value == "v1")
            }
            gate.open()
            #expect(cache.statistics().joins == 3)
        }
    }

    @Test("nobody fails by the shorter deadline of others, nor repeats what failed by itself (bucketeer 2552)")
    func ownDeadline() async throws {
        let clock = ManualClock()
        let limits = CacheServiceConfiguration()
        try await withCache(clock: clock, service: limits) { cache in
            let (gate, runs) = (Gate(), Counter())
            @Sendable func read(_ key: String, _ seconds: Int64) async throws -> String {
                let options = CacheOptions().with { $0.hardDeadline = .seconds(seconds) }
                return try await cache.value(for: key, options: options) {
                    runs.next()
                    await gate.pass()
                    if key == "failing" { throw CacheError(.deadline, "of something else") }
                    return "never"
                }
            }
            let hasty = Task { try await read("k", 1) }
            await gate.arrived(1)
            let patient = Task { try await read("k", 5) }
            #expect(await eventually { cache.statistics().joins == 1 })
            clock.advance(by: .seconds(1))
            await #expect(throws: CacheError.self) { try await hasty.value }
            await gate.arrived(2)
            clock.advance(by: .seconds(4))
            let error = await #expect(throws: CacheError.self) { try await patient.value }
            #expect(error?.code == .deadline)
            #expect(runs.value == 2)
            // Nor does one who came a little later begin another load for the rest of his time.
            let together = Task { try await read("together", 10) }
            await gate.arrived(3)
            clock.advance(by: .seconds(1))
            let later = Task { try await read("together", 10) }
            #expect(await eventually { cache.statistics().joins == 2 })
            clock.advance(by: .seconds(9))
            for one in [together, later] {
                let error = await #expect(throws: CacheError.self) { try await one.value }
                #expect(error?.code == .deadline)
            }
            let failing = (1...2).map { number in Task { try await read("failing", Int64(number) * 10) } }
            #expect(await eventually { cache.statistics().joins == 3 })
            gate.open()
            for one in failing {
                let error = await #expect(throws: CacheError.self) { try await one.value }
                #expect(error?.message == "of something else")
            }
            #expect(runs.value == 4)
        }
    }

    @Test("loaders that hang fill the bulkhead of a key, and no more are started")
    func bulkhead() async throws {
        let clock = ManualClock()
        var limits = CacheServiceConfiguration()
        limits.maximumAbandonedPerKey = 2
        try await withCache(
            clock: clock,
            service: limits,
            options: CacheOptions().with {
                $0.hardDeadline = .seconds(1)
                $0.errorBackoff = .zero
            }
        ) { cache in
            let gate = Gate()
            for number in 1...2 {
                let hanging = Task {
                    try await cache.value(for: "k") {
                        await gate.pass()
                        return "late"
                    }
                }
                await gate.arrived(number)
                clock.advance(by: .seconds(1))
                await #expect(throws: CacheError.self) { try await hanging.value }
            }
            let error = await #expect(throws: CacheError.self) { try await cache.value(for: "k") { "v" } }
            #expect(error?.code == .bulkheadFull)
            let other = try await cache.value(for: "other") { "fine" }
            #expect(other == "fine")
            gate.open()
            #expect(await eventually { cache.statistics().loads == 3 })
            cache.remove("k")
            let again = try await cache.value(for: "k") { "v" }
            #expect(again == "v")
        }
    }

    @Test("a loader that asks for its own key gets an error instead of waiting for ever")
    func recursion() async throws {
        try await withCache { cache in
            let error = await #expect(throws: CacheError.self) {
                try await cache.value(for: "k") { try await cache.value(for: "k") { "inner" } }
            }
            #expect(error?.code == .recursive)
            cache.remove("k")
            let after = try await cache.value(for: "k") { "fine" }
            #expect(after == "fine")
        }
    }

    @Test("two loaders that ask for each other's key do not wait for ever")
    func mutualRecursion() async throws {
        try await withCache { cache in
            let both = Gate()
            @Sendable func load(_ key: String, asking other: String) async throws -> String {
                try await cache.value(for: key) {
                    await both.pass()
                    return try await cache.value(for: other) {
                        await both.pass()
                        return try await cache.value(for: key) { "never" }
                    }
                }
            }
            async let first = load("a", asking: "b")
            async let second = load("b", asking: "a")
            await both.arrived(2)
            both.open()
            var codes: [CacheError.Code] = []
            do { _ = try await first } catch { codes.append((error as? CacheError)?.code ?? .conflict) }
            do { _ = try await second } catch { codes.append((error as? CacheError)?.code ?? .conflict) }
            #expect(codes.contains(.recursive))
        }
    }

    @Test("a loader may ask for other keys, several at once")
    func nesting() async throws {
        try await withCache(of: Int.self) { cache in
            let sum = try await cache.value(for: "sum") {
                async let a = cache.value(for: "a") { 1 }
                async let b = cache.value(for: "b") { try await cache.value(for: "a") { 1 } + 1 }
                return try await a + b
            }
            #expect(sum == 3)
        }
    }

    @TaskLocal static var request = "none"

    @Test("a loader does not see the task-local values of whoever asked first")
    func taskLocals() async throws {
        try await withCache { cache in
            let seen = try await Self.$request.withValue("of the caller") {
                try await cache.value(for: "k") { Self.request }
            }
            #expect(seen == "none")
        }
    }

    @Test("a loader that throws before it waits for anything leaves the key usable (FusionCache 647, groupcache 38)")
    func throwsAtOnce() async throws {
        let clock = ManualClock()
        try await withCache(
            clock: clock,
            options: CacheOptions().with {
                $0.timeToLive = .seconds(10)
                $0.jitter = 0
                $0.refreshAhead = .after(fraction: 0.5)
            }
        ) { cache in
            let first = try await cache.value(for: "k") { "v1" }
            #expect(first == "v1")
            let runs = Counter()
            // However often a refresh fails, the next one begins.
            for number in 1...5 {
                clock.advance(by: .milliseconds(number == 1 ? 5001 : 126))
                let value = try await cache.value(for: "k") { throw Failure(number: runs.next()) }
                #expect(value == "v1")
                #expect(await eventually { cache.statistics().loadFailures == UInt64(number) })
            }
            clock.advance(by: .milliseconds(126))
            _ = try await cache.value(for: "k") { "v2" }
            #expect(await eventually { cache.cached("k") == "v2" })
        }
    }

    @Test("a caller who is cancelled during a refresh leaves the key usable")
    func cancelDuringRefresh() async throws {
        let clock = ManualClock()
        try await withCache(
            clock: clock,
            options: CacheOptions().with {
                $0.timeToLive = .seconds(10)
                $0.jitter = 0
                $0.staleWhileRevalidate = .seconds(100)
            }
        ) { cache in
            try cache.set("v1", for: "k")
            clock.advance(by: .seconds(11))
            let gate = Gate()
            let caller = Task {
                let value = try await cache.value(for: "k") {
                    await gate.pass()
                    return "v2"
                }
                withUnsafeCurrentTask { $0?.cancel() }
                return value
            }
            let stale = try await caller.value
            #expect(stale == "v1")
            await gate.arrived()
            gate.open()
            #expect(await eventually { cache.cached("k") == "v2" })
        }
    }

    @Test("nobody runs the service: a load says so after a while, and memory works")
    func notRunning() async throws {
        var configuration = CacheServiceConfiguration()
        configuration.startupLimit = .milliseconds(20)
        let service = try CacheService(configuration: configuration)
        let cache = try service.cache("test", of: String.self, keyedBy: String.self)
        try cache.set("v", for: "there")
        let there = try await cache.value(for: "there") { "other" }
        #expect(there == "v")
        let error = await #expect(throws: CacheError.self) { try await cache.value(for: "k") { "v" } }
        #expect(error?.code == .notRunning)
    }

    @Test("when the service stops, whoever waits is told")
    func stops() async throws {
        let service = try CacheService()
        let cache = try service.cache("test", of: String.self, keyedBy: String.self)
        let gate = Gate()
        let running = Task { try await service.run() }
        let caller = Task {
            try await cache.value(for: "k") {
                await gate.pass()
                return "v"
            }
        }
        await gate.arrived()
        running.cancel()
        let error = await #expect(throws: CacheError.self) { try await caller.value }
        #expect(error?.code == .notRunning)
        gate.open()
        try await running.value
        let later = await #expect(throws: CacheError.self) { try await cache.value(for: "other") { "v" } }
        #expect(later?.code == .notRunning)
    }

    @Test("a cache's own code may be used from its loaders, weighers and listeners")
    func userCodeOutsideOfLocks() async throws {
        let service = try CacheService()
        let other = try service.cache("other", of: String.self, keyedBy: String.self)
        let seen = Counter()
        let cache = try service.cache("test", of: String.self, keyedBy: String.self) { configuration in
            configuration.capacity = .weight(2)
            configuration.shards = 1
            configuration.weigher = { key, _ in
                _ = other.cached(key)
                return 1
            }
            configuration.onRemoval = { key, value, _ in
                try? other.set(value, for: key)
                seen.next()
            }
        }
        try await withCacheService(service) { _ in
            for number in 0..<10 {
                _ = try await cache.value(for: "\(number)") {
                    _ = try await cache.value(for: "inner \(number)") { "x" }
                    try cache.update("updated") { _ in cache.cached("inner \(number)") }
                    return "v"
                }
            }
        }
        #expect(seen.value > 10)
        #expect(cache.statistics().weight <= 2)
    }
}
