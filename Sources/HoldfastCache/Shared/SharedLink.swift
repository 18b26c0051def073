// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// What ties a cache to the tier and the bus that it shares with other processes.
struct SharedLink<Key: Hashable & Sendable, Value: Sendable>: Sendable {
    /// The cache's name, and the namespace of the tier.
    let namespace: String
    let tier: GuardedTier
    /// Tells the others; `nil` without a bus.
    let bus: BusPort?
    let codec: any CacheCodec<Value>
    /// The largest value that is shared, in bytes.
    let maximumValue: Int
    /// The lease of the lock under which a key is loaded.
    let fillLease: Duration
    /// What a key is called.
    let text: @Sendable (Key) -> String
    /// Which key is called so.
    let key: @Sendable (String) -> Key?
    let watches = KeyWatches()

    /// What the tier has for a key.
    enum Look: Sendable {
        /// An entry that nothing has invalidated.
        case found(TierValue<Value>)
        /// Nothing that can be used.
        case nothing(TierPlace)
        /// The tier does not work.
        case unavailable(any Error)

        /// Where a write would go; `nil` when it cannot.
        var place: TierPlace? {
            switch self {
            case .found(let value): value.place
            case .nothing(let place): place
            case .unavailable: nil
            }
        }
    }

    /// Looks what the tier has for a key.
    ///
    /// One round trip, and one more for an entry with tags.
    ///
    /// - Parameter text: What the key is called.
    /// - Returns: What there is.
    func look(_ text: String) async -> (Look, isUnreadable: Bool) {
        do {
            let (entry, marks) = try await self.tier.ask { tier in
                let reading = try await tier.read([text], in: self.namespace)
                return (reading.entries.first ?? .absent, reading.marks)
            }
            return try await self.use(entry, text, marks)
        } catch {
            return (.unavailable(error), false)
        }
    }

    /// Makes of an entry of the tier what the cache can use.
    func use(_ entry: TierEntry, _ text: String, _ marks: TierMarks) async throws -> (Look, isUnreadable: Bool) {
        let place = TierPlace(version: entry.version, mark: marks.current)
        guard let payload = entry.payload else { return (.nothing(place), false) }
        guard
            let envelope = try? Envelope(payload, for: text, in: self.namespace, limit: self.maximumValue),
            envelope.codec == self.codec.id
        else { return (.nothing(place), true) }
        guard marks.admits(text, since: envelope.mark) else { return (.nothing(place), false) }
        if !envelope.tags.isEmpty {
            let tagMarks = try await self.tier.ask { try await $0.marks(of: envelope.tags, in: self.namespace) }
            guard tagMarks.allSatisfy({ $0 <= envelope.mark }) else { return (.nothing(place), false) }
        }
        guard let content = try? self.content(envelope) else { return (.nothing(place), true) }
        let terms = EntryTerms(envelope)
        let value = TierValue(
            content: content,
            terms: terms,
            age: entry.age.nanoseconds,
            place: place,
            mark: envelope.mark
        )
        return (.found(value), false)
    }

    private func content(_ envelope: Envelope) throws -> Content<Value> {
        envelope.isNotFound ? .notFound : .value(try self.codec.decode(envelope.payload))
    }

    /// The write of an entry; `nil` when the value is too large to be shared.
    ///
    /// - Throws: When the codec has no bytes for the value.
    func write(
        _ content: Content<Value>,
        _ text: String,
        _ terms: EntryTerms,
        mark: UInt64,
        if condition: TierWrite.Condition,
        token: UInt64
    ) throws -> TierWrite? {
        var envelope = terms.envelope(codec: self.codec.id, mark: mark)
        switch content {
        case .notFound: envelope.isNotFound = true
        case .value(let value): envelope.payload = try self.codec.encode(value)[...]
        }
        guard envelope.payload.count <= self.maximumValue else { return nil }
        let life = min(Duration.nanoseconds(terms.keptFor), CacheLimits.longestLife)
        return TierWrite(
            key: text,
            payload: envelope.encoded(for: text, in: self.namespace),
            timeToLive: max(life, .milliseconds(1)),
            condition: condition,
            token: token
        )
    }

    /// The lock under which a key is loaded.
    func resource(_ text: String) -> Resource { Resource(escaping: "cache/\(self.namespace)/\(text)") }

    /// Tells the other processes of a change.
    func tell(_ change: BusMessage.Change) { self.bus?.tell(change, in: self.namespace) }
}
