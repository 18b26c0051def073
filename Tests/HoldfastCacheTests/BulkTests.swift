// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
import HoldfastTesting
import Synchronization
import Testing

@Suite("Loads of many keys", .timeLimit(.minutes(5)))
struct BulkTests {
    @Test("one loader call gets only the missing keys, each once")
    func onlyMissing() async throws {
        try await withCache(of: Int.self) { cache in
            try cache.set(1, for: "a")
            let asked = Mutex<[[String]]>([])
            let values = try await cache.values(for: ["a", "b", "c", "b", "none"]) { keys in
                asked.withLock { $0.append(keys.sorted()) }
                return ["b": 2, "c": 3, "unasked": 9]
            }
            #expect(values == ["a": 1, "b": 2, "c": 3])
            #expect(asked.withLock { $0 } == [["b", "c", "none"]])
            #expect(!cache.contains("unasked"))
            // That there is none is remembered as well.
            let again = try await cache.values(for: ["none", "c"]) { _ in [:] }
            #expect(again == ["c": 3])
            #expect(asked.withLock { $0.count } == 1)
        }
    }

    @Test("callers of single keys and of other sets join the loads of a set, and the reverse")
    func joins() async throws {
        try await withCache(of: Int.self) { cache in
            let (gate, runs) = (Gate(), Counter())
            @Sendable func many(_ keys: [String]) async throws -> [String: Int] {
                try await cache.values(for: keys) { keys in
                    runs.next()
                    await gate.pass()
                    return Dictionary(uniqueKeysWithValues: keys.map { ($0, $0.utf8.count) })
                }
            }
            async let alone = cache.value(for: "a") {
                runs.next()
                await gate.pass()
                return 100
            }
            await gate.arrived()
            async let first = many(["a", "b", "cc"])
            await gate.arrived(2)
            async let second = many(["b", "cc", "ddd"])
            await gate.arrived(3)
            async let single = cache.value(for: "ddd") { 0 }
            #expect(await eventually { cache.statistics().joins == 4 })
            gate.open()
            let aloneResult = try await alone
            #expect(aloneResult == 100)
            let firstResult = try await first
            #expect(firstResult == ["a": 100, "b": 1, "cc": 2])
            let secondResult = try await second
            #expect(secondResult == ["b": 1, "cc": 2, "ddd": 3])
            let singleResult = try await single
            #expect(singleResult == 3)
            #expect(runs.value == 3)
        }
    }

    @Test("a set whose loader fails throws, and leaves each key usable")
    func failure() async throws {
        try await withCache(of: Int.self, options: CacheOptions().with { $0.errorBackoff = .zero }) { cache in
            try cache.set(1, for: "a")
            await #expect(throws: Failure.self) {
                try await cache.values(for: ["a", "b", "c"]) { _ in throw Failure() }
            }
            let value = try await cache.value(for: "b") { 2 }
            #expect(value == 2)
        }
    }

    @Test("a caller of a set leaves: the load goes on as long as anybody waits for one of its keys")
    func cancel() async throws {
        try await withCache(of: Int.self) { cache in
            let (gate, cancelled) = (Gate(), Counter())
            let many = Task {
                try await cache.values(for: ["a", "b", "c"]) { keys in
                    await gate.pass()
                    if Task.isCancelled { cancelled.next() }
                    return Dictionary(uniqueKeysWithValues: keys.map { ($0, 1) })
                }
            }
            await gate.arrived()
            async let single = cache.value(for: "b") { 2 }
            #expect(await eventually { cache.statistics().joins == 1 })
            many.cancel()
            await #expect(throws: CancellationError.self) { try await many.value }
            gate.open()
            let singleResult = try await single
            #expect(singleResult == 1)
            #expect(cancelled.value == 0)
        }
    }

    @Test("a loader of a set that asks for one of its own keys gets an error")
    func recursion() async throws {
        try await withCache(of: Int.self) { cache in
            // Whichever of the keys comes first in the set.
            for round in 0..<20 {
                let keys = (0..<5).map { "\(round)/\($0)" }
                let error = await #expect(throws: CacheError.self) {
                    try await cache.values(for: keys) { _ in
                        [keys[0]: try await cache.value(for: keys[0]) { 1 }]
                    }
                }
                #expect(error?.code == .recursive)
            }
        }
    }

    @Test("invalidation during the load of a set keeps what it concerns from being stored")
    func invalidation() async throws {
        try await withCache(of: Int.self) { cache in
            let gate = Gate()
            async let values = cache.values(for: ["a", "b"]) { keys in
                await gate.pass()
                return Dictionary(uniqueKeysWithValues: keys.map { ($0, 1) })
            }
            await gate.arrived()
            cache.remove("a")
            gate.open()
            let valuesResult = try await values
            #expect(valuesResult == ["a": 1, "b": 1])
            #expect(!cache.contains("a"))
            #expect(cache.contains("b"))
        }
    }
}
