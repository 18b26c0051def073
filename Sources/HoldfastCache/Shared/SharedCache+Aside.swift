// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

// Reading and writing without a loader.
extension SharedCache {
    /// The value of a key, if there is a fresh one in memory or in the tier.
    ///
    /// One round trip when it is not in memory, and one more for an entry with tags.
    ///
    /// - Parameter key: The key.
    /// - Returns: The value, or `nil` when there is none, it is not fresh, or it is known that there is nothing.
    /// - Throws: ``CacheError`` with code ``CacheError/Code/tierUnavailable`` or ``CacheError/Code/tierRefused`` when it is
    ///   not in memory and the tier does not work.
    public func get(_ key: Key) async throws -> Value? {
        if let value = self.memory.cached(key) { return value }
        switch self.memory.source?.behind?.pending(key) {
        case .set(let value)?: return value
        case .remove?: return nil
        case nil: break
        }
        let text = self.link.text(key)
        let watch = self.link.watches.begin(text)
        defer { self.link.watches.end(text, watch) }
        let stamp = self.memory.generations.stamp
        let finding = await self.link.look(text)
        self.memory.count(finding)
        switch finding.look {
        case .nothing: return nil
        case .unavailable(let error): throw error
        case .found(let found):
            let terms = found.terms
            let publication = Cache<Key, Value>.Publication(
                content: found.content,
                version: found.place.version,
                lifetime: Lifetime(terms, age: found.age, self.options, now: self.memory.now),
                tags: Set(terms.tags),
                entityTag: terms.entityTag,
                stamp: stamp,
                origin: .tier
            )
            self.memory.publish(publication, for: key, watch, supersedes: false)
            guard found.standing == .fresh, case .value(let value) = found.content else { return nil }
            return value
        }
    }

    /// Stores a value: in the tier, in memory, and tells the other processes.
    ///
    /// Not in the source: ``write(_:for:options:)`` does that too.
    ///
    /// Two round trips, and two more when the tier switches to another one meanwhile. Loads of the key that are under way,
    /// here or elsewhere, are not stored over it.
    ///
    /// - Parameters:
    ///   - value: The value.
    ///   - key: The key.
    ///   - options: How it lives; `nil` for as the cache says.
    /// - Throws: ``CacheError`` with code ``CacheError/Code/invalidArgument``, and nothing changed; or with the codes of
    ///   the tier, and then this process forgot the key, and whether others get the new value is not known.
    public func set(_ value: Value, for key: Key, options: CacheOptions? = nil) async throws {
        let options = options ?? self.options
        try options.validate()
        let text = self.link.text(key)
        let watch = self.link.watches.begin(text)
        defer { self.link.watches.end(text, watch) }
        let stamp = self.memory.generations.stamp
        do {
            for _ in 0..<CacheLimits.mostLooks {
                let mark = try await self.link.ask(.read) { try await $0.read([text], in: self.name).marks.current }
                if try await self.write(value, key, options, stamp, watch, mark: mark, if: .always) { return }
                // The tier switched to another one, which does not know the mark.
            }
            throw CacheError(.tierUnavailable, "the tier switched to another one each time that this was written")
        } catch let error as CacheError where error.code == .invalidArgument {
            throw error
        } catch {
            self.link.watches.doubt(text)
            self.memory.remove(key)
            throw error
        }
    }

    /// Replaces a value by what is made of it, or removes it, however many processes do that at the same time.
    ///
    /// Two round trips for each attempt, and one more when the old value had tags that the new one has not. Loads of the
    /// key that are under way, here or elsewhere, are not stored over it.
    ///
    /// - Parameters:
    ///   - key: The key.
    ///   - options: How the new value lives; `nil` for as the cache says.
    ///   - change: Makes the new value of the present fresh one, if there is one; `nil` removes it. Called again when
    ///     somebody else was faster.
    /// - Returns: The new value.
    /// - Throws: ``CacheError`` with code ``CacheError/Code/conflict`` when somebody else was faster each of a hundred
    ///   times, ``CacheError/Code/invalidArgument``, or what `change` throws, and nothing changed; or with the codes of
    ///   the tier, and then whether it changed is not known.
    @discardableResult
    public func update(
        _ key: Key,
        options: CacheOptions? = nil,
        _ change: (Value?) throws -> Value?
    ) async throws -> Value? {
        let options = options ?? self.options
        try options.validate()
        let text = self.link.text(key)
        let watch = self.link.watches.begin(text)
        defer { self.link.watches.end(text, watch) }
        var pauses = CacheLimits.pausesBetweenAttempts
        var generator = SystemRandomNumberGenerator()
        for _ in 0..<CacheLimits.mostAttempts {
            let stamp = self.memory.generations.stamp
            let look = await self.link.look(text).look
            if case .unavailable(let error) = look { throw error }
            var old: Value?
            if case .found(let found) = look, found.standing == .fresh, case .value(let value) = found.content {
                old = value
            }
            let new = try change(old)
            let place = look.place ?? TierPlace(version: 0, mark: 0)
            do {
                if try await self.replace(place, by: new, key, options, stamp, watch) {
                    guard case .found(let found) = look, old != nil,
                        try await self.link.isInvalid(found, besides: options.tags)
                    else { return new }
                    // Made of what was invalidated meanwhile.
                    try await self.remove(key)
                }
            } catch let error as CacheError where error.code == .invalidArgument {
                throw error
            } catch {
                self.link.watches.doubt(text)
                self.memory.remove(key)
                throw error
            }
            try await self.memory.service.clock.sleeper.sleep(for: pauses.next(using: &generator))
        }
        throw CacheError(.conflict, "others changed the entry each time that this tried to")
    }

    /// Writes a value in the place of what was seen, or removes that, if it is still there.
    ///
    /// - Returns: Whether it was.
    private func replace(
        _ place: TierPlace,
        by new: Value?,
        _ key: Key,
        _ options: CacheOptions,
        _ stamp: UInt64,
        _ watch: KeyWatch
    ) async throws -> Bool {
        if let new {
            let condition = TierWrite.Condition.version(place.version)
            return try await self.write(new, key, options, stamp, watch, mark: place.mark, if: condition)
        }
        let text = self.link.text(key)
        guard let removal = self.link.removal(of: text, at: place) else { return false }
        let replies = try await self.link.ask(.write) { try await $0.write([removal], in: self.name) }
        guard case .written(let version)? = replies.first else { return false }
        self.link.changed(text, version)
        self.memory.remove(key)
        self.link.tell(.changed(key: text, version: version))
        return true
    }

    /// Writes a value to the tier and, if it was written, to memory.
    ///
    /// - Returns: Whether it was written.
    private func write(
        _ value: Value,
        _ key: Key,
        _ options: CacheOptions,
        _ stamp: UInt64,
        _ watch: KeyWatch,
        mark: UInt64,
        if condition: TierWrite.Condition
    ) async throws -> Bool {
        let text = self.link.text(key)
        let content = Content.value(value)
        let now = self.memory.now
        var generator = SystemRandomNumberGenerator()
        let lifetime = Lifetime(options, isNegative: content.isNegative, now: now, loadTime: 0, using: &generator)
        let terms = EntryTerms(lifetime, now: now, loadTime: 0, entityTag: nil, tags: options.tags)
        guard let write = try self.link.write(content, text, terms, mark: mark, if: condition, token: 0) else {
            throw CacheError(
                .invalidArgument,
                "the value has more than \(self.link.maximumValue) bytes (maximumSharedValue)"
            )
        }
        let replies = try await self.link.ask(.write) { try await $0.write([write], in: self.name) }
        guard case .written(let version)? = replies.first else { return false }
        let publication = Cache<Key, Value>.Publication(
            content: content,
            version: version,
            lifetime: lifetime,
            tags: options.tags,
            stamp: stamp,
            origin: .set
        )
        self.link.changed(text, version)
        self.memory.publish(publication, for: key, watch, supersedes: true)
        self.link.tell(.changed(key: text, version: version))
        return true
    }

    /// Forgets a key, everywhere but in the source: ``erase(_:)`` removes it there too.
    ///
    /// One round trip. Loads of the key that are under way, here or elsewhere, are not stored.
    ///
    /// - Parameter key: The key.
    /// - Throws: ``CacheError`` with the codes of the tier; this process forgot the key then, others may not have.
    public func remove(_ key: Key) async throws { try await self.remove([key]) }

    /// Forgets keys, everywhere.
    ///
    /// One round trip for ``CacheLimits/maximumBatch`` keys. A small tombstone stays in the tier at each key, there or not, for
    /// an hour and a minute, since a call may bring a deadline of an hour (``CacheLimits/longestLoad``). For that time,
    /// entries of a shorter life that are written over it cost readers of a Redis tier a second round trip.
    ///
    /// - Parameter keys: The keys.
    /// - Throws: ``CacheError`` with the codes of the tier; this process forgot the keys then, others may not have.
    public func remove(_ keys: some Sequence<Key>) async throws {
        let keys = Array(keys)
        var left = keys[...]
        // What the tier was not asked to remove, or may have removed.
        defer {
            for key in left {
                self.link.watches.doubt(self.link.text(key))
                self.memory.remove(key)
            }
        }
        // The tier first: who reads it meanwhile would bring the old value back into memory.
        for some in keys.batches {
            let texts = some.map(self.link.text)
            let versions = try await self.link.ask(.removal) {
                try await $0.remove(texts, in: self.name, keepFor: CacheLimits.tombstoneLife)
            }
            for (text, version) in zip(texts, versions) { self.link.changed(text, version) }
            for key in some { self.memory.remove(key) }
            for (text, version) in zip(texts, versions) { self.link.tell(.changed(key: text, version: version)) }
            left = left.dropFirst(some.count)
        }
    }

    /// Makes a value stale, everywhere: the next read loads it anew, and gets this one if that fails and the options say
    /// so.
    ///
    /// Two round trips, and two more for each time that somebody else changes the key meanwhile. Loads of the key that are
    /// under way, here or elsewhere, are not stored; where there is nothing to make stale, that takes a tombstone as in
    /// ``remove(_:)-(Key)``.
    ///
    /// - Parameter key: The key.
    /// - Throws: ``CacheError`` with the codes of the tier, or ``CacheError/Code/conflict``; the value is stale in this
    ///   process then, others may not have noticed.
    public func expire(_ key: Key) async throws {
        defer { self.memory.expire(key) }
        let text = self.link.text(key)
        do {
            try await self.expireInTier(key, text)
        } catch {
            self.link.watches.doubt(text)
            throw error
        }
    }

    private func expireInTier(_ key: Key, _ text: String) async throws {
        var pauses = CacheLimits.pausesBetweenAttempts
        var generator = SystemRandomNumberGenerator()
        for _ in 0..<CacheLimits.mostAttempts {
            let look = await self.link.look(text).look
            switch look {
            case .unavailable(let error): throw error
            // Somebody may load it; or it is an entry that only this process does not believe, after an outage.
            case .nothing: return try await self.remove(key)
            case .found(let found):
                guard let terms = found.terms.expired(at: found.age) else { return try await self.remove(key) }
                let condition = TierWrite.Condition.version(found.place.version)
                let mark = found.mark
                guard
                    let write = try self.link.write(found.content, text, terms, mark: mark, if: condition, token: 0)
                else { return try await self.remove(key) }
                let replies = try await self.link.ask(.write) { try await $0.write([write], in: self.name) }
                if case .written(let version)? = replies.first {
                    self.link.changed(text, version)
                    self.memory.expire(key)
                    return self.link.tell(.expired(key: text, version: version))
                }
            }
            try await self.memory.service.clock.sleeper.sleep(for: pauses.next(using: &generator))
        }
        throw CacheError(.conflict, "others changed the entry each time that this tried to")
    }

    // MARK: - Invalidation

    /// Forgets all that carries a tag, everywhere.
    ///
    /// One round trip, however many entries carry it. What is being loaded and carries it is not stored, here or elsewhere;
    /// who asks after this returned, or elsewhere after the news came, joins such a load as little as in
    /// ``Cache/invalidate(tag:)``.
    ///
    /// - Parameter tag: The tag.
    /// - Throws: ``CacheError`` with the codes of the tier; this process forgot them then, others may not have.
    public func invalidate(tag: String) async throws {
        try await self.invalidate(.tag(tag)) { self.memory.invalidate(tag: tag) }
    }

    /// Forgets all keys that start so, everywhere.
    ///
    /// One round trip, however many there are.
    ///
    /// - Parameter prefix: Their start, compared by bytes.
    /// - Throws: ``CacheError`` with the codes of the tier; this process forgot them then, others may not have.
    public func invalidate(prefix: String) async throws {
        try await self.invalidate(.prefix(prefix)) { self.memory.invalidate(prefix: prefix) }
    }

    /// Forgets everything, everywhere.
    ///
    /// One round trip.
    ///
    /// - Throws: ``CacheError`` with the codes of the tier; this process forgot everything then, others may not have.
    public func invalidateAll() async throws {
        try await self.invalidate(.all) { self.memory.invalidateAll() }
    }

    private func invalidate(_ scope: InvalidationScope, _ locally: () -> Void) async throws {
        // After the tier: who reads it meanwhile would bring old values back into memory.
        defer { locally() }
        let mark = try await self.link.ask(.removal) {
            try await $0.invalidate(scope, in: self.name, keepFor: CacheLimits.markLife)
        }
        locally()
        self.link.tell(.invalidated(scope, mark: mark))
    }
}
