// SPDX-License-Identifier: Apache-2.0

package import Holdfast
package import HoldfastCore

/// One worker of the demo: serves requests from the cache and rebuilds it under the lock when it is stale.
package struct DemoWorker: Sendable {
    /// The worker's number.
    package let number: Int
    /// What is indexed.
    package let directory: String
    /// Where the cache and the log are.
    package let scratch: String
    /// When to end, in boot time.
    package let end: Int64

    /// How old the cache may be.
    package static let freshness: Int64 = 1_000_000_000
    /// How long a dead worker blocks the others.
    package static let lease: Duration = .seconds(1)
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

    private var cache: DemoCache { DemoCache(path: "\(self.scratch)/cache") }
    private var log: DemoLog { DemoLog(path: "\(self.scratch)/log") }

    /// The lock that guards rebuilds of the cache in a directory.
    package static func resource(scratch: String) -> Resource {
        Resource(escaping: "holdfast-demo/\(scratch.split(separator: "/").last ?? "")/rebuild")
    }

    /// Serves requests until the end.
    package func run(on locks: LockService) async throws {
        var (requests, counted) = (Int64(0), Int64(0))
        while BootTime.now < self.end {
            let content = try await self.cache.read()
            if content.isStale(at: BootTime.now, limit: Self.freshness) { try await self.rebuild(content, locks) }
            requests += 1
            let now = BootTime.now
            if now - counted > Self.countInterval {
                counted = now
                try self.log.append(DemoEvent(time: now, worker: self.number, kind: .requests, value: requests))
            }
            try await Task.sleep(for: Self.pause, clock: .continuous)
        }
        try self.log.append(DemoEvent(time: BootTime.now, worker: self.number, kind: .requests, value: requests))
    }

    /// Rebuilds the cache unless somebody else has done so by the time the lock is held.
    private func rebuild(_ stale: DemoCache.Content, _ locks: LockService) async throws {
        do {
            try await locks.withLock(
                Self.resource(scratch: self.scratch),
                lease: Self.lease,
                waitingAtMost: .seconds(10),
                label: "worker \(self.number)"
            ) { lease in
                let content = try await self.cache.read()
                guard content.isStale(at: BootTime.now, limit: Self.freshness), BootTime.now < self.end else { return }
                try await self.rebuild(generation: content.generation + 1, under: lease)
            }
        } catch let error as LockError where error.code == .lost || error.code == .fenced {
            return  // it was written down; the next request finds what the new holder built
        }
    }

    /// Builds and writes, as work does that pays no heed to being cancelled: the fence must stop what comes too late.
    private func rebuild(generation: Int64, under lease: Lease) async throws {
        try self.write(.begin, generation, lease)
        let started = ContinuousClock.now
        let text = await DemoIndex.build(of: self.directory) { _, total in
            try? await Task.sleep(for: Self.rebuildTime / max(1, total), clock: .continuous)
        }
        // However little there is to index.
        try? await Task.sleep(until: started.advanced(by: Self.rebuildTime), clock: .continuous)
        defer { try? self.write(.leave, generation, lease) }
        do {
            try await self.cache.write(
                DemoCache.Content(
                    generation: generation,
                    builtAt: BootTime.now,
                    token: lease.fencingToken,
                    text: text
                )
            )
            try self.write(.wrote, generation, lease)
        } catch let error as LockError where error.code == .fenced {
            try self.write(.refused, generation, lease)
            throw error
        }
    }

    private func write(_ kind: DemoEvent.Kind, _ generation: Int64, _ lease: Lease) throws {
        try self.log.append(
            DemoEvent(
                time: BootTime.now,
                worker: self.number,
                kind: kind,
                token: lease.fencingToken.rawValue,
                generation: generation,
                value: BootTime.of(lease.validUntil)
            )
        )
    }
}
