// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import Synchronization

// Reading through the cache.
extension Cache {
    /// Loads a value, and may say more about it than what it is.
    public typealias Loader = @Sendable (LoadContext<Value>) async throws -> Value

    /// The value of a key, loaded if it is not there.
    ///
    /// Whoever asks for the same key meanwhile gets the same value or the same error, unless a tag was invalidated since the
    /// load began that his options name, or those of whoever began it, or that the loader has said so far: he gets what
    /// another load gives, which begins beside the first. The load does not belong to the
    /// caller: if his task is cancelled he leaves, and only when the last one has left is the load cancelled
    /// (``CacheOptions/Abandonment``). The loader runs in a task of the service.
    ///
    /// - Parameters:
    ///   - key: The key.
    ///   - options: How the entry lives; `nil` for as the cache says. Those of whoever begins the load count, but each
    ///     caller has his own ``CacheOptions/softDeadline`` and ``CacheOptions/abandonment``, and a
    ///     ``CacheOptions/hardDeadline`` for when that of the load is over.
    ///   - loader: Loads the value; throws ``NotFound`` when there is none.
    /// - Returns: The value: a fresh one, or one that the options allow to be stale.
    /// - Throws: What the loader threw; ``NotFound``; ``CacheError`` with code ``CacheError/Code/deadline``,
    ///   ``CacheError/Code/recursive``, ``CacheError/Code/bulkheadFull`` or ``CacheError/Code/notRunning``; or
    ///   `CancellationError` when the caller's task is cancelled.
    public func value(
        for key: Key,
        options: CacheOptions? = nil,
        loader: @escaping Loader
    ) async throws -> Value {
        let hash = Self.hash(key)
        let suspectBelow = self.generations.suspectBelow
        let glance = self.glance(key, hash, suspectBelow: suspectBelow, countsMisses: false)
        if case .hit(let value) = glance { return value }
        let options = options ?? self.options
        try options.validate()
        let id = self.service.nextFlight()
        let tags = options.tags
        let step = try await self.begin(key, hash, tags: tags, isFirstLook: true, as: id) { flight, stale, isAside in
            self.start(flight, key, hash, options, stale, isAside, loader)
        }
        return try await self.end(step, key, hash, options, by: self.deadline(of: step, as: id, options), loader)
    }

    /// The value of a key, loaded if it is not there, by a loader that has nothing more to say about it.
    ///
    /// - Parameters:
    ///   - key: The key.
    ///   - options: How the entry lives; `nil` for as the cache says.
    ///   - loader: Loads the value; throws ``NotFound`` when there is none.
    /// - Returns: The value.
    /// - Throws: As ``value(for:options:loader:)-(_,_,Loader)``.
    public func value(
        for key: Key,
        options: CacheOptions? = nil,
        loader: @escaping @Sendable () async throws -> Value
    ) async throws -> Value {
        try await self.value(for: key, options: options) { _ in try await loader() }
    }

    // MARK: - Deciding

    /// What a caller does next.
    enum Step: Sendable {
        /// Take this.
        case give(Content<Value>)
        /// Wait for a load.
        case wait(Flight<Value>, caller: Int, stale: LoadContext<Value>.Stale?)
    }

    private enum Decision: Sendable {
        case step(Step, CacheEvent.StaleReason?)
        case lead(Flight<Value>, Step, LoadContext<Value>.Stale?, CacheEvent.StaleReason?)
        case fail(any Error)
        case notRunning
    }

    /// Looks what is there, and begins a load if there must be one.
    ///
    /// - Parameters:
    ///   - key: The key.
    ///   - hash: Its hash.
    ///   - tags: What the caller says of the entry.
    ///   - isFirstLook: Whether the read is to be counted.
    ///   - id: What a load that must begin is called; that of others that are loaded with it.
    ///   - hasRoom: Whether room was taken for the task that loads it with others.
    ///   - start: Starts the load that was begun, if one was.
    /// - Returns: What to do next.
    /// - Throws: ``CacheError``, an error that is remembered, or `CancellationError`.
    func begin(
        _ key: Key,
        _ hash: UInt64,
        tags: Set<String>,
        isFirstLook: Bool,
        as id: FlightID,
        hasRoom: Bool = false,
        _ start: (Flight<Value>, LoadContext<Value>.Stale?, _ isBackground: Bool) -> Void
    ) async throws -> Step {
        var counts = isFirstLook
        while true {
            let decision = self.decide(key, hash, tags, counts: counts, as: id, hasRoom: hasRoom)
            if counts { self.groups?.count(key) { Self.count(decision, &$0) } }
            switch decision {
            case .step(let step, let reason):
                if let reason { self.countStale(reason, of: key) }
                if reason == .bulkhead { self.service.observe(.bulkheadFull(cache: self.name)) }
                return step
            case .lead(let flight, let step, let stale, let reason):
                if let reason { self.countStale(reason, of: key) }
                if case .give = step { start(flight, stale, true) } else { start(flight, stale, false) }
                return step
            case .fail(let error):
                if (error as? CacheError)?.code == .bulkheadFull {
                    self.service.observe(.bulkheadFull(cache: self.name))
                }
                throw error
            case .notRunning:
                counts = false
                try await self.service.awaitStart()
            }
        }
    }

    /// Counts a read by what was decided, as the part of the memory counted it.
    private static func count(_ decision: Decision, _ group: inout CacheGroupStatistics) {
        switch decision {
        case .step(.give(let content), nil), .lead(_, .give(let content), _, nil):
            if content.isNegative { group.negativeHits &+= 1 } else { group.hits &+= 1 }
        case .step(.give, .bulkhead), .lead(_, .wait, _, _), .fail, .notRunning: group.misses &+= 1
        // Counted as stale.
        case .step(.give, _), .lead(_, .give, _, _): break
        case .step(.wait, _):
            group.misses &+= 1
            group.joins &+= 1
        }
    }

    private func decide(
        _ key: Key,
        _ hash: UInt64,
        _ tags: Set<String>,
        counts: Bool,
        as id: FlightID,
        hasRoom: Bool
    ) -> Decision {
        let now = self.service.clock.now
        // Before the load begins, and before anything is looked at.
        let stamp = self.generations.stamp
        let suspectBelow = self.generations.suspectBelow
        let isRunning = self.service.isRunning
        func begin(isDetached: Bool, _ shard: inout Shard) -> Flight<Value> {
            let tags = self.generations.tags(tags)
            let flight = Flight<Value>(id: id, stamp: stamp, startedAt: now, isDetached: isDetached, tags: tags)
            shard.flights[key] = flight
            return flight
        }
        return self.change(hash) { shard, removed in
            var stale: LoadContext<Value>.Stale?
            if let found = shard.read(key, hash, now: now, suspectBelow: suspectBelow, removed: &removed) {
                switch found.standing {
                case .fresh:
                    if counts { shard.counts.countHit(isNegative: found.content.isNegative) }
                    return .step(.give(found.content), nil)
                case .resting: return .step(.give(found.content), .resting)
                case .refreshing, .revalidating:
                    let reason: CacheEvent.StaleReason? = found.standing == .revalidating ? .revalidating : nil
                    if reason == nil, counts { shard.counts.countHit(isNegative: found.content.isNegative) }
                    guard self.flight(of: key, tags, &shard) == nil, isRunning, self.mayLoad(key, shard, hasRoom) else {
                        return .step(.give(found.content), reason)
                    }
                    let flight = begin(isDetached: true, &shard)
                    return .lead(flight, .give(found.content), found.asStale(at: now), reason)
                case .stale, .suspect: stale = found.asStale(at: now)
                }
            }
            if counts { shard.counts.misses &+= 1 }
            if let failure = shard.failures[key], now < failure.until { return .fail(failure.error) }
            if let flight = self.flight(of: key, tags, &shard) {
                if counts { shard.counts.joins &+= 1 }
                return .step(.wait(flight, caller: flight.join(), stale: stale), nil)
            }
            guard isRunning else { return .notRunning }
            guard self.mayLoad(key, shard, hasRoom) else {
                guard self.service.isRunning else { return .notRunning }
                if let stale { return .step(.give(.value(stale.value)), .bulkhead) }
                return .fail(CacheError(.bulkheadFull, "too many loads are under way or were given up and still run"))
            }
            let flight = begin(isDetached: false, &shard)
            return .lead(flight, .wait(flight, caller: flight.join(), stale: stale), stale, nil)
        }
    }

    /// The load of a key that a new caller may join.
    ///
    /// One from before an invalidation that concerns what he asks for is left to those who wait for it, and not stored.
    private func flight(of key: Key, _ tags: Set<String>, _ shard: inout Shard) -> Flight<Value>? {
        guard let flight = shard.flights[key] else { return nil }
        if flight.stamp == self.generations.stamp { return flight }
        if flight.isCurrent, self.generations.admits(flight.stamp, tags: tags) { return flight }
        shard.flights[key] = nil
        flight.supersede()
        return nil
    }

    /// Whether there is room for another load of a key; takes the room, unless its task has some.
    private func mayLoad(_ key: Key, _ shard: borrowing Shard, _ hasRoom: Bool) -> Bool {
        let limits = self.service.configuration
        return (shard.abandoned[key]?.count ?? 0) < limits.maximumAbandonedPerKey
            && self.lingeringLoaders < limits.maximumAbandoned
            // Under the lock of the part: what is noted before the service stops is found there when it does.
            && (hasRoom ? self.service.isRunning : self.service.admitLoad())
    }

    func countStale(_ reason: CacheEvent.StaleReason, of key: Key) {
        self.counts.withLock { $0.staleServes &+= 1 }
        self.groups?.count(key) { $0.staleServes &+= 1 }
        self.service.observe(.staleServed(cache: self.name, reason: reason))
    }

    // MARK: - Waiting

    /// When the time of a caller is over who waits from now on; that of a load he began himself is over with it.
    func deadline(of step: Step, as id: FlightID, _ options: CacheOptions) -> Int64 {
        guard case .wait(let flight, _, _) = step else { return .max }
        return (flight.id == id ? flight.startedAt : self.service.clock.now).after(options.hardDeadline)
    }

    /// Which part of his time must be left for a caller who goes on.
    private static var leastShare: Int { 10 }

    /// Does what a caller has to do next, and again when the load that he waits for runs out of time before he does.
    func end(
        _ step: Step,
        _ key: Key,
        _ hash: UInt64,
        _ options: CacheOptions,
        by deadline: Int64,
        soft: Int64? = nil,
        _ loader: @escaping Loader
    ) async throws -> Value {
        var step = step
        var (limit, soft) = (Int64?.none, soft)
        while true {
            switch step {
            case .give(let content): return try content.get()
            case .wait(let flight, let caller, let stale):
                do {
                    return try await self.wait(for: flight, as: caller, stale, key, hash, options, limit, soft)
                } catch let overdue as Overdue {
                    // Of those who came with the leader, none shall begin a load for the microseconds that he came later.
                    let least = options.hardDeadline / Self.leastShare
                    guard self.service.clock.now.after(least) < deadline else { throw overdue.error }
                }
            }
            (limit, soft) = (deadline, nil)
            let (id, tags) = (self.service.nextFlight(), options.tags)
            step = try await self.begin(key, hash, tags: tags, isFirstLook: false, as: id) { flight, stale, isAside in
                self.start(flight, key, hash, options, stale, isAside, loader)
            }
        }
    }

    /// Waits for a load, or until a limit; throws ``Overdue`` when the load's own time was over.
    ///
    /// From `soft` on a stale value is enough; `nil` for the time that the options give from now on.
    private func wait(
        for flight: Flight<Value>,
        as caller: Int,
        _ stale: LoadContext<Value>.Stale?,
        _ key: Key,
        _ hash: UInt64,
        _ options: CacheOptions,
        _ limit: Int64?,
        _ soft: Int64?
    ) async throws -> Value {
        let inner = LoadPath.current?.flight
        if let inner, !self.service.graph.begin(inner, for: flight.id) {
            flight.release(caller, .cancelled)
            flight.forget(caller)
            self.leave(flight, key, hash, options)
            throw CacheError(.recursive, "the loader of \(self.name) asks, directly or through others, for its own key")
        }
        defer { if let inner { self.service.graph.end(inner, for: flight.id) } }
        var alarms: [CacheTimers.ID] = []
        if let soft = soft ?? options.softDeadline.map({ self.service.clock.now.after($0) }) {
            // A cache without a tier learns of no other stale value.
            if stale != nil || self.link != nil {
                alarms.append(
                    self.service.timers.schedule(at: soft) { [weak self] in
                        flight.isLate(caller, with: stale ?? self?.offered(by: flight))
                    }
                )
            }
        }
        if let limit { alarms.append(self.service.timers.schedule(at: limit) { flight.release(caller, .overdue) }) }
        let end = await flight.wait(caller)
        for alarm in alarms { self.service.timers.cancel(alarm) }
        let stale = stale ?? self.offered(by: flight)
        switch end {
        case .outcome(.content(let content)): return try content.get()
        case .outcome(.failure(let error)):
            guard let stale else { throw error }
            let isLockOutage = (error as? CacheError)?.code == .lockUnavailable
            self.countStale(isLockOutage ? .lockOutage : .error, of: key)
            return stale.value
        case .outcome(.overdue(let error)):
            guard let stale else { throw Overdue(error: error) }
            self.countStale(.error, of: key)
            return stale.value
        case .late(let stale):
            self.countStale(.late, of: key)
            return stale.value
        case .overdue:
            self.leave(flight, key, hash, options)
            guard let stale else { throw CacheError(.deadline, "the load takes too long") }
            self.countStale(.late, of: key)
            return stale.value
        case .cancelled:
            self.leave(flight, key, hash, options)
            throw CancellationError()
        }
    }

    /// What a load has found in the tier, if it may still be given.
    private func offered(by flight: Flight<Value>) -> LoadContext<Value>.Stale? {
        flight.offered(at: self.service.clock.now) { self.generations.admits(flight.stamp, tags: Set($0.tags)) }
    }

    /// A caller leaves a load; the last one may take it with him.
    func leave(_ flight: Flight<Value>, _ key: Key, _ hash: UInt64, _ options: CacheOptions) {
        guard options.abandonment == .cancel else { return flight.detach() }
        // Under the lock that joining needs too.
        let isOver = self.abandon(flight, key, hash) { flight.callers == 0 && !flight.isDetached }
        guard isOver else { return }
        self.gaveUp(flight, .failure(CancellationError()))
        // A loader that heeds its cancellation has ended by then, and is in nobody's way.
        let late = self.service.clock.now.after(Self.timeToHeed)
        _ = self.service.timers.schedule(at: late) { [weak self] in self?.linger(flight) }
    }

    /// How long a loader has to end when its task was cancelled, before it counts as one that does not.
    private static var timeToHeed: Duration { .seconds(1) }

    /// Counts a load that was given up, if its loader still runs; those that are loaded together are one.
    func linger(_ flight: Flight<Value>) {
        if flight.linger() { self.counts.withLock { $0.count(flight.id, 1) } }
    }

    /// Gives a load up, if it is under way and something is so.
    func abandon(_ flight: Flight<Value>, _ key: Key, _ hash: UInt64, when isRight: () -> Bool) -> Bool {
        let now = self.service.clock.now
        return self.change(hash) { shard, _ in
            guard isRight(), shard.abandon(key, flight) else { return false }
            shard.history.note(hash, .abandoned, at: now)
            return true
        }
    }

    /// A load was given up.
    func gaveUp(_ flight: Flight<Value>, _ outcome: Flight<Value>.Outcome) {
        self.counts.withLock { $0.abandoned &+= 1 }
        flight.settle(outcome)
        flight.stop.wake(.stopped)
        self.service.observe(.loadAbandoned(cache: self.name))
    }
}

/// The time of a load was over, perhaps not that of who waits for it.
private struct Overdue: Error {
    let error: any Error
}

extension MemoryShard.Found {
    /// The value as one that is not fresh, if there is one.
    func asStale(at now: Int64) -> LoadContext<Value>.Stale? {
        guard case .value(let value) = self.content else { return nil }
        return LoadContext.Stale(
            value: value,
            age: .nanoseconds(now - self.record.storedAt),
            entityTag: self.record.entityTag,
            tags: self.record.tags?.names ?? [],
            // What came from the tier began there.
            term: self.record.origin == .tier ? nil : self.record.lifetime.term(from: self.record.storedAt),
            version: self.record.version
        )
    }
}
