// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import Synchronization

#if ServiceLifecycle
public import ServiceLifecycle
#endif

extension CacheService {
    /// Does the caches' work until its task is cancelled: loads, deadlines, sweeps.
    ///
    /// Call it once, in a task that you own. When it ends, loads under way are cancelled and their callers get
    /// ``CacheError/Code/notRunning``, and what waits to be written behind is left to a journal or lost. On a graceful
    /// shutdown (with the trait `ServiceLifecycle`), and after ``shutDown()``, it drains first: no new loads and changes
    /// that are written behind, and those under way have ``CacheServiceConfiguration/drainLimit``.
    ///
    /// - Throws: ``CacheError`` when it was called before, or a tier or a journal cannot work at all.
    public func run() async throws {
        #if ServiceLifecycle
        try await withGracefulShutdownHandler {
            try await self.work()
        } onGracefulShutdown: {
            self.stopRequest.wake(.stopped)
        }
        #else
        try await self.work()
        #endif
    }

    /// Has ``run()`` drain and then return.
    ///
    /// Returns at once; may be called more than once, and from any task.
    public func shutDown() { self.stopRequest.wake(.stopped) }

    private func work() async throws {
        let starting = self.state.withLock { state -> [WakeSlot]? in
            guard state.phase == .idle else { return nil }
            state.phase = .running
            defer { state.starting = [:] }
            return Array(state.starting.values)
        }
        guard let starting else {
            throw CacheError(.invalidArgument, "run() of a cache service can be called once only")
        }
        for slot in starting { slot.wake(.admitted) }
        do {
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { await self.runJobs() }
                group.addTask { await self.timers.run() }
                group.addTask { try await self.sweep() }
                group.addTask { await self.awaitStop() }
                group.addTask { try await self.awaitFailure() }
                if let tier = self.tier { group.addTask { try await self.hold { try await tier.run() } } }
                if let bus = self.bus { group.addTask { try await self.hold { try await self.listen(bus) } } }
                defer {
                    self.stop()
                    group.cancelAll()
                }
                try await group.next()
            }
        } catch is CancellationError {
            return
        }
    }

    private func runJobs() async {
        await withDiscardingTaskGroup { group in
            for await job in self.jobs.stream { group.addTask { await job() } }
            group.cancelAll()
        }
    }

    private func sweep() async throws {
        var nextReport = self.clock.now.after(self.configuration.reportInterval)
        while true {
            try await self.clock.sleeper.sleep(for: self.configuration.sweepInterval)
            let isDeaf = self.bus.map { !$0.isListening } ?? false
            for cache in self.state.withLock({ Array($0.caches.values) }) {
                cache.sweep()
                // As long as no news come, nothing is believed for longer than this.
                if isDeaf { cache.suspect() }
            }
            guard let observer = self.observer, self.clock.now >= nextReport else { continue }
            nextReport = self.clock.now.after(self.configuration.reportInterval)
            observer.report(self.report())
        }
    }

    /// Does work that may end by itself, and goes on until the task is cancelled.
    private func hold(_ work: () async throws -> Void) async throws {
        try await work()
        _ = await WakeSlot().wait()
    }

    private func listen(_ bus: BusPort) async throws {
        try await bus.run { news in
            switch news {
            case .missing:
                for cache in self.state.withLock({ Array($0.caches.values) }) { cache.suspect() }
            case .changes(let changes, let namespace):
                self.state.withLock { $0.caches[namespace] }?.receive(changes)
            }
        }
    }

    /// Waits for a request to stop, and then for what is under way: writes, and unless nobody asks any more, loads.
    private func awaitStop() async {
        let reasons = await self.stopRequest.wait()
        guard !reasons.isDisjoint(with: [.stopped, .finished]) else { return }
        let drained = self.state.withLock { state -> WakeSlot? in
            state.phase = .draining
            guard state.loads > 0, reasons.contains(.stopped) else { return nil }
            let slot = WakeSlot()
            state.drained = slot
            return slot
        }
        let caches = self.state.withLock { Array($0.caches.values) }
        for cache in caches { cache.beginDrain() }
        let end = self.clock.now.after(self.configuration.drainLimit)
        if let drained {
            let alarm = self.timers.schedule(at: end) { drained.wake(.timer) }
            _ = await drained.wait()
            self.timers.cancel(alarm)
        }
        for cache in caches { await cache.drained(by: end) }
        await self.bus?.flush()
    }

    /// Waits until the service cannot go on, and throws why.
    private func awaitFailure() async throws {
        _ = await self.failed.wait()
        if let error = self.state.withLock({ $0.failure }) { throw error }
        // Cancelled.
        _ = await WakeSlot().wait()
    }

    private func stop() {
        let caches = self.state.withLock { state in
            state.phase = .stopped
            return Array(state.caches.values)
        }
        for cache in caches { cache.stop() }
        self.jobs.input.finish()
        if let observer = self.observer { observer.report(self.report()) }
    }
}

/// Runs a cache service for as long as some work takes.
///
/// When the work returns, what it wrote behind is written first, for up to ``CacheServiceConfiguration/drainLimit``; loads
/// that still run are cancelled. When it throws, or its task is cancelled, that is the end at once.
///
/// - Parameters:
///   - service: The service.
///   - body: The work.
/// - Returns: What the work returns.
/// - Throws: What the work or the service throws.
public func withCacheService<Result: Sendable>(
    _ service: CacheService,
    _ body: (CacheService) async throws -> Result
) async throws -> Result {
    try await withThrowingTaskGroup(of: Void.self) { group in
        group.addTask { try await service.run() }
        defer { group.cancelAll() }
        try await service.awaitStart()
        let result = try await body(service)
        service.stopRequest.wake(.finished)
        try await group.next()
        return result
    }
}

#if ServiceLifecycle
extension CacheService: Service {}
#endif
