// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
import HoldfastTesting
import Synchronization
import Testing

/// Where values and keys find the cache that they are in.
private final class Place: Sendable {
    let cache = Mutex<Cache<AskingKey, AskingValue>?>(nil)
    let ended = Mutex(0)

    func ask(about key: AskingKey) {
        guard let cache = self.cache.withLock({ $0 }) else { return }
        _ = cache.contains(key)
        _ = cache.cached(key)
    }
}

/// Asks the cache when it ends.
private final class AskingValue: Sendable {
    let key: AskingKey

    init(_ key: AskingKey) { self.key = key }

    deinit {
        self.key.place.ended.withLock { $0 += 1 }
        self.key.place.ask(about: self.key)
    }
}

/// The same as an error.
private final class AskingError: Error {
    let key: AskingKey

    init(_ key: AskingKey) { self.key = key }

    deinit {
        self.key.place.ended.withLock { $0 += 1 }
        self.key.place.ask(about: self.key)
    }
}

/// Asks the cache when its text is made.
private struct AskingKey: CacheKey, Hashable {
    let text: String
    let place: Place

    init(_ text: String, _ place: Place) { (self.text, self.place) = (text, place) }

    init?(cacheKey: String) { self.init(cacheKey, Place()) }

    var cacheKey: String {
        self.place.ask(about: self)
        return self.text
    }

    static func == (left: AskingKey, right: AskingKey) -> Bool { left.text == right.text }

    func hash(into hasher: inout Hasher) { hasher.combine(self.text) }
}

@Suite("Code of the user's runs under no lock of a cache: it may use that very cache")
struct OutsideOfLocksTests {
    @Test("the end of a value that is replaced, removed, evicted, invalidated or expired; the text of a key; a weigher")
    func sameCache() async throws {
        let clock = ManualClock()
        let place = Place()
        let service = try CacheService(clock: clock)
        let cache = try service.cache("test", of: AskingValue.self, keyedBy: AskingKey.self) { configuration in
            configuration.capacity = .weight(8)
            configuration.shards = 1
            configuration.weigher = { key, _ in
                place.ask(about: key)
                return 1
            }
        }
        place.cache.withLock { $0 = cache }
        defer { place.cache.withLock { $0 = nil } }
        let keys = (0..<40).map { AskingKey("key \($0)", place) }
        for key in keys { try cache.set(AskingValue(key), for: key) }
        let evicted = place.ended.withLock { $0 }
        #expect(evicted >= 32)
        for key in keys { try cache.set(AskingValue(key), for: key) }
        for key in keys.prefix(20) { cache.remove(key) }
        for key in keys.prefix(6) { try cache.set(AskingValue(key), for: key) }
        cache.invalidate(prefix: "key 1")
        #expect(cache.cached(keys[1]) == nil)
        try cache.update(keys[2]) { _ in nil }
        cache.invalidate(tag: "none")
        cache.invalidateAll()
        #expect(cache.statistics().weight == 0)
        var options = CacheOptions()
        options.timeToLive = .seconds(1)
        options.jitter = 0
        for key in keys.prefix(4) { try cache.set(AskingValue(key), for: key, options: options) }
        clock.advance(by: .seconds(2))
        #expect(cache.cached(keys[0]) == nil)
        let loaded = try await withCacheService(service) { _ in
            try await cache.value(for: keys[1], options: options) { AskingValue(keys[1]) }.key
        }
        #expect(loaded == keys[1])
        cache.invalidateAll()
        let ended = place.ended.withLock { $0 }
        #expect(ended == 91)
    }

    @Test("the end of an error that was remembered: set over, removed, invalidated, expired, followed by another")
    func errors() async throws {
        let clock = ManualClock()
        let place = Place()
        let service = try CacheService(clock: clock)
        let cache = try service.cache("test", of: AskingValue.self, keyedBy: AskingKey.self) { configuration in
            configuration.shards = 1
            configuration.options.errorBackoff = .seconds(10)
        }
        place.cache.withLock { $0 = cache }
        defer { place.cache.withLock { $0 = nil } }
        let keys = (0..<5).map { AskingKey("key \($0)", place) }
        try await withCacheService(service) { _ in
            func fail(_ key: AskingKey) async {
                _ = try? await cache.value(for: key) { throw AskingError(key) }
            }
            for key in keys { await fail(key) }
            let kept = place.ended.withLock { $0 }
            #expect(kept == 0)
            try cache.set(AskingValue(keys[0]), for: keys[0])
            cache.remove(keys[1])
            clock.advance(by: .seconds(20))
            // Over, and followed by another.
            await fail(keys[2])
            // Over, and swept away.
            clock.advance(by: .seconds(20))
            let isSwept = await eventually { place.ended.withLock { $0 } == 6 }
            #expect(isSwept)
            await fail(keys[3])
            cache.invalidateAll()
        }
        // The value too.
        let ended = place.ended.withLock { $0 }
        #expect(ended == 8)
    }

    @Test("a prefix is forgotten up to its invalidation, and what is set after it stays")
    func prefix() async throws {
        let service = try CacheService()
        let cache = try service.cache("test", of: Int.self, keyedBy: String.self)
        for number in 0..<100 { try cache.set(number, for: "a/\(number)") }
        try cache.set(1, for: "b/1")
        cache.invalidate(prefix: "a/")
        #expect((0..<100).allSatisfy { cache.cached("a/\($0)") == nil })
        #expect(cache.cached("b/1") == 1)
        try cache.set(7, for: "a/7")
        #expect(cache.cached("a/7") == 7)
    }
}
