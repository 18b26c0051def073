// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import Synchronization

extension Cache {
    /// What a read of a key would give now, and why, as far as this process knows.
    ///
    /// Looks into memory only, changes nothing, and is not counted as a read. Takes the lock of the key's part of the memory,
    /// as a read does, for some microseconds: for people and tests, not for each request. The weigher is called.
    ///
    /// - Parameter key: The key.
    /// - Returns: The explanation, without a word of the tier or the locks.
    public func explain(_ key: Key) -> CacheExplanation {
        let hash = Self.hash(key)
        let suspectBelow = self.generations.suspectBelow
        let now = self.service.clock.now
        let shard = self.locked(hash) { $0.examine(key, hash, now: now, suspectBelow: suspectBelow) }
        // Outside of the lock, since the weigher is not ours.
        let entry = shard.found.map { CacheExplanation.Entry($0, weight: self.weight(key, $0.content), now: now) }
        return CacheExplanation(
            cache: self.name,
            key: self.link?.text(key) ?? (key as? any CacheKey)?.cacheKey,
            verdict: shard.verdict,
            entry: entry,
            history: shard.history.map { CacheExplanation.Incident($0.record, detail: $0.detail, now: now) },
            historyIsComplete: shard.historyIsComplete,
            failure: shard.failure,
            load: shard.load,
            lastLoad: shard.lastLoad.map { CacheExplanation.PastLoad($0, now: now) },
            abandonedLoads: shard.abandoned,
            obstacle: self.obstacle(abandoned: shard.abandoned)
        )
    }

    /// Why no load of a key could begin now; takes no room.
    private func obstacle(abandoned: Int) -> CacheExplanation.Obstacle? {
        let limits = self.service.configuration
        let (isRunning, loads) = self.service.state.withLock { ($0.phase == .running, $0.loads) }
        guard isRunning else { return .notRunning }
        guard loads < limits.maximumLoads else { return .loads }
        return abandoned >= limits.maximumAbandonedPerKey || self.lingeringLoaders >= limits.maximumAbandoned
            ? .abandonedLoads : nil
    }
}

extension MemoryShard {
    /// What is known of a key.
    struct Examination: Sendable {
        var verdict = CacheExplanation.Verdict.absent
        var found: Found?
        var history: [(record: KeyHistory.Record, detail: String?)] = []
        var historyIsComplete = true
        var failure: CacheExplanation.Failure?
        var load: CacheExplanation.Load?
        var lastLoad: LoadHistory.Record?
        var abandoned = 0
    }

    /// Looks at a key as a read would, and changes nothing.
    func examine(_ key: Key, _ hash: UInt64, now: Int64, suspectBelow: UInt64) -> Examination {
        var result = Examination()
        result.history = self.history.incidents(of: hash)
        result.historyIsComplete = self.history.isComplete
        result.lastLoad = self.loads.last(of: hash)
        result.abandoned = self.abandoned[key]?.count ?? 0
        if let flight = self.flights[key] {
            result.load = CacheExplanation.Load(
                since: .nanoseconds(now - flight.startedAt),
                callers: flight.callers,
                isDetached: flight.isDetached
            )
        }
        if let failure = self.failures[key], now < failure.until {
            result.failure = CacheExplanation.Failure(
                error: ErrorLabel.of(failure.error),
                remaining: .nanoseconds(failure.until - now)
            )
            result.verdict = .failing
        }
        guard let (entry, record) = self.peek(key, hash) else { return result }
        func end(_ cause: KeyHistory.Cause, at time: Int64) -> KeyHistory.Record {
            KeyHistory.Record(fingerprint: MemoryIndex.fingerprint(hash), time: time, cause: cause)
        }
        let deadline = record.lifetime.deadline(readAt: record.readAt)
        // What the next read would remove, it would find to be gone.
        if let (tag, time) = record.tags?.invalidated(after: entry.stamp) {
            result.history.insert((end(.tag, at: time), tag), at: 0)
            return result
        }
        guard now < deadline else {
            result.history.insert((end(.expired, at: deadline), nil), at: 0)
            return result
        }
        // A copy: the next read draws the same lot.
        var generator = self.books.generator
        let standing = Self.standing(record.lifetime, now: now, using: &generator)
        let found = Found(
            content: entry.content,
            standing: entry.stamp < suspectBelow ? .suspect : standing,
            record: record,
            tags: record.tags
        )
        result.found = found
        switch found.standing {
        case .fresh: result.verdict = .hit
        case .refreshing: result.verdict = .refreshing
        case .revalidating: result.verdict = .revalidating
        case .resting: result.verdict = .resting
        case .stale: if result.failure == nil { result.verdict = .stale }
        case .suspect: if result.failure == nil { result.verdict = .suspect }
        }
        return result
    }
}

extension CacheExplanation.Entry {
    fileprivate init<Key, Value>(_ found: MemoryShard<Key, Value>.Found, weight: Int, now: Int64) {
        let record = found.record
        let deadline = record.lifetime.deadline(readAt: record.readAt)
        func left(_ end: Int64) -> Duration? { end == .max ? nil : .nanoseconds(end - now) }
        self.init(
            isNegative: found.content.isNegative,
            origin: CacheExplanation.Origin(record.origin),
            version: record.version,
            age: .nanoseconds(now - record.storedAt),
            freshFor: left(record.lifetime.freshUntil),
            keptFor: left(deadline),
            restsFor: .nanoseconds(max(0, record.lifetime.retryAt - now)),
            weight: weight,
            tags: found.tags?.names ?? [],
            entityTag: record.entityTag
        )
    }
}

extension CacheExplanation.Origin {
    fileprivate init(_ origin: ValueOrigin) {
        switch origin {
        case .loader: self = .loader
        case .tier: self = .tier
        case .set: self = .set
        }
    }
}

extension CacheExplanation.PastLoad {
    fileprivate init(_ record: LoadHistory.Record, now: Int64) {
        let leader: Leader =
            switch record.leader {
            case .own(let owner, let token): .thisProcess(owner, token)
            case .tier: .throughTier
            }
        self.init(
            leader: leader,
            ago: .nanoseconds(max(0, now - record.time)),
            took: .nanoseconds(max(0, record.duration))
        )
    }
}

extension CacheExplanation.Incident {
    fileprivate init(_ record: KeyHistory.Record, detail: String?, now: Int64) {
        let cause: CacheExplanation.Cause =
            switch record.cause {
            case .expired: .expired
            case .evicted: .evicted
            case .removed: .removed
            case .elsewhere: .changedElsewhere
            case .tag: .invalidatedByTag
            case .prefix: .invalidatedByPrefix
            case .all: .invalidatedByAll
            case .failed: .loadFailed
            case .abandoned: .loadAbandoned
            case .superseded: .loadSuperseded
            case .unwanted: .notStored
            }
        self.init(cause: cause, ago: .nanoseconds(max(0, now - record.time)), detail: detail)
    }
}

extension Cache {
    /// How many loaders were given up and still run, as far as they count.
    package var lingeringLoaders: Int { self.counts.withLock { $0.lingering.count } }
}
