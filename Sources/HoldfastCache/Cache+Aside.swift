// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

// Reading and writing without a loader.
extension Cache {
    /// The value of a key, if a fresh one is in memory.
    ///
    /// Counts as a read of the entry. Takes about a tenth of a microsecond, and allocates nothing.
    ///
    /// - Parameter key: The key.
    /// - Returns: The value, or `nil` when there is none, it is not fresh, or it is known that there is nothing.
    @inlinable
    public func cached(_ key: Key) -> Value? {
        let hash = Self.hash(key)
        let suspectBelow = self.generations.suspectBelow
        switch self.glance(key, hash, suspectBelow: suspectBelow, countsMisses: true) {
        case .hit(let value): return value
        case .miss:
            if let groups = self.groups { groups.countMiss(key) }
            return nil
        case .look: return self.cachedAfterLooking(key, hash, suspectBelow)
        }
    }

    @usableFromInline
    func cachedAfterLooking(_ key: Key, _ hash: UInt64, _ suspectBelow: UInt64) -> Value? {
        let now = self.service.clock.now
        let value: Value? = self.change(hash) { shard, removed in
            let found = shard.read(key, hash, now: now, suspectBelow: suspectBelow, removed: &removed)
            guard let found, found.standing == .fresh || found.standing == .refreshing,
                case .value(let value) = found.content
            else {
                shard.counts.misses &+= 1
                return nil
            }
            shard.counts.countHit(isNegative: shard.mayBeNothing && found.content.isNegative)
            return value
        }
        self.groups?.count(key) { if value == nil { $0.misses &+= 1 } else { $0.hits &+= 1 } }
        return value
    }

    /// Whether a fresh value is in memory; does not count as a read.
    ///
    /// - Parameter key: The key.
    /// - Returns: Whether ``cached(_:)`` would give one.
    public func contains(_ key: Key) -> Bool {
        let hash = Self.hash(key)
        let now = self.service.clock.now
        let suspectBelow = self.generations.suspectBelow
        return self.locked(hash) { shard in
            guard let present = shard.peek(key, hash), case .value = present.0.content else { return false }
            return Self.isFresh(present, at: now) && present.0.stamp >= suspectBelow
        }
    }

    /// Stores a value.
    ///
    /// Not in the source: ``write(_:for:options:)`` does that too.
    ///
    /// A load of the key that is under way goes on for those who wait for it, but what it loads is not stored.
    ///
    /// - Parameters:
    ///   - value: The value.
    ///   - key: The key.
    ///   - options: How it lives; `nil` for as the cache says.
    /// - Throws: ``CacheError`` with code ``CacheError/Code/invalidArgument``; nothing changed then.
    @inlinable
    @inline(__always)
    public func set(_ value: Value, for key: Key, options: CacheOptions? = nil) throws(CacheError) {
        if let options {
            try options.validate()
            self.put(value, for: key, LifetimeRule(options), self.generations.tags(options.tags))
        } else {
            self.put(value, for: key, self.rule, self.isTagged ? self.generations.tags(self.options.tags) : nil)
        }
    }

    /// Stores a value that lives by a rule and carries tags.
    @inlinable
    func put(_ value: Value, for key: Key, _ rule: LifetimeRule, _ tags: TagSet?) {
        let hash = Self.hash(key)
        let stamp = self.generations.stamp
        let weight = self.weight(key, .value(value))
        let now = self.now
        let isNegative = self.mayBeNothing && Content.value(value).isNegative
        if isNegative, rule.forgetsNothing { return self.remove(key) }
        self.change(hash) { shard, removed in
            shard.supersede(key, removed: &removed)
            let terms = MemoryBooks.Terms(
                weight: weight,
                version: shard.nextVersion(),
                lifetime: rule.isEndless && !isNegative
                    ? Lifetime() : shard.lifetime(rule, isNegative: isNegative, now: now, loadTime: 0),
                tags: tags
            )
            shard.store(key, hash, .value(value), stamp: stamp, on: terms, now: now, removed: &removed)
        }
    }

    /// Forgets a key; the source keeps it: ``erase(_:)`` removes it there too.
    ///
    /// A load of the key that is under way goes on for those who wait for it, but what it loads is not stored, and who asks
    /// from now on does not join it.
    ///
    /// - Parameter key: The key.
    public func remove(_ key: Key) {
        let hash = Self.hash(key)
        let now = self.service.clock.now
        self.change(hash) { shard, removed in
            shard.supersede(key, removed: &removed)
            shard.remove(key, hash, .removed, at: now, removed: &removed)
        }
    }

    /// Makes a value stale: the next read loads it anew, and gets this one if that fails and the options say so.
    ///
    /// As if its time to live ended now; where the options allow no stale values, that is the end of it.
    ///
    /// - Parameter key: The key.
    public func expire(_ key: Key) {
        let hash = Self.hash(key)
        let now = self.service.clock.now
        self.change(hash) { shard, removed in
            shard.supersede(key, removed: &removed)
            shard.extend(key, hash) { $0.lifetime.expire(at: now, from: $0.storedAt) }
        }
    }

    /// Forgets all that carries a tag.
    ///
    /// Takes the same time however many entries carry it: they are found out when they are read. A load that is under way
    /// goes on for those who wait for it, and is not stored if what it loads carries the tag. Who asks from now on does not
    /// join it, if that is known already: by his options, by those of whoever began the load, or because its loader has said
    /// so. What a loader says of its tags later on comes too late for that.
    ///
    /// - Parameter tag: The tag.
    public func invalidate(tag: String) {
        self.generations.invalidate(tag: tag, at: self.service.clock.now)
    }

    /// Forgets everything.
    ///
    /// Looks at each entry of the memory, one part of it after the other. When this returns, nothing that was stored or
    /// being loaded before is given to a new caller.
    public func invalidateAll() {
        self.generations.invalidateAll()
        let now = self.service.clock.now
        self.changeAll { shard, removed in
            shard.supersedeAll(removed: &removed)
            shard.removeAll(.all, at: now, removed: &removed)
        }
    }

    /// Replaces a value by what is made of it, however many do that at the same time.
    ///
    /// - Parameters:
    ///   - key: The key.
    ///   - options: How the new value lives; `nil` for as the cache says.
    ///   - change: Makes the new value of the present fresh one, if there is one; `nil` removes it. Called outside of all
    ///     locks, and again when somebody else was faster.
    /// - Returns: The new value.
    /// - Throws: ``CacheError`` with code ``CacheError/Code/conflict`` when somebody else was faster each of ten thousand
    ///   times, or what `change` throws; nothing changed then.
    @discardableResult
    public func update(
        _ key: Key,
        options: CacheOptions? = nil,
        _ change: (Value?) throws -> Value?
    ) throws -> Value? {
        let options = options ?? self.options
        try options.validate()
        let rule = LifetimeRule(options)
        let hash = Self.hash(key)
        for _ in 0..<CacheLimits.mostSwaps {
            let stamp = self.generations.stamp
            let (old, version) = self.present(key, hash)
            let new = try change(old)
            let tags = self.generations.tags(options.tags)
            let weight = new.map { self.weight(key, .value($0)) } ?? 0
            let now = self.service.clock.now
            let isNegative = new.map { Content.value($0).isNegative } ?? true
            let isDone = self.change(hash) { shard, removed in
                let present = shard.peek(key, hash)
                guard (present?.1.version ?? 0) == version else { return false }
                // An expiry and the invalidation of a tag change no version.
                if old != nil, !(present.map { Self.isFresh($0, at: now) } ?? false) { return false }
                shard.supersede(key, removed: &removed)
                guard let new, !(isNegative && rule.forgetsNothing) else {
                    shard.remove(key, hash, .removed, at: now, removed: &removed)
                    return true
                }
                let terms = MemoryBooks.Terms(
                    weight: weight,
                    version: shard.nextVersion(),
                    lifetime: shard.lifetime(rule, isNegative: isNegative, now: now, loadTime: 0),
                    tags: tags
                )
                shard.store(key, hash, .value(new), stamp: stamp, on: terms, now: now, removed: &removed)
                return true
            }
            if isDone { return new }
        }
        throw CacheError(.conflict, "others changed the entry each time that this tried to")
    }

    /// The fresh value of a key and the version of what is there.
    private func present(_ key: Key, _ hash: UInt64) -> (Value?, UInt64) {
        let now = self.service.clock.now
        return self.locked(hash) { shard in
            guard let present = shard.peek(key, hash) else { return (nil, 0) }
            guard Self.isFresh(present, at: now), case .value(let value) = present.0.content else {
                return (nil, present.1.version)
            }
            return (value, present.1.version)
        }
    }

    /// Whether an entry may still be given as fresh.
    static func isFresh(_ present: (MemoryEntry<Key, Value>, MemoryRecord), at now: Int64) -> Bool {
        let (entry, record) = present
        return now < min(record.lifetime.freshUntil, record.lifetime.deadline(readAt: record.readAt))
            && record.tags?.admits(entry.stamp) ?? true
    }
}

extension Cache where Key: CacheKey {
    /// Forgets all keys that start so.
    ///
    /// Looks at each entry of the memory, one part of it after the other; loads of such keys that are under way are not
    /// stored.
    ///
    /// - Parameter prefix: Their start, compared by bytes.
    public func invalidate(prefix: String) { self.invalidate(prefix: prefix) { $0.cacheKey } }
}

extension Cache {
    /// Forgets all keys whose text starts so; the texts are made outside of all locks.
    func invalidate(prefix: String, _ text: (Key) -> String) {
        let mark = self.generations.invalidate(prefix: prefix)
        let now = self.service.clock.now
        for part in self.parts {
            for key in part.withLock({ $0.keys }) where text(key).utf8.starts(with: prefix.utf8) {
                let hash = Self.hash(key)
                self.change(hash) { shard, removed in
                    if shard.flights[key].map({ $0.stamp < mark }) ?? true { shard.supersede(key, removed: &removed) }
                    shard.remove(key, hash, olderThan: mark, .prefix, at: now, detail: prefix, removed: &removed)
                }
            }
        }
    }
}
