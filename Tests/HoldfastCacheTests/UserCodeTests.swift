// SPDX-License-Identifier: Apache-2.0

import Foundation
import HoldfastCache
import HoldfastTesting
import Synchronization
import Testing

#if Tracing
import Tracing
#endif

/// Code of users that a cache calls: it uses the same cache from another thread, which waits if a lock is held meanwhile.
private final class Visitor: CacheObserver {
    private let cache = Mutex<Cache<String, String>?>(nil)
    private let visited = Mutex<[String: Int]>([:])
    let held = Counter()

    var places: [String: Int] { self.visited.withLock { $0 } }

    func enter(_ cache: Cache<String, String>) { self.cache.withLock { $0 = cache } }

    func visit(_ place: String) {
        // Not for what the visitor does itself.
        guard Thread.current.name != "visitor", let cache = self.cache.withLock({ $0 }) else { return }
        self.visited.withLock { $0[place, default: 0] += 1 }
        let isBack = DispatchSemaphore(value: 0)
        Thread.detachNewThread {
            Thread.current.name = "visitor"
            // A look, a change, and what goes through all parts of the memory.
            _ = cache.cached("absent")
            cache.expire("absent")
            _ = cache.statistics()
            isBack.signal()
        }
        if isBack.wait(timeout: .now() + 5) == .timedOut { self.held.next() }
    }

    func observe(_ event: CacheEvent) { self.visit("observer") }
}

@Suite("Code of users runs outside of a cache's locks", .timeLimit(.minutes(5)))
struct UserCodeTests {
    @Test("weighers, listeners, groups, changes, loaders and observers may use the cache itself (caffeine 712)")
    func everywhere() async throws {
        let visitor = Visitor()
        let clock = ManualClock()
        let service = try CacheService(observer: visitor, clock: clock)
        let cache = try service.cache("test", of: String.self, keyedBy: String.self) { configuration in
            // One part, so that its lock is every key's.
            configuration.shards = 1
            configuration.capacity = .weight(4)
            configuration.weigher = { _, _ in
                visitor.visit("weigher")
                return 1
            }
            configuration.onRemoval = { _, _, cause in visitor.visit("removal \(cause)") }
            configuration.group = { _ in
                visitor.visit("group")
                return "all"
            }
            configuration.options.timeToLive = .seconds(1)
        }
        visitor.enter(cache)
        try await withCacheService(service) { _ in
            for number in 0..<8 {
                let value = try await cache.value(for: "\(number)") {
                    visitor.visit("loader")
                    return "v"
                }
                #expect(value == "v")
            }
            try cache.set("set", for: "k")
            try cache.set("again", for: "k")
            try cache.update("k") { old in
                visitor.visit("change")
                return old
            }
            cache.remove("k")
            try cache.set("tagged", for: "t", options: CacheOptions().with { $0.tags = ["a"] })
            cache.invalidate(tag: "a")
            _ = cache.cached("t")
            cache.invalidate(prefix: "1")
            clock.advance(by: .seconds(2))
            let isSwept = await eventually { cache.statistics().count == 0 }
            #expect(isSwept)
            try cache.set("last", for: "k")
            cache.invalidateAll()
            _ = try? await cache.value(for: "fails") { throw Failure() }
        }
        #expect(visitor.held.value == 0, "\(visitor.places)")
        let seen = Set(visitor.places.keys)
        #expect(seen.isSuperset(of: ["weigher", "group", "loader", "change", "observer"]), "\(seen)")
        #expect(seen.count { $0.hasPrefix("removal") } >= 4, "\(seen)")
    }

    #if Tracing
    private enum Request: ServiceContextKey {
        typealias Value = String
    }

    @TaskLocal private static var request = "none"

    @Test("a loader has the tracing context of whoever asked first, and nothing else of his task")
    func tracing() async throws {
        try await withCache { cache in
            var context = ServiceContext.topLevel
            context[Request.self] = "traced"
            let (seen, other) = try await ServiceContext.$current.withValue(context) {
                try await Self.$request.withValue("of the caller") {
                    let seen = try await cache.value(for: "k") { ServiceContext.current?[Request.self] ?? "nothing" }
                    let other = try await cache.value(for: "other") { Self.request }
                    return (seen, other)
                }
            }
            #expect(seen == "traced")
            #expect(other == "none")
            // Who has none gives none.
            let bare = try await cache.value(for: "bare") { ServiceContext.current?[Request.self] ?? "nothing" }
            #expect(bare == "nothing")
        }
    }
    #endif
}
