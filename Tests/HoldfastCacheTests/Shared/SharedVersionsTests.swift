// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
import HoldfastCore
import HoldfastTesting
import Testing

/// Programs of different age that share a tier, as during each roll-out.
@Suite("Old and new programs that share a cache", .timeLimit(.minutes(5)))
struct SharedVersionsTests {
    private struct OldProduct: Codable, Sendable, Hashable {
        var name: String
    }

    private struct NewProduct: Codable, Sendable, Hashable {
        var name: String
        var price: Int
    }

    /// A program with a cache of its own type of value.
    private func program<Value: Codable & Sendable>(
        _ shared: Shared,
        of value: Value.Type,
        codec: JSONCacheCodec<Value> = JSONCacheCodec(),
        _ body: (SharedCache<String, Value>) async throws -> Void
    ) async throws {
        let caches = try CacheService(tier: shared.tier, bus: shared.bus, clock: shared.clock)
        let cache = try caches.sharedCache("products", of: value, keyedBy: String.self, codec: codec) {
            $0.options = tenSeconds
        }
        try await withCacheService(caches) { _ in try await body(cache) }
    }

    @Test("what another version of the program wrote is a miss for this one, and never an error (FusionCache 324, 386)")
    func types() async throws {
        let shared = Shared()
        try await self.program(shared, of: OldProduct.self) { old in
            try await self.program(shared, of: NewProduct.self) { new in
                for round in 1...3 {
                    // The old one cannot be read by the new one, for want of a price.
                    _ = try await old.value(for: "k") { OldProduct(name: "old \(round)") }
                    #expect(try await new.get("k") == nil)
                    let loaded = try await new.value(for: "k") { NewProduct(name: "new \(round)", price: round) }
                    #expect(loaded == NewProduct(name: "new \(round)", price: round))
                    #expect(new.statistics().unreadable > 0)
                    // The new one can be read by the old one, which does not look at the price.
                    #expect(try await old.get("k") != nil)
                    try await old.remove("k")
                    #expect(await eventually { new.cached("k") == nil })
                }
            }
        }
    }

    @Test("nor is what was written by another codec, in a batch as well")
    func codecs() async throws {
        let shared = Shared()
        try await self.program(shared, of: OldProduct.self) { old in
            for key in ["a", "b"] { _ = try await old.value(for: key) { OldProduct(name: key) } }
        }
        try await self.program(shared, of: Int.self) { numbers in
            let values = try await numbers.values(for: ["a", "b", "c"]) { keys in
                Dictionary(uniqueKeysWithValues: keys.map { ($0, $0.utf8.count) })
            }
            #expect(values == ["a": 1, "b": 1, "c": 1])
            #expect(numbers.statistics().unreadable == 2)
        }
    }
}
