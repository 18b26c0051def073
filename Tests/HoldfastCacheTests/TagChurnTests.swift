// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
import HoldfastTesting
import Testing

/// Keeps a core busy for a while.
@Suite("Tags and keys without end", .timeLimit(.minutes(5)))
struct TagChurnTests {
    @Test("a million expiring entries with tags of their own leave neither tags nor entries behind (laravel 43850)")
    func expiring() throws {
        let clock = ManualClock()
        let service = try CacheService(clock: clock)
        let cache = try service.cache("test", of: Int.self, keyedBy: Int.self) { configuration in
            configuration.capacity = .entries(20_000)
            configuration.options.timeToLive = .seconds(10)
        }
        var options = CacheOptions()
        options.timeToLive = .seconds(10)
        var most = 0
        for number in 0..<1_000_000 {
            options.tags = ["user \(number)", "all"]
            try cache.set(number, for: number, options: options)
            if number % 1000 == 0 {
                clock.advance(by: .milliseconds(500))
                cache.invalidate(tag: "user \(number - 500)")
                most = max(most, cache.rememberedTags)
            }
        }
        // Those of entries that are there, as many again, and what is kept before anybody looks.
        #expect(most <= 2 * 20_000 + 1024, "\(most)")
        clock.advance(by: .seconds(20))
        for number in 980_000..<1_000_000 { #expect(cache.cached(number) == nil) }
        for number in 0..<100_000 { cache.invalidate(tag: "other \(number)") }
        #expect(cache.rememberedTags <= 2 * 20_000 + 1024, "\(cache.rememberedTags)")
    }
}
