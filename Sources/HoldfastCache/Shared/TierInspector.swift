// SPDX-License-Identifier: Apache-2.0

package import HoldfastCore

/// Looks at entries of a cache in its tier without knowing what its values are: for operators.
///
/// It reads what services read, by the same rules, and changes nothing.
package struct TierInspector: Sendable {
    /// Where the entries are.
    package let tier: any CacheTier
    /// Of which cache.
    package let namespace: String

    /// Looks at a cache.
    ///
    /// - Parameters:
    ///   - tier: Where its entries are.
    ///   - namespace: Its name.
    /// - Throws: ``CacheError`` with code ``CacheError/Code/invalidArgument`` when no cache can have this name.
    package init(_ tier: any CacheTier, namespace: String) throws(CacheError) {
        try CacheService.check(namespace)
        self.tier = tier
        self.namespace = namespace
    }

    /// How the names of all locks of caches start.
    package static let resources = "cache/"

    /// The lock under which services load a key.
    package static func resource(_ key: String, in namespace: String) -> Resource {
        Resource(escaping: "\(self.resources)\(namespace)/\(key)")
    }

    /// What lies in the tier for a key.
    package struct Inspection: Sendable {
        /// What there is.
        package enum Content: Sendable {
            /// Nothing, or nothing of ours.
            case nothing
            /// The mark that a removal left.
            case tombstone
            /// Bytes that no service reads.
            case unreadable(Envelope.Fault)
            /// An entry, and what has made it invalid.
            case entry(Envelope, Invalidation?)
        }

        /// Why an entry is not valid any more.
        package struct Invalidation: Sendable, Hashable {
            /// What was invalidated.
            package let scope: InvalidationScope
            /// The mark of that, higher than the entry's.
            package let mark: UInt64

            /// Whether the tier could not read its marks: then all is invalid, whatever was invalidated.
            package var isDamage: Bool { self.mark == TierMarks.unreadable }
        }

        /// What may be done with an entry.
        package enum Standing: String, Sendable, Hashable {
            /// It is given.
            case fresh
            /// It is given, and loaded anew in the background.
            case revalidating
            /// It is given when loading fails.
            case stale
            /// Its time is over; the tier drops it.
            case over
        }

        /// The key.
        package let key: String
        /// The version of the entry or the tombstone; 0 when there is neither.
        package let version: UInt64
        /// How long ago it was written, by the tier's clock.
        package let age: Duration
        /// How many bytes it takes, with what is written about it.
        package let size: Int
        /// What there is.
        package let content: Content

        /// The entry, if nothing has made it invalid.
        package var valid: Envelope? {
            if case .entry(let envelope, nil) = self.content { envelope } else { nil }
        }

        /// What may be done with the entry; `nil` when there is no valid one.
        package var standing: Standing? {
            guard let envelope = self.valid else { return nil }
            let age = self.age.nanoseconds
            if age < envelope.freshFor { return .fresh }
            if age < envelope.revalidateFor { return .revalidating }
            return age < envelope.keptFor ? .stale : .over
        }

        /// Whether a service that asks now is given the entry without loading it.
        package var isGiven: Bool { self.standing == .fresh || self.standing == .revalidating }
    }

    /// Looks at keys.
    ///
    /// One round trip, and one more where entries have tags.
    ///
    /// - Parameter keys: The keys, at most ``CacheLimits/maximumBatch``.
    /// - Returns: What there is for each, in order.
    /// - Throws: ``CacheError``.
    package func inspect(_ keys: [String]) async throws -> [Inspection] {
        try await self.tier.steadily { try await self.inspectOnce(keys) }
    }

    private func inspectOnce(_ keys: [String]) async throws -> [Inspection] {
        let reading = try await self.tier.read(keys, in: self.namespace)
        let opened = zip(reading.entries, keys).map { self.open($0, $1) }
        let envelopes = opened.compactMap { try? $0?.get() }
        let marks = try await TagMarks(of: envelopes) { try await self.tier.marks(of: $0, in: self.namespace) }
        return zip(zip(reading.entries, opened), keys).map { pair, key in
            let (entry, opened) = pair
            let content: Inspection.Content =
                switch opened {
                case nil: entry.version == 0 ? .nothing : .tombstone
                case .failure(let fault)?: .unreadable(fault)
                case .success(let envelope)? where envelope.isTombstone: .tombstone
                case .success(let envelope)?:
                    .entry(envelope, Self.invalidation(of: key, envelope, reading.marks, marks))
                }
            return Inspection(
                key: key,
                version: entry.version,
                age: entry.age,
                size: entry.payload?.count ?? 0,
                content: content
            )
        }
    }

    private func open(_ entry: TierEntry, _ key: String) -> Result<Envelope, Envelope.Fault>? {
        guard let payload = entry.payload else { return nil }
        return Result { () throws(Envelope.Fault) in
            try Envelope(payload, for: key, in: self.namespace, limit: CacheLimits.largestValue)
        }
    }

    /// What has made an entry invalid: everything first, then the longest prefix, then a tag.
    private static func invalidation(
        of key: String,
        _ envelope: Envelope,
        _ marks: TierMarks,
        _ tagMarks: TagMarks
    ) -> Inspection.Invalidation? {
        if envelope.mark < marks.all { return Inspection.Invalidation(scope: .all, mark: marks.all) }
        let prefixes = marks.prefixes.filter { envelope.mark < $0.value && key.utf8.starts(with: $0.key.utf8) }
        if let (prefix, mark) = prefixes.max(by: { $0.key.utf8.count < $1.key.utf8.count }) {
            return Inspection.Invalidation(scope: .prefix(prefix), mark: mark)
        }
        for tag in envelope.tags {
            if let mark = tagMarks[tag], envelope.mark < mark {
                return Inspection.Invalidation(scope: .tag(tag), mark: mark)
            }
        }
        return nil
    }
}
