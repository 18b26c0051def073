// SPDX-License-Identifier: Apache-2.0

package import Holdfast
import HoldfastCache
package import HoldfastCore

/// One worker of the demo: serves requests from a shared cache, whose engine rebuilds what is stale under a lock.
///
/// There is no bus: what others rebuilt is noticed when the time to live is over, and all of them want the lock then.
package struct DemoWorker: Sendable {
    /// The worker's number.
    package let number: Int
    /// What is indexed.
    package let directory: String
    /// Where the cache and the log are.
    package let scratch: String
    /// When to end, in boot time.
    package let end: Int64

    /// How long the cache is fresh.
    private static let freshness: Duration = .seconds(1)
    /// How long a dead worker blocks the others.
    private static let lease: Duration = .seconds(1)
    /// How long a rebuild takes at least, so that it can be seen, and interrupted.
    private static let rebuildTime: Duration = .milliseconds(250)
    /// Between two requests.
    private static let pause: Duration = .milliseconds(2)
    /// How often the count of requests is written down.
    private static let countInterval: Int64 = 50_000_000

    /// Makes a worker.
    package init(number: Int, directory: String, scratch: String, end: Int64) {
        self.number = number
        self.directory = directory
        self.scratch = scratch
        self.end = end
    }

    private var log: DemoLog { DemoLog(path: "\(self.scratch)/log") }
    /// What is told of the locks that the cache engine takes.
    package var leases: DemoLeases { DemoLeases(worker: self.number, log: self.log) }

    /// The cache's name: one of its own in each run, since the locks of all runs are in one store.
    private static func cache(_ scratch: String) -> String { "demo-\(scratch.split(separator: "/").last ?? "")" }

    /// The lock that guards rebuilds of the cache in a directory.
    package static func resource(scratch: String) -> Resource {
        TierInspector.resource(DemoTier.key, in: Self.cache(scratch))
    }

    /// Serves requests until the end.
    ///
    /// - Parameters:
    ///   - locks: Guard the rebuilds.
    ///   - leases: The observer of `locks`.
    /// - Throws: ``CommandFailure``, `LockError` or `CacheError`.
    package func run(on locks: LockService, _ leases: DemoLeases) async throws {
        let tier = DemoTier(path: "\(self.scratch)/cache") { token, generation, isWritten in
            // A log that cannot be written is noticed with the next request.
            try? self.write(isWritten ? .wrote : .refused, generation, token, 0)
            try? self.write(.leave, generation, token, 0)
        }
        let caches = try CacheService(tier: tier, locks: locks)
        let cache = try caches.sharedCache(Self.cache(self.scratch), of: String.self, keyedBy: String.self) {
            $0.options.timeToLive = Self.freshness
            $0.options.jitter = 0
            // A rebuild without a lock would prove nothing.
            $0.options.lockOutage = .fail
            $0.options.staleIfError = .seconds(60)
            $0.fillLease = Self.lease
            $0.maximumSharedValue = CacheLimits.largestValue
        }
        try await withCacheService(caches) { _ in
            var (requests, counted) = (Int64(0), Int64(0))
            while BootTime.now < self.end {
                _ = try await cache.value(for: DemoTier.key) { context in
                    try await self.rebuild(context, tier, leases)
                }
                requests += 1
                let now = BootTime.now
                if now - counted > Self.countInterval {
                    counted = now
                    try self.write(.requests, 0, 0, requests)
                }
                try await Task.sleep(for: Self.pause, clock: .continuous)
            }
            try self.write(.requests, 0, 0, requests)
        }
    }

    /// Builds, as work does that pays no heed to being cancelled: the fence must stop what comes too late.
    private func rebuild(
        _ context: LoadContext<String>,
        _ tier: DemoTier,
        _ leases: DemoLeases
    ) async throws -> String {
        guard BootTime.now < self.end else {
            context.skipCaching()
            return context.stale?.value ?? ""
        }
        guard let token = context.fencingToken?.rawValue else {
            throw CommandFailure(ExitStatus.software, "a rebuild of the demo has no lock")
        }
        let started = ContinuousClock.now
        let generation = try await tier.content().generation + 1
        try self.write(.begin, generation, token, leases.end(of: token))
        let text = await DemoIndex.build(of: self.directory) { _, total in
            try? await Task.sleep(for: Self.rebuildTime / max(1, total), clock: .continuous)
        }
        // However little there is to index.
        try? await Task.sleep(until: started.advanced(by: Self.rebuildTime), clock: .continuous)
        return text
    }

    private func write(_ kind: DemoEvent.Kind, _ generation: Int64, _ token: UInt64, _ value: Int64) throws {
        try self.log.append(
            DemoEvent(
                time: BootTime.now,
                worker: self.number,
                kind: kind,
                token: token,
                generation: generation,
                value: value
            )
        )
    }
}
