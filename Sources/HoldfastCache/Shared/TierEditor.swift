// SPDX-License-Identifier: Apache-2.0

import Holdfast
package import HoldfastCore

/// Changes entries of a cache in its tier without knowing what its values are, and tells the services: for operators.
///
/// What it writes and tells is what a ``SharedCache`` would. Services are told before a call returns; when that fails, the
/// tier has the change all the same.
package actor TierEditor {
    /// A value to be written: JSON, with how it lives.
    package struct Draft: Sendable {
        /// The key.
        package var key: String
        /// The value as JSON.
        package var value: [UInt8]
        /// How long it is fresh; `nil` for as long as the tier keeps it.
        package var timeToLive: Duration?
        /// What is said of it; those with the same bytes are one, and others are not, whatever Swift holds for equal.
        package var tags: [String]

        /// Describes a value.
        package init(key: String, value: [UInt8], timeToLive: Duration? = nil, tags: [String] = []) {
            self.key = key
            self.value = value
            self.timeToLive = timeToLive
            self.tags = tags
        }

        /// Checks what the tier would not take.
        ///
        /// - Throws: ``CacheError`` with code ``CacheError/Code/invalidArgument``.
        package func validate(in namespace: String) throws(CacheError) {
            try CacheLimits.check([self.key], in: namespace)
            if let life = self.timeToLive {
                guard life > .zero else {
                    throw CacheError(
                        .invalidArgument,
                        "a time to live must be above zero; without one the value is there for as long as may be"
                    )
                }
                guard life <= CacheLimits.longestLife else {
                    let days = CacheLimits.longestLife.components.seconds / 86_400
                    throw CacheError(.invalidArgument, "a time to live is at most \(days) days")
                }
            }
            let tags = self.ownTags
            try CacheOptions.check(tags)
            // The tier counts what is written about the value too.
            var envelope = Envelope(codec: 0)
            envelope.tags = tags
            envelope.writer = String(repeating: "w", count: Envelope.longestWriter)
            let room = CacheLimits.largestValue - envelope.encoded(for: self.key, in: namespace).count
            guard self.value.count <= room else {
                throw CacheError(
                    .invalidArgument,
                    "a value with these tags has at most \(room) bytes, this one \(self.value.count)"
                )
            }
        }

        fileprivate var options: CacheOptions {
            CacheOptions().with {
                $0.timeToLive = self.timeToLive
                // Who says how long means it.
                $0.jitter = 0
            }
        }

        /// The tags by bytes, each once and sorted.
        fileprivate var ownTags: [String] {
            var seen = Set<[UInt8]>()
            return self.tags.filter { seen.insert(Array($0.utf8)).inserted }
                .sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
        }
    }

    private let inspector: TierInspector
    private let bus: any CacheBus
    private let clock: any LeaseClock
    private var outbox: BusOutbox
    /// Who writes, for people.
    private let writer: String
    private var tier: any CacheTier { self.inspector.tier }
    private var namespace: String { self.inspector.namespace }

    /// Makes an editor of a cache.
    ///
    /// - Parameters:
    ///   - inspector: Which cache, and where.
    ///   - bus: Where services listen.
    ///   - clock: What the pauses between tries are counted on; another one in tests only.
    package init(_ inspector: TierInspector, bus: any CacheBus, clock: any LeaseClock = ContinuousClock()) {
        self.inspector = inspector
        self.bus = bus
        self.clock = clock
        let origin = UInt64.random(in: 1...UInt64.max)
        self.writer = ProcessIdentity.current(instance: origin).name
        self.outbox = BusOutbox(
            origin: origin,
            hasSides: inspector.tier is FallbackTier
        )
    }

    // MARK: - Entries

    /// What became of a write.
    package struct Written: Sendable {
        /// The versions of those that were written, in order; `nil` for those that were left alone.
        package let versions: [UInt64?]
        /// Why running services were not told; `nil` when they were.
        package let untold: CacheError?
    }

    /// Writes values over whatever is there.
    ///
    /// As ``put(_:onlyIfAbsent:)``; that services were not told is an error.
    package func write(_ drafts: [Draft], onlyIfAbsent isOnlyIfAbsent: Bool = false) async throws -> [UInt64?] {
        let written = try await self.put(drafts, onlyIfAbsent: isOnlyIfAbsent)
        if let untold = written.untold { throw Self.made(untold) }
        return written.versions
    }

    /// Writes values over whatever is there.
    ///
    /// Three round trips.
    ///
    /// - Parameters:
    ///   - drafts: What to write; their keys differ, at most ``CacheLimits/maximumBatch``.
    ///   - isOnlyIfAbsent: Whether to leave alone what a service could still use.
    /// - Returns: What was written, and whether services know.
    /// - Throws: ``CacheError``; any of them may then have been written.
    package func put(_ drafts: [Draft], onlyIfAbsent isOnlyIfAbsent: Bool = false) async throws -> Written {
        for draft in drafts { try draft.validate(in: self.namespace) }
        // Before anything is looked at: what is invalidated meanwhile is invalid.
        let mark = try await self.tier.read([], in: self.namespace).marks.current
        var conditions: [TierWrite.Condition?] = drafts.map { _ in .always }
        if isOnlyIfAbsent {
            conditions = try await self.inspector.inspect(drafts.map(\.key)).map { found in
                found.standing == nil || found.standing == .over ? .version(found.version) : nil
            }
        }
        let writes = zip(drafts, conditions).compactMap { draft, condition in
            condition.map { self.write(draft, mark: mark, if: $0) }
        }
        var replies = try await self.tier.write(writes, in: self.namespace)[...]
        let versions = zip(drafts, conditions).map { draft, condition -> UInt64? in
            guard condition != nil, case .written(let version)? = replies.popFirst() else { return nil }
            self.outbox.add(.changed(key: draft.key, version: version), in: self.namespace)
            return version
        }
        return Written(versions: versions, untold: try await self.publish())
    }

    private func write(_ draft: Draft, mark: UInt64, if condition: TierWrite.Condition) -> TierWrite {
        var generator = SystemRandomNumberGenerator()
        let lifetime = Lifetime(draft.options, isNegative: false, now: 0, loadTime: 0, using: &generator)
        let terms = EntryTerms(lifetime, now: 0, loadTime: 0, entityTag: nil, tags: [])
        var envelope = terms.envelope(codec: JSONCacheCodec<String>().id, mark: mark)
        envelope.writer = self.writer
        envelope.tags = draft.ownTags
        envelope.payload = draft.value[...]
        return self.write(envelope, at: draft.key, if: condition)
    }

    private func write(_ envelope: Envelope, at key: String, if condition: TierWrite.Condition) -> TierWrite {
        let life = min(Duration.nanoseconds(envelope.keptFor), CacheLimits.longestLife)
        return TierWrite(
            key: key,
            payload: envelope.encoded(for: key, in: self.namespace),
            timeToLive: max(life, .milliseconds(1)),
            condition: condition
        )
    }

    /// Removes keys; loads of them that are under way are not stored.
    ///
    /// Two round trips.
    ///
    /// - Parameter keys: The keys, at most ``CacheLimits/maximumBatch``; each once.
    /// - Returns: The versions of the tombstones, in order.
    /// - Throws: ``CacheError``; any of them may then have been removed.
    @discardableResult
    package func remove(_ keys: [String]) async throws -> [UInt64] {
        let versions = try await self.tier.remove(keys, in: self.namespace, keepFor: CacheLimits.tombstoneLife)
        for (key, version) in zip(keys, versions) {
            self.outbox.add(.changed(key: key, version: version), in: self.namespace)
        }
        try await self.tell()
        return versions
    }

    /// What became of an entry that was to be stale.
    package enum Expiry: Sendable, Hashable {
        /// There was none; loads that are under way are not stored.
        case absent
        /// It is stale.
        case stale(version: UInt64)
        /// It is gone, since its writer allowed no stale value.
        case removed(version: UInt64)
    }

    /// Makes an entry stale: it is loaded anew, and given if that fails and its writer has allowed it.
    ///
    /// Three round trips, and two more for each time that somebody else changes the key meanwhile. What nobody could use
    /// any more is removed.
    ///
    /// - Parameter key: The key.
    /// - Returns: What became of it.
    /// - Throws: ``CacheError``, also with code ``CacheError/Code/conflict``.
    package func expire(_ key: String) async throws -> Expiry {
        var pauses = CacheLimits.pausesBetweenAttempts
        var generator = SystemRandomNumberGenerator()
        for _ in 0..<CacheLimits.mostAttempts {
            guard let found = try await self.inspector.inspect([key]).first else { return .absent }
            guard var envelope = found.valid else {
                // What is no entry of a cache is left alone; else somebody may be loading what is stale now.
                if case .unreadable = found.content { return .absent }
                try await self.remove([key])
                return .absent
            }
            guard let terms = EntryTerms(envelope).expired(at: found.age.nanoseconds) else {
                return .removed(version: try await self.remove([key]).first ?? 0)
            }
            // Nothing else of it changes, whatever an envelope may say.
            (envelope.freshFor, envelope.revalidateFor, envelope.keptFor) =
                (terms.freshFor, terms.revalidateFor, terms.keptFor)
            let write = self.write(envelope, at: key, if: .version(found.version))
            if case .written(let version)? = try await self.tier.write([write], in: self.namespace).first {
                self.outbox.add(.expired(key: key, version: version), in: self.namespace)
                try await self.tell()
                return .stale(version: version)
            }
            try await self.clock.sleep(for: pauses.next(using: &generator))
        }
        throw CacheError(.conflict, "others changed the entry each time that this tried to")
    }

    // MARK: - Invalidation

    /// Invalidates what carries a tag, starts so, or everything.
    ///
    /// Two round trips.
    ///
    /// - Parameter scope: What.
    /// - Returns: The mark.
    /// - Throws: ``CacheError``; the mark may then have been set.
    package func invalidate(_ scope: InvalidationScope) async throws -> UInt64 {
        let mark = try await self.tier.invalidate(scope, in: self.namespace, keepFor: CacheLimits.markLife)
        self.outbox.add(.invalidated(scope, mark: mark), in: self.namespace)
        try await self.tell()
        return mark
    }

    /// Tells the services what has changed.
    ///
    /// What cannot be told is not told later: its number is missing then, and services notice that with the next one.
    private func tell() async throws {
        if let failure = try await self.publish() { throw Self.made(failure) }
    }

    /// The error for a change that is made, and not told.
    private static func made(_ failure: CacheError) -> CacheError {
        CacheError(
            failure.code,
            "the change is made, but running services were not told of it: \(failure.message)",
            underlying: failure
        )
    }

    /// Sends what there is to tell.
    ///
    /// - Returns: Why something of it was not told.
    private func publish() async throws -> CacheError? {
        var failure: CacheError?
        while let message = self.outbox.next() {
            do {
                try await self.bus.publish(message.encoded)
            } catch let error as CacheError {
                failure = error
            }
        }
        return failure
    }
}
