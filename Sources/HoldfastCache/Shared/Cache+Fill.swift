// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import Synchronization

// Loading through the tier, under a lock: one process loads for all.
extension Cache {
    /// What one load is about.
    struct Fill: Sendable {
        let flight: Flight<Value>
        let key: Key
        let hash: UInt64
        let options: CacheOptions
        let stale: LoadContext<Value>.Stale?
        let isBackground: Bool
        /// When it is given up.
        let deadline: ContinuousClock.Instant
        let loader: Loader
        /// The lock, when there is one.
        let hold = LeaseHold()
        /// How long it waits for what does not answer.
        let patience = LoadPatience()
    }

    /// Whose turn it is to load.
    private enum Turn: Sendable {
        /// Ours, under a lock.
        case lease(Lease)
        /// Ours, without one.
        case unlocked
        /// Nobody's any more: somebody else has loaded it.
        case filled(TierValue<Value>)
        /// Somebody else's, and nobody waits here.
        case busy
        /// Nobody can say.
        case unknown(any Error)
    }

    /// Gets a value from the tier or the loader.
    func landing(_ fill: Fill) async -> Landing<Value> {
        // The source may have an older one.
        if let landing = self.pendingLanding(fill) { return landing }
        guard let link = self.link else { return await self.load(fill, stale: fill.stale, token: nil) }
        let text = link.text(fill.key)
        guard (try? CacheLimits.check([text], in: link.namespace)) != nil else {
            // Such a key cannot be shared.
            return await self.load(fill, stale: fill.stale, token: nil)
        }
        let watch = link.watches.begin(text)
        defer { link.watches.end(text, watch) }
        let first = await self.look(link, text, fill)
        if let landing = self.usable(first, fill) { return landing }
        var turn = await self.turn(fill, link, text, watch, waits: !fill.isBackground)
        if case .busy = turn, !self.leaves(fill) { turn = await self.turn(fill, link, text, watch, waits: true) }
        switch turn {
        case .filled(let value):
            self.counts.withLock { $0.tierHits &+= 1 }
            return self.landing(of: value, fill)
        case .busy: return Landing(.failure(CancellationError()), self.settings(fill), from: .elsewhere)
        case .unlocked: return await self.load(fill, link, text, first, lease: nil)
        case .lease(let lease):
            guard await fill.hold.keep(lease, since: fill.flight.supersessions) else {
                return self.failure(CancellationError(), fill)
            }
            // What was superseded while it stood in line goes on for those who wait for it, and for the tier.
            if fill.flight.isSuperseded, fill.flight.callers == 0 { return self.failure(CancellationError(), fill) }
            // Somebody may have loaded it before it was our turn.
            let second = await self.look(link, text, fill)
            if let landing = self.usable(second, fill) { return landing }
            return await self.load(fill, link, text, second, lease: lease)
        case .unknown(let error): return await self.loadWithoutLock(fill, link, text, first, error)
        }
    }

    // MARK: - Looking

    /// Looks into the tier, and counts what is there.
    private func look(
        _ link: SharedLink<Key, Value>,
        _ text: String,
        _ fill: Fill
    ) async -> SharedLink<Key, Value>.Look {
        let finding = await link.look(text, by: fill.patience)
        self.count(finding)
        return finding.look
    }

    /// Counts what a look into the tier gave.
    func count(_ finding: SharedLink<Key, Value>.Finding) {
        self.counts.withLock { counts in
            switch finding.look {
            case .found: counts.tierHits &+= 1
            case .nothing: counts.tierMisses &+= 1
            case .unavailable: counts.tierFailures &+= 1
            }
            if finding.isUnreadable { counts.unreadable &+= 1 }
        }
        if finding.isUnreadable { self.service.observe(.unreadable(cache: self.name)) }
        if case .unavailable(let error) = finding.look {
            self.service.observe(.tierFailed(cache: self.name, error: error))
        }
    }

    /// What the callers get without a load, if there is something.
    func usable(_ look: SharedLink<Key, Value>.Look, _ fill: Fill) -> Landing<Value>? {
        switch look {
        case .nothing:
            fill.flight.withdrawOffer()
            return nil
        case .found(let value):
            switch value.standing {
            case .fresh:
                if self.isRefreshed(value, fill) { return self.landing(of: value, fill) }
                self.offer(value, fill, look)
                return nil
            // The next reader has it loaded anew, off his path.
            case .revalidating where !fill.isBackground: return self.landing(of: value, fill)
            default:
                self.offer(value, fill, look)
                return nil
            }
        case .unavailable:
            guard !fill.isBackground, let content = self.inTime(fill.key, fill.hash) else { return nil }
            // Only doubted: with the tier gone, the source should not get all of its work at once.
            return Landing(.success(content), self.settings(fill), from: .memory)
        }
    }

    /// Offers what the tier has to those who wait: when the load gets late, or its time is over, it is better than nothing.
    private func offer(_ value: TierValue<Value>, _ fill: Fill, _ look: SharedLink<Key, Value>.Look) {
        let kept = value.terms.keptFor
        guard value.age < kept, let stale = self.stale(fill, look) else { return }
        fill.flight.offer(stale, until: kept == .max ? .max : self.now.after(.nanoseconds(kept - value.age)))
    }

    /// Whether a fresh entry of the tier is what a load is to give: one ahead of the end is there to replace such an entry.
    ///
    /// It is, if somebody else has loaded the key since, or if it is not due yet by the options of this process.
    private func isRefreshed(_ value: TierValue<Value>, _ fill: Fill) -> Bool {
        guard fill.isBackground, !value.content.isNegative, let link = self.link else { return true }
        let version = value.place.version
        if let old = fill.stale?.version, version > old, link.areComparable(version, old) { return true }
        let now = self.service.clock.now
        return Lifetime(value.terms, age: value.age, fill.options, now: now).refreshAt > now
    }

    /// What is in memory and would be fresh, if nothing were doubted.
    private func inTime(_ key: Key, _ hash: UInt64) -> Content<Value>? {
        let now = self.service.clock.now
        return self.locked(hash) { shard in
            guard let present = shard.peek(key, hash), Self.isFresh(present, at: now) else { return nil }
            return present.0.content
        }
    }

    func landing(of value: TierValue<Value>, _ fill: Fill) -> Landing<Value> {
        var settings = self.settings(fill)
        settings.options.tags = Set(value.terms.tags)
        settings.entityTag = value.terms.entityTag
        var landing = Landing(.success(value.content), settings, from: .tier)
        landing.version = value.place.version
        landing.lifetime = Lifetime(value.terms, age: value.age, fill.options, now: self.service.clock.now)
        // That there is nothing is not loaded ahead of its end.
        if value.content.isNegative { landing.lifetime?.refreshAt = .max }
        return landing
    }

    private func settings(_ fill: Fill) -> LoadContext<Value>.Settings {
        LoadContext<Value>.Settings(options: fill.options)
    }

    func failure(_ error: any Error, _ fill: Fill) -> Landing<Value> {
        Landing(.failure(error), self.settings(fill), from: .nowhere)
    }

    // MARK: - Waiting for the turn

    private func turn(
        _ fill: Fill,
        _ link: SharedLink<Key, Value>,
        _ text: String,
        _ watch: KeyWatch,
        waits: Bool
    ) async -> Turn {
        guard fill.options.coordination == .distributed, let locks = self.service.locks else { return .unlocked }
        return await link.meter.measure(.lockWait) {
            await self.turn(fill, link, text, watch, waits: waits, locks)
        }
    }

    private func turn(
        _ fill: Fill,
        _ link: SharedLink<Key, Value>,
        _ text: String,
        _ watch: KeyWatch,
        waits: Bool,
        _ locks: GuardedLocks
    ) async -> Turn {
        let resource = link.resource(text)
        let lease = link.fillLease
        let patience = fill.lockPatience(fill.patience)
        guard waits else {
            do {
                return try await locks.tryAcquire(resource, lease: lease, by: patience).map { .lease($0) } ?? .busy
            } catch {
                return .unknown(error)
            }
        }
        return await withTaskGroup(of: Turn?.self) { group in
            group.addTask {
                do {
                    return .lease(try await locks.acquire(resource, lease: lease, by: patience))
                } catch {
                    return .unknown(error)
                }
            }
            group.addTask { await self.filled(fill, link, text, watch, locks, patience) }
            var turn: Turn?
            for await next in group {
                switch (turn, next) {
                case (_, nil): continue
                case (nil, let next?): turn = next
                // It was our turn after all.
                case (_, .lease(let lease)): _ = await lease.release()
                default: break
                }
                group.cancelAll()
            }
            return turn ?? .unknown(CancellationError())
        }
    }

    /// Leaves the load to somebody else, unless a caller waits for this one by now.
    private func leaves(_ fill: Fill) -> Bool {
        self.change(fill.hash) { shard, _ in
            // Under the lock that joining needs too.
            guard fill.flight.callers == 0 else { return false }
            if shard.flights[fill.key] === fill.flight { shard.flights[fill.key] = nil }
            return true
        }
    }

    /// Waits until somebody else has loaded the key, or nobody can say any more who has the lock; `nil` when the wait was
    /// cancelled.
    ///
    /// Looks from time to time, also when there are no news: they may be lost, and a wait for a lock outlives outages.
    private func filled(
        _ fill: Fill,
        _ link: SharedLink<Key, Value>,
        _ text: String,
        _ watch: KeyWatch,
        _ locks: GuardedLocks,
        _ patience: LoadPatience
    ) async -> Turn? {
        while !Task.isCancelled {
            let next = self.service.clock.now.after(max(locks.limit, Self.shortestPoll))
            let alarm = self.service.timers.schedule(at: next) { watch.slot.wake(.timer) }
            let reasons = await watch.slot.wait()
            self.service.timers.cancel(alarm)
            guard !reasons.contains(.cancelled) else { return nil }
            if case .found(let value) = await link.look(text, by: fill.patience).look, value.standing == .fresh {
                return .filled(value)
            }
            guard reasons.contains(.timer) || patience.silentSince != nil else { continue }
            do {
                _ = try await locks.status(of: link.resource(text), by: patience)
            } catch {
                if GuardedLocks.isOutage(error) { return .unknown(error) }
            }
        }
        return nil
    }

    /// How often who waits looks at most.
    private static var shortestPoll: Duration { .milliseconds(250) }

    // MARK: - Loading

    /// Calls the loader.
    private func load(
        _ fill: Fill,
        stale: LoadContext<Value>.Stale?,
        token: FencingToken?
    ) async -> Landing<Value> {
        let context = LoadContext<Value>(
            fill.options,
            stale: stale,
            isBackground: fill.isBackground,
            fencingToken: token,
            deadline: fill.deadline,
            onTags: { tags in fill.flight.carry(self.generations.tags(tags)) }
        )
        let start = self.now
        defer { self.countLoader(since: start) }
        do {
            let value = try await fill.loader(context)
            return Landing(.success(.value(value)), context.close())
        } catch is NotFound {
            return Landing(.success(.notFound), context.close())
        } catch {
            return Landing(.failure(error), context.close())
        }
    }

    /// Counts how long a loader ran.
    func countLoader(since start: Int64) {
        let duration = Duration.nanoseconds(self.now - start)
        self.counts.withLock { $0.loaderTimes.record(duration) }
    }

    /// Loads though the lock service does not work, if the options say so.
    private func loadWithoutLock(
        _ fill: Fill,
        _ link: SharedLink<Key, Value>,
        _ text: String,
        _ look: SharedLink<Key, Value>.Look,
        _ error: any Error
    ) async -> Landing<Value> {
        if let landing = self.landing(withoutLock: error, fill, look) { return landing }
        return await self.load(fill, link, text, look, lease: nil)
    }

    /// What callers get when the lock service does not work; `nil` when the key is loaded all the same.
    func landing(
        withoutLock error: any Error,
        _ fill: Fill,
        _ look: SharedLink<Key, Value>.Look
    ) -> Landing<Value>? {
        guard !Task.isCancelled else { return self.failure(CancellationError(), fill) }
        switch fill.options.lockOutage {
        case .proceedLocally: break
        case .serveStale where self.stale(fill, look) == nil: break
        case .serveStale, .fail:
            // Callers who know of a stale value get that one.
            let failure = CacheError(
                .lockUnavailable,
                "the lock for a load of \(self.name) cannot be had",
                underlying: error
            )
            return self.kept(look, fill, because: .lockOutage) ?? self.failure(failure, fill)
        }
        self.counts.withLock { $0.unlockedFills &+= 1 }
        self.service.observe(.unlockedFill(cache: self.name, error: error))
        return nil
    }

    /// The value that is there though it is not fresh, in memory or in the tier.
    private func stale(_ fill: Fill, _ look: SharedLink<Key, Value>.Look) -> LoadContext<Value>.Stale? {
        guard case .found(let found) = look, case .value(let value) = found.content else { return fill.stale }
        if var stale = fill.stale {
            // What lies in the tier knows better how it was to live.
            if stale.version == found.place.version, let term = found.terms.term { stale.term = term }
            return stale
        }
        return LoadContext<Value>.Stale(
            value: value,
            age: .nanoseconds(found.age),
            entityTag: found.terms.entityTag,
            tags: found.terms.tags,
            term: found.terms.term,
            version: found.place.version
        )
    }

    /// What the tier has is better than nothing, if nothing is in memory; no load begins for a while.
    private func kept(
        _ look: SharedLink<Key, Value>.Look,
        _ fill: Fill,
        because reason: CacheEvent.StaleReason
    ) -> Landing<Value>? {
        guard case .found(let value) = look, fill.stale == nil, value.age < value.terms.keptFor else { return nil }
        var landing = self.landing(of: value, fill)
        landing.lifetime?.retryAt = self.service.clock.now.after(fill.options.errorBackoff)
        self.countStale(reason, of: fill.key)
        return landing
    }

    /// Calls the loader and writes what it gives to the tier.
    private func load(
        _ fill: Fill,
        _ link: SharedLink<Key, Value>,
        _ text: String,
        _ look: SharedLink<Key, Value>.Look,
        lease: Lease?
    ) async -> Landing<Value> {
        var landing = await self.load(fill, stale: self.stale(fill, look), token: lease?.fencingToken)
        (landing.owner, landing.token) = (lease?.owner, lease?.fencingToken)
        guard let write = self.offer(&landing, fill, link, text, look, lease) else { return landing }
        do {
            let replies = try await link.ask(.write, by: fill.patience) {
                try await $0.write([write], in: link.namespace)
            }
            landing.note(replies.first, text)
        } catch {
            self.noteTierFailure(error)
            landing.version = look.place?.version
        }
        return landing
    }

    func noteTierFailure(_ error: any Error) {
        self.counts.withLock { $0.tierFailures &+= 1 }
        self.service.observe(.tierFailed(cache: self.name, error: error))
    }

    /// What is to be written to the tier of what a loader gave; `nil` when that is nothing.
    func offer(
        _ landing: inout Landing<Value>,
        _ fill: Fill,
        _ link: SharedLink<Key, Value>,
        _ text: String,
        _ look: SharedLink<Key, Value>.Look,
        _ lease: Lease?
    ) -> TierWrite? {
        guard let content = try? landing.result.get() else {
            landing = self.kept(look, fill, because: .error) ?? landing
            return nil
        }
        let options = landing.settings.options
        let isNegative = content.isNegative
        guard (try? options.validate()) != nil, !landing.settings.isSkipped, let place = look.place,
            !(isNegative && options.negativeTimeToLive == .zero)
        else { return nil }
        // What changed before the lock was had is seen by the look and the loader that came after it.
        guard fill.hold.since ?? 0 == fill.flight.supersessions else { return nil }
        let now = self.service.clock.now
        // After its time, tombstones of removals may be gone.
        guard now <= fill.flight.startedAt.after(fill.options.hardDeadline) else { return nil }
        var generator = SystemRandomNumberGenerator()
        let loadTime = now - fill.flight.startedAt
        let lifetime = Lifetime(options, isNegative: isNegative, now: now, loadTime: loadTime, using: &generator)
        landing.lifetime = lifetime
        let terms = EntryTerms(
            lifetime,
            now: now,
            loadTime: loadTime,
            entityTag: landing.settings.entityTag,
            tags: options.tags
        )
        let condition = TierWrite.Condition.version(place.version)
        let token = lease?.fencingToken.rawValue ?? 0
        if let write = try? link.write(content, text, terms, mark: place.mark, if: condition, token: token) {
            return write
        }
        self.counts.withLock { $0.unshared &+= 1 }
        self.service.observe(.unshared(cache: self.name))
        landing.version = place.version
        return nil
    }
}

extension Landing {
    /// Takes note of what the tier said to the write.
    mutating func note(_ reply: TierWriteReply?, _ text: String) {
        switch reply {
        case .written(let version)?:
            self.version = version
            self.change = .refreshed(key: text, version: version)
        case .refused?: self.isOvertaken = true
        case nil: break
        }
    }
}
