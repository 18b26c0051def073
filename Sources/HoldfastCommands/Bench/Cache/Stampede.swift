// SPDX-License-Identifier: Apache-2.0

import CHoldfastProcess
import Glibc
import Holdfast
import HoldfastCache
import HoldfastCore
import HoldfastRedisCache
import Synchronization

/// `stampede`: many getters in several processes want one key whose loader takes a while.
///
/// Cold, each asks once, all at one moment. With an expiry, each asks, sleeps, and asks again for so long, while the entry
/// keeps expiring. What one process does; the same as the peers' harness.
package struct Stampede: Sendable {
    /// How long a getter sleeps before it asks again.
    package static let gap: Duration = .milliseconds(5)

    /// How many ask.
    package var getters: Int
    /// How long a load takes.
    package var loadTime: Duration
    /// For how long they go on; `nil` for one call each.
    package var expiry: Duration?
    /// How long an entry is fresh.
    package var timeToLive: Duration
    /// A name that no other run has: the key.
    package var run: String

    /// Describes a run.
    package init(getters: Int, loadTime: Duration, expiry: Duration?, timeToLive: Duration, run: String) {
        self.getters = getters
        self.loadTime = loadTime
        self.expiry = expiry
        self.timeToLive = timeToLive
        self.run = run
    }

    /// What was measured.
    package struct Log: Sendable {
        /// How often the loader ran.
        package var loads: Int64 = 0
        /// How many calls failed.
        package var failures: Int64 = 0
        /// Processor time, in nanoseconds.
        package var processorTime: Int64 = 0
        /// How long each call took, in nanoseconds.
        package var times: [Int64] = []

        /// Nothing yet.
        package init() {}

        /// Reads what ``words`` are.
        package init?(words: [Int64]) {
            guard words.count >= 3 else { return nil }
            (self.loads, self.failures, self.processorTime) = (words[0], words[1], words[2])
            self.times = Array(words.dropFirst(3))
        }

        /// The log as numbers.
        package var words: [Int64] { [self.loads, self.failures, self.processorTime] + self.times }

        /// Adds another process' log.
        package mutating func add(_ other: Log) {
            self.loads += other.loads
            self.failures += other.failures
            self.processorTime += other.processorTime
            self.times += other.times
        }
    }

    /// Gets.
    ///
    /// - Parameters:
    ///   - url: The Redis that has the entries, the bus and the locks.
    ///   - start: When to begin, in boot time.
    /// - Returns: What was measured.
    /// - Throws: ``CommandFailure``, `LockError` or `CacheError` when it cannot be.
    package func work(on url: StoreURL, start: Int64) async throws -> Log {
        let parts = try CacheParts.make(url)
        return try await withLockService(store: try StoreFactory.make(url)) { locks in
            let caches = try CacheService(tier: parts.tier, bus: parts.bus, locks: locks)
            let cache = try caches.sharedCache("bench", of: String.self, keyedBy: String.self) {
                $0.options.timeToLive = self.timeToLive
                if self.expiry != nil { $0.options.staleWhileRevalidate = self.timeToLive * 10 }
            }
            return try await withCacheService(caches) { _ in
                // Connections are made before the start.
                _ = try await cache.get("warm up")
                try await locks.withLock(Resource(escaping: "cache/bench/\(self.run)-warm"), lease: .seconds(5)) { _ in
                }
                while !caches.isListening, BootTime.now < start { try await Task.sleep(for: .milliseconds(1)) }
                // What is left behind ends with its time to live: others may still want it.
                return try await self.get(from: cache, start)
            }
        }
    }

    /// What getters count together.
    private final class Tally: Sendable {
        let loads = Atomic<Int64>(0)
        let failures = Atomic<Int64>(0)

        init() {}
    }

    private func get(from cache: SharedCache<String, String>, _ start: Int64) async throws -> Log {
        let tally = Tally()
        let processorTime = hf_cpu_time()
        var log = Log()
        try await withThrowingTaskGroup(of: [Int64].self) { group in
            for _ in 0..<self.getters {
                group.addTask { try await self.ask(cache, start, tally) }
            }
            for try await times in group { log.times += times }
        }
        log.loads = tally.loads.load(ordering: .relaxed)
        log.failures = tally.failures.load(ordering: .relaxed)
        log.processorTime = hf_cpu_time() - processorTime
        return log
    }

    /// What one getter does.
    ///
    /// - Returns: How long each call took.
    private func ask(_ cache: SharedCache<String, String>, _ start: Int64, _ tally: Tally) async throws -> [Int64] {
        let end = start + (self.expiry ?? .zero).nanoseconds
        var times: [Int64] = []
        try await Task.sleep(for: .nanoseconds(max(0, start - BootTime.now)))
        repeat {
            if !times.isEmpty { try await Task.sleep(for: Self.gap) }
            let began = BootTime.now
            do {
                _ = try await cache.value(for: self.run) {
                    tally.loads.add(1, ordering: .relaxed)
                    try await Task.sleep(for: self.loadTime)
                    return String(UInt64.random(in: 0...UInt64.max), radix: 16)
                }
            } catch is CancellationError {
                throw CancellationError()
            } catch {
                tally.failures.add(1, ordering: .relaxed)
            }
            times.append(BootTime.now - began)
        } while BootTime.now < end
        return times
    }

    /// The line that is printed.
    package func json(_ log: Log, processes: Int, version: String) -> JSONValue {
        let times = log.times.sorted()
        func quantile(_ part: Double) -> JSONValue {
            let place = min(times.count - 1, Int(Double(times.count) * part))
            return .decimal(times.isEmpty ? 0 : Double(times[place]) / 1000, places: 1)
        }
        let seconds = Double((self.expiry ?? .nanoseconds(times.last ?? 1)).nanoseconds) * 1e-9
        let mode = self.expiry == nil ? "cold" : "expiry"
        var members: [JSONValue.Member] = [
            .init("peer", .string("holdfast")),
            .init("version", .string(version)),
            .init("workload", .string("stampede \(mode) n\(self.getters) p\(processes)")),
            .init("loads", .integer(log.loads)),
            .init("ops_per_s", .decimal(Double(times.count) / seconds, places: 1)),
            .init("p50_us", quantile(0.5)),
            .init("p99_us", quantile(0.99)),
            .init("max_us", quantile(1)),
            .init("cpu_s", .decimal(Double(log.processorTime) * 1e-9, places: 3)),
        ]
        if log.failures > 0 { members.append(.init("failures", .integer(log.failures))) }
        return .object(members)
    }
}
