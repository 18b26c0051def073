// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
import HoldfastRedisCache
import Testing

/// Keeps the machine busy for a while.
@Suite("Entries of a cache on Redis without end", .timeLimit(.minutes(5)))
struct ChurnTests {
    @Test
    func `a hundred thousand expiring entries with tags leave nothing behind (laravel 43850)`() async throws {
        try await Self.leavesNothing(try await .single(), entries: 100_000)
    }

    static func leavesNothing(_ bench: LayoutTests.Bench, entries: Int) async throws {
        func write(_ numbers: Range<Int>, life: Duration) async throws {
            let writes = numbers.map { number in
                var envelope = Envelope(codec: 1)
                envelope.tags = ["all", "user \(number)"]
                let payload = envelope.encoded(for: "\(number)", in: "churn")
                return TierWrite(key: "\(number)", payload: payload, timeToLive: life)
            }
            _ = try await bench.tier.write(writes, in: "churn")
        }
        let size = CacheLimits.maximumBatch
        try await withThrowingTaskGroup(of: Void.self) { group in
            for start in stride(from: 0, to: entries, by: size) {
                if start >= 8 * size { try await group.next() }
                group.addTask { try await write(start..<min(entries, start + size), life: .milliseconds(300)) }
            }
            try await group.waitForAll()
        }
        for number in 0..<100 {
            let scope = InvalidationScope.tag("user \(number)")
            _ = try await bench.tier.invalidate(scope, in: "churn", keepFor: .seconds(1))
        }
        // No index has kept their names: once they have expired, nothing of them is there.
        try await eventually("something of the entries is left") {
            var (census, cursor) = (RedisCacheTier.Census(), String?.none)
            repeat {
                let page = try await bench.tier.census(of: "churn", after: cursor)
                for count in page.counts.values { census.add(count) }
                cursor = page.next
            } while cursor != nil
            return census == RedisCacheTier.Census()
        }
    }
}
