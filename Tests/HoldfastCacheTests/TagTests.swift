// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
import HoldfastTesting
import Testing

@Suite("Tags", .timeLimit(.minutes(1)))
struct TagTests {
    private static func tags(_ number: Int) -> CacheOptions {
        CacheOptions().with { $0.tags = ["\(number)/a", "\(number)/b", "\(number)/c"] }
    }

    @Test("each tag of an entry can be invalidated, also when room is made among tags while the entry comes in")
    func eachOfMany() throws {
        let cache = try CacheService().cache("test", of: Int.self, keyedBy: Int.self)
        // Three each, so that room is made between two tags of one entry.
        let count = 5000
        for number in 0..<count { try cache.set(number, for: number, options: Self.tags(number)) }
        for number in 0..<count { cache.invalidate(tag: "\(number)/\(["a", "b", "c"][number % 3])") }
        #expect((0..<count).filter { cache.contains($0) } == [])
    }
}
