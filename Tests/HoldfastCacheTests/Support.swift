// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCache
import HoldfastCore
import HoldfastTesting
import Synchronization

/// A door that loaders wait at until a test opens it; who waits does not heed cancellation.
final class Gate: Sendable {
    private struct State {
        var isOpen = false
        var arrivals = 0
        var waiting: [CheckedContinuation<Void, Never>] = []
        var watching: [(count: Int, continuation: CheckedContinuation<Void, Never>)] = []
    }

    private let state = Mutex(State())

    /// How many came.
    var arrivals: Int { self.state.withLock { $0.arrivals } }

    /// Waits until it is open.
    @concurrent
    func pass() async {
        await withCheckedContinuation { continuation in
            let (isOpen, seen) = self.state.withLock { state in
                state.arrivals += 1
                if !state.isOpen { state.waiting.append(continuation) }
                let seen = state.watching.filter { $0.count <= state.arrivals }
                state.watching.removeAll { $0.count <= state.arrivals }
                return (state.isOpen, seen)
            }
            for one in seen { one.continuation.resume() }
            if isOpen { continuation.resume() }
        }
    }

    /// Lets all through, now and later.
    func open() {
        let waiting = self.state.withLock { state in
            state.isOpen = true
            defer { state.waiting = [] }
            return state.waiting
        }
        for one in waiting { one.resume() }
    }

    /// Waits until so many have come.
    @concurrent
    func arrived(_ count: Int = 1) async {
        await withCheckedContinuation { continuation in
            let isThere = self.state.withLock { state in
                if state.arrivals >= count { return true }
                state.watching.append((count, continuation))
                return false
            }
            if isThere { continuation.resume() }
        }
    }
}

/// Counts.
final class Counter: Sendable {
    private let number = Mutex(0)

    var value: Int { self.number.withLock { $0 } }

    @discardableResult
    func next() -> Int {
        self.number.withLock { number in
            number += 1
            return number
        }
    }
}

struct Failure: Error, Hashable {
    var number = 0
}

/// Runs a cache on a clock that a test moves.
func withCache<Value: Sendable>(
    of value: Value.Type,
    clock: any LeaseClock = ManualClock(),
    service configuration: CacheServiceConfiguration = CacheServiceConfiguration(),
    options: CacheOptions = CacheOptions(),
    _ body: (Cache<String, Value>) async throws -> Void
) async throws {
    let service = try CacheService(configuration: configuration, clock: clock)
    let cache = try service.cache("test", of: value, keyedBy: String.self) { $0.options = options }
    try await withCacheService(service) { _ in try await body(cache) }
}

/// The same for texts.
func withCache(
    clock: any LeaseClock = ManualClock(),
    service configuration: CacheServiceConfiguration = CacheServiceConfiguration(),
    options: CacheOptions = CacheOptions(),
    _ body: (Cache<String, String>) async throws -> Void
) async throws {
    try await withCache(of: String.self, clock: clock, service: configuration, options: options, body)
}

/// Waits until something is so, about two seconds at most.
func eventually(_ condition: () -> Bool) async -> Bool {
    for _ in 0..<2000 {
        if condition() { return true }
        try? await Task.sleep(for: .milliseconds(1))
    }
    return condition()
}
