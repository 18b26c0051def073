// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCache
import HoldfastCore
import HoldfastTesting
import Synchronization
import Testing

/// What several processes share, on a clock that a test moves.
final class Shared: Sendable {
    let clock = ManualClock()
    let tier: MemoryCacheTier
    let bus: MemoryCacheBus
    let server: SimulatedServer

    init() {
        self.tier = MemoryCacheTier(clock: self.clock)
        self.bus = MemoryCacheBus(clock: self.clock)
        self.server = SimulatedServer(clock: self.clock)
    }
}

/// One of the processes.
final class Node: Sendable {
    /// Keeps what it is told.
    final class Log: CacheObserver {
        private let events = Mutex<[CacheEvent]>([])

        var all: [CacheEvent] { self.events.withLock { $0 } }

        func observe(_ event: CacheEvent) { self.events.withLock { $0.append(event) } }
    }

    let caches: CacheService
    let cache: SharedCache<String, String>
    let locks: LockService
    let store: SimulatedStore
    let log = Log()

    init(
        _ shared: Shared,
        hasBus: Bool,
        hasLocks: Bool,
        _ configure: (inout CacheConfiguration<String, String>) -> Void
    ) throws {
        self.store = shared.server.connect()
        self.locks = try LockService(store: self.store, clock: shared.clock)
        self.caches = try CacheService(
            tier: shared.tier,
            bus: hasBus ? shared.bus : nil,
            locks: hasLocks ? self.locks : nil,
            observer: self.log,
            clock: shared.clock
        )
        self.cache = try self.caches.sharedCache("test", of: String.self, keyedBy: String.self, configure: configure)
    }

    var statistics: CacheStatistics { self.cache.statistics() }

    /// Loads a key with a value that is there at once.
    func value(_ key: String, _ value: String, runs: Counter? = nil) async throws -> String {
        try await self.cache.value(for: key) {
            runs?.next()
            return value
        }
    }
}

/// What tasks of a test noted, in order.
final class Kept<Element: Sendable>: Sendable {
    private let elements = Mutex<[Element]>([])

    var all: [Element] { self.elements.withLock { $0 } }

    func add(_ element: Element) { self.elements.withLock { $0.append(element) } }
}

/// Options with which entries live 10 s to the nanosecond.
var tenSeconds: CacheOptions {
    CacheOptions().with {
        $0.timeToLive = .seconds(10)
        $0.jitter = 0
    }
}

/// Runs some processes that share a tier, a bus and locks.
func withNodes(
    _ count: Int,
    options: CacheOptions = tenSeconds,
    hasBus: Bool = true,
    hasLocks: Bool = true,
    fillLease: Duration = .seconds(5),
    maximumSharedValue: Int = 1 << 20,
    configure: (inout CacheConfiguration<String, String>) -> Void = { _ in },
    _ body: (Shared, [Node]) async throws -> Void
) async throws {
    let shared = Shared()
    let nodes = try (0..<count).map { _ in
        try Node(shared, hasBus: hasBus, hasLocks: hasLocks) {
            $0.options = options
            $0.fillLease = fillLease
            $0.maximumSharedValue = maximumSharedValue
            configure(&$0)
        }
    }
    try await withThrowingTaskGroup(of: Void.self) { group in
        for node in nodes {
            group.addTask { try await node.locks.run() }
            group.addTask { try await node.caches.run() }
        }
        defer { group.cancelAll() }
        if hasBus { #expect(await eventually { nodes.allSatisfy(\.caches.isListening) }) }
        try await body(shared, nodes)
        group.cancelAll()
        // Calls that nobody answers end by the clock.
        try await ticking(shared.clock) { try await group.waitForAll() }
    }
}

/// Does something while time passes.
func ticking<Result>(
    _ clock: ManualClock,
    by step: Duration = .milliseconds(20),
    _ body: () async throws -> Result
) async rethrows -> Result {
    let ticks = Task {
        while !Task.isCancelled {
            clock.advance(by: step)
            try await Task.sleep(for: .milliseconds(1))
        }
    }
    defer { ticks.cancel() }
    return try await body()
}
