// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import Synchronization

#if Tracing
import Tracing
#endif

// Running loads.
extension Cache {
    /// Starts a load of one key in a task of the service.
    func start(
        _ flight: Flight<Value>,
        _ key: Key,
        _ hash: UInt64,
        _ options: CacheOptions,
        _ stale: LoadContext<Value>.Stale?,
        _ isBackground: Bool,
        _ loader: @escaping Loader
    ) {
        let alarm = self.watch(flight, key, hash, options)
        let path = LoadPath(flight.id, within: LoadPath.current)
        let deadline = self.service.clock.instant(of: flight.startedAt.after(options.hardDeadline))
        self.service.launch {
            await LoadPath.$current.withValue(path) {
                await withTaskGroup(of: Void.self) { group in
                    group.addTask {
                        let context = LoadContext<Value>(
                            options,
                            stale: stale,
                            isBackground: isBackground,
                            fencingToken: nil,
                            deadline: deadline
                        )
                        let result = await Self.result(of: loader, context)
                        self.service.timers.cancel(alarm)
                        self.land(flight, key, hash, result, context.close(), isBackground: isBackground)
                        flight.stop.wake(.finished)
                    }
                    // It may be given up before.
                    _ = await flight.stop.wait()
                    group.cancelAll()
                }
            }
        }
    }

    /// Gives a load up when its time is over.
    func watch(
        _ flight: Flight<Value>,
        _ key: Key,
        _ hash: UInt64,
        _ options: CacheOptions
    ) -> CacheTimers.ID {
        self.service.timers.schedule(at: flight.startedAt.after(options.hardDeadline)) { [weak self] in
            guard let self, self.change(hash, { shard, _ in shard.abandon(key, flight) }) else { return }
            let limit = options.hardDeadline.brief
            self.gaveUp(flight, CacheError(.deadline, "a loader of \(self.name) did not end within \(limit)"))
        }
    }

    private static func result(
        of loader: Loader,
        _ context: LoadContext<Value>
    ) async -> Result<Content<Value>, any Error> {
        do {
            return .success(.value(try await loader(context)))
        } catch is NotFound {
            return .success(.notFound)
        } catch {
            return .failure(error)
        }
    }

    /// Takes what a loader gave: stores it if it may be, and lets everybody go on.
    func land(
        _ flight: Flight<Value>,
        _ key: Key,
        _ hash: UInt64,
        _ result: Result<Content<Value>, any Error>,
        _ settings: LoadContext<Value>.Settings,
        isBackground: Bool
    ) {
        let now = self.service.clock.now
        let duration = Duration.nanoseconds(now - flight.startedAt)
        do {
            let content = try result.get()
            try settings.options.validate()
            let wasAbandoned = self.store(content, flight, key, hash, settings, now: now)
            self.counts.withLock { counts in
                counts.loads &+= 1
                counts.loadTimes.record(duration)
                if wasAbandoned { counts.lingering -= 1 }
            }
            flight.settle(.content(content))
            self.service.observe(.loaded(cache: self.name, duration: duration, isBackground: isBackground))
        } catch {
            let wasAbandoned = self.fail(flight, key, hash, error, settings.options, now: now)
            self.counts.withLock { counts in
                counts.loadFailures &+= 1
                if wasAbandoned { counts.lingering -= 1 }
            }
            flight.settle(.failure(error))
            self.service.observe(.loadFailed(cache: self.name, duration: duration, error: error))
        }
    }

    /// Stores what was loaded, unless something newer is there or it was invalidated meanwhile.
    ///
    /// - Returns: Whether the load had been given up.
    private func store(
        _ content: Content<Value>,
        _ flight: Flight<Value>,
        _ key: Key,
        _ hash: UInt64,
        _ settings: LoadContext<Value>.Settings,
        now: Int64
    ) -> Bool {
        let isNegative = content.isNegative
        let isWanted =
            !settings.isSkipped && !(isNegative && settings.options.negativeTimeToLive == .zero)
        let tags = self.generations.tags(settings.options.tags)
        let weight = isWanted ? self.weight(key, content) : 0
        let version = self.nextVersion()
        let text = (key as? any CacheKey)?.cacheKey
        let (wasAbandoned, isSuperseded) = self.change(hash) { shard, removed -> (Bool, Bool) in
            let wasAbandoned = shard.land(key, flight)
            guard isWanted else { return (wasAbandoned, false) }
            let isOvertaken = shard.peek(key, hash).map { $0.1.storedAt > flight.startedAt } ?? false
            guard !flight.isSuperseded, !(wasAbandoned && isOvertaken),
                self.generations.admits(flight.stamp, keyText: text, tags: tags)
            else { return (wasAbandoned, true) }
            let arrival = Shard.Arrival(
                content: content,
                weight: weight,
                lifetime: shard.lifetime(
                    settings.options,
                    isNegative: isNegative,
                    now: now,
                    loadTime: now - flight.startedAt
                ),
                stamp: flight.stamp,
                version: version,
                tags: tags,
                entityTag: settings.entityTag
            )
            shard.store(key, hash, arrival, now: now, removed: &removed)
            return (wasAbandoned, false)
        }
        if isSuperseded {
            self.counts.withLock { $0.superseded &+= 1 }
            self.service.observe(.loadSuperseded(cache: self.name))
        }
        return wasAbandoned
    }

    /// Notes that a load failed, so that the next one does not begin at once.
    ///
    /// - Returns: Whether the load had been given up.
    private func fail(
        _ flight: Flight<Value>,
        _ key: Key,
        _ hash: UInt64,
        _ error: any Error,
        _ options: CacheOptions,
        now: Int64
    ) -> Bool {
        self.change(hash) { shard, _ in
            let wasAbandoned = shard.land(key, flight)
            guard !wasAbandoned, !flight.isSuperseded, options.errorBackoff > .zero else { return wasAbandoned }
            let backoff =
                Double(options.errorBackoff.nanoseconds) * Double.random(in: 0.75...1.25, using: &shard.generator)
            let until = now.after(.nanoseconds(Int64(min(backoff, 9.2e18))))
            if let (_, record) = shard.peek(key, hash), record.lifetime.keptUntil > now {
                shard.extend(key, hash) { $0.lifetime.retryAt = until }
            } else {
                shard.fail(key, error, until: until)
            }
            return wasAbandoned
        }
    }
}

extension CacheService {
    /// Whether loads can begin.
    var isRunning: Bool { self.state.withLock { $0.phase == .running } }

    /// Runs a load in a task of the service; its room was taken before.
    func launch(_ load: @escaping Job) {
        #if Tracing
        let context = ServiceContext.current
        self.jobs.input.yield {
            await ServiceContext.$current.withValue(context) { await load() }
            self.loadEnded()
        }
        #else
        self.jobs.input.yield {
            await load()
            self.loadEnded()
        }
        #endif
    }
}
