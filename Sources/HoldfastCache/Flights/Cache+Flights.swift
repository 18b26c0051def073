// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import Synchronization

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
        let fill = Fill(
            flight: flight,
            key: key,
            hash: hash,
            options: options,
            stale: stale,
            isBackground: isBackground,
            deadline: self.service.clock.instant(of: flight.startedAt.after(options.hardDeadline)),
            loader: loader
        )
        self.service.launch {
            await LoadPath.$current.withValue(path) {
                await withTaskGroup(of: Void.self) { group in
                    group.addTask {
                        let landing = await self.landing(fill)
                        self.service.timers.cancel(alarm)
                        self.land(flight, key, hash, landing, isBackground: isBackground)
                        flight.stop.wake(.finished)
                    }
                    // It may be given up before; others may then load, though the loader may not have ended.
                    await flight.awaitEnd(fill.hold) { group.cancelAll() }
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
            guard let self, self.abandon(flight, key, hash, when: { true }) else { return }
            let limit = options.hardDeadline.brief
            let error = CacheError(.deadline, "a loader of \(self.name) did not end within \(limit)")
            self.gaveUp(flight, .overdue(error))
            self.linger(flight)
        }
    }

    /// Takes what a load gave: stores it if it may be, and lets everybody go on.
    func land(_ flight: Flight<Value>, _ key: Key, _ hash: UInt64, _ landing: Landing<Value>, isBackground: Bool) {
        let now = self.service.clock.now
        let duration = Duration.nanoseconds(now - flight.startedAt)
        guard landing.source != .elsewhere else { return self.rest(flight, key, hash, landing, now: now) }
        do {
            let content = try landing.result.get()
            try landing.settings.options.validate()
            let wasAbandoned =
                landing.source == .memory
                ? self.trust(flight, key, hash) : self.store(content, flight, key, hash, landing, now: now)
            self.counts.withLock { counts in
                counts.landed(flight, wasAbandoned: wasAbandoned)
                guard landing.source == .loader else { return }
                counts.loads &+= 1
                counts.loadTimes.record(duration)
            }
            if landing.source == .loader {
                self.groups?.count(key) { group in
                    group.loads &+= 1
                    group.loadTimes.record(duration)
                }
            }
            flight.settle(.content(content))
            if let change = landing.change { self.link?.tell(change) }
            guard landing.source == .loader else { return }
            self.service.observe(.loaded(cache: self.name, duration: duration, isBackground: isBackground))
        } catch {
            let wasAbandoned = self.fail(flight, key, hash, error, landing.settings.options, now: now)
            self.counts.withLock { counts in
                counts.landed(flight, wasAbandoned: wasAbandoned)
                if landing.source == .loader { counts.loadFailures &+= 1 }
            }
            if landing.source == .loader { self.groups?.count(key) { $0.loadFailures &+= 1 } }
            flight.settle(.failure(error))
            guard landing.source == .loader else { return }
            self.service.observe(.loadFailed(cache: self.name, duration: duration, error: error))
        }
    }

    /// Leaves what is in memory for now: somebody else loads it anew.
    private func rest(
        _ flight: Flight<Value>,
        _ key: Key,
        _ hash: UInt64,
        _ landing: Landing<Value>,
        now: Int64
    ) {
        let until = now.after(max(landing.settings.options.errorBackoff, Self.shortestRest))
        let wasAbandoned = self.change(hash) { shard, _ in
            shard.extend(key, hash) { $0.lifetime.retryAt = until }
            return shard.land(key, flight)
        }
        self.counts.withLock { $0.landed(flight, wasAbandoned: wasAbandoned) }
        flight.settle(.failure(CancellationError()))
    }

    /// Before another process is asked again whether it has ended a load.
    private static var shortestRest: Duration { .milliseconds(100) }

    /// Goes on giving what is in memory, though it was doubted.
    ///
    /// - Returns: Whether the load had been given up.
    private func trust(_ flight: Flight<Value>, _ key: Key, _ hash: UInt64) -> Bool {
        self.countStale(.tierOutage, of: key)
        return self.change(hash) { shard, _ in
            let wasAbandoned = shard.land(key, flight)
            if !flight.isSuperseded, let (_, record) = shard.peek(key, hash) {
                shard.restamp(key, hash, version: record.version, stamp: flight.stamp)
            }
            return wasAbandoned
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
        _ landing: Landing<Value>,
        now: Int64
    ) -> Bool {
        let settings = landing.settings
        let isNegative = content.isNegative
        let isWanted =
            !settings.isSkipped && !(isNegative && settings.options.negativeTimeToLive == .zero)
        let tags = self.generations.tags(settings.options.tags)
        let weight = isWanted ? self.weight(key, content) : 0
        let text = (key as? any CacheKey)?.cacheKey
        let (wasAbandoned, isSuperseded) = self.change(hash) { shard, removed -> (Bool, Bool) in
            let wasAbandoned = shard.land(key, flight)
            guard isWanted else {
                if !wasAbandoned, !flight.isSuperseded {
                    // What is given while it is loaded anew is not loaded anew by each who reads it.
                    let until = now.after(max(settings.options.errorBackoff, Self.shortestRest))
                    shard.extend(key, hash) { record in
                        if record.lifetime.revalidateUntil > now { record.lifetime.retryAt = until }
                    }
                }
                shard.history.note(hash, .unwanted, at: now)
                return (wasAbandoned, false)
            }
            // Of what is not in the tier, everything there is newer.
            let version = landing.version ?? (self.link == nil ? shard.nextVersion() : 0)
            let present = shard.peek(key, hash)?.1
            let isOvertaken =
                present.map { present in
                    // What lies there since before the load, and is of another tier, is not newer.
                    present.storedAt > flight.startedAt
                        || present.version > version && self.link?.areComparable(present.version, version) ?? true
                } ?? false
            guard !landing.isOvertaken, !flight.isSuperseded, !((wasAbandoned || self.link != nil) && isOvertaken),
                self.generations.admits(flight.stamp, keyText: text, tags: tags)
            else {
                shard.history.note(hash, .superseded, at: now)
                return (wasAbandoned, true)
            }
            let lifetime =
                landing.lifetime
                ?? shard.lifetime(
                    LifetimeRule(settings.options),
                    isNegative: isNegative,
                    now: now,
                    loadTime: now - flight.startedAt
                )
            let terms = MemoryBooks.Terms(
                weight: weight,
                version: version,
                lifetime: lifetime,
                tags: tags,
                entityTag: settings.entityTag,
                origin: landing.source == .tier ? .tier : .loader
            )
            shard.store(key, hash, content, stamp: flight.stamp, on: terms, now: now, removed: &removed)
            if landing.source != .queue {
                shard.loads.note(hash, landing.leader, at: now, duration: now - flight.startedAt)
            }
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
        self.change(hash) { shard, removed in
            let wasAbandoned = shard.land(key, flight)
            if !wasAbandoned { shard.history.note(hash, .failed, at: now, detail: ErrorLabel.of(error)) }
            guard !wasAbandoned, !flight.isSuperseded, options.errorBackoff > .zero else { return wasAbandoned }
            let backoff =
                Double(options.errorBackoff.nanoseconds) * Double.random(in: 0.75...1.25, using: &shard.books.generator)
            let until = now.after(.nanoseconds(Int64(min(backoff, 9.2e18))))
            if let (_, record) = shard.peek(key, hash), record.lifetime.keptUntil > now {
                shard.extend(key, hash) { $0.lifetime.retryAt = until }
            } else if !(error is CancellationError) {
                // That somebody cancelled the loader's work says nothing of the next load.
                shard.fail(key, error, until: until, removed: &removed)
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
        let job = Self.inContext(load)
        self.jobs.input.yield {
            await job()
            self.loadEnded()
        }
    }
}
