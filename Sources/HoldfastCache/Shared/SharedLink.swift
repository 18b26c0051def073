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
    /// Who writes, for people: this process.
    let writer: String
    /// The lease of the lock under which a key is loaded.
    let fillLease: Duration
    /// What a key is called.
    let text: @Sendable (Key) -> String
    /// Which key is called so.
    let key: @Sendable (String) -> Key?
    let watches = KeyWatches()
    /// Measures what the tier and the locks take.
    let meter: LayerMeter

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

    /// Asks the tier for something, and measures how long that takes.
    ///
    /// - Throws: As `GuardedTier`'s; what it does not ask is not measured.
    func ask<Answer: Sendable>(
        _ kind: TierCall,
        by patience: LoadPatience? = nil,
        _ call: @escaping @Sendable (any CacheTier) async throws -> Answer
    ) async throws -> Answer {
        try await self.tier.ask(kind, by: patience) { tier in
            try await self.meter.measure(kind.step) { try await call(tier) }
        }
    }

    /// What a look gave for one key.
    struct Finding: Sendable {
        var look: Look
        /// Whether something is there that is not an entry of this cache.
        var isUnreadable = false
    }

    /// Looks what the tier has for a key.
    ///
    /// One round trip, and one more for an entry with tags.
    ///
    /// - Parameters:
    ///   - text: What the key is called.
    ///   - patience: That of the load that looks; `nil` for another caller.
    /// - Returns: What there is.
    func look(_ text: String, by patience: LoadPatience? = nil) async -> Finding {
        await self.look([text], by: patience).first ?? Finding(look: .nothing(TierPlace(version: 0, mark: 0)))
    }

    /// Looks what the tier has for several keys.
    ///
    /// One round trip for each ``CacheLimits/maximumBatch`` of them, and one more where entries have tags.
    ///
    /// - Parameters:
    ///   - texts: What the keys are called.
    ///   - patience: That of the load that looks; `nil` for another caller.
    /// - Returns: What there is for each, in order.
    func look(_ texts: [String], by patience: LoadPatience? = nil) async -> [Finding] {
        var findings: [Finding] = []
        for some in texts.batches {
            do {
                findings += try await self.tier.tier.steadily { try await self.lookOnce(some, patience) }
            } catch {
                findings += some.map { _ in Finding(look: .unavailable(error)) }
            }
        }
        return findings
    }

    private func lookOnce(_ texts: [String], _ patience: LoadPatience?) async throws -> [Finding] {
        let reading = try await self.ask(.read, by: patience) { try await $0.read(texts, in: self.namespace) }
        let opened = zip(reading.entries, texts).map { self.open($0, $1) }
        let envelopes = opened.compactMap { if case .envelope(let envelope) = $0 { envelope } else { nil } }
        let tagMarks = try await TagMarks(of: envelopes) { tags in
            try await self.ask(.read, by: patience) { try await $0.marks(of: tags, in: self.namespace) }
        }
        return zip(zip(reading.entries, opened), texts).map { pair, text in
            let place = TierPlace(version: pair.0.version, mark: reading.marks.current)
            guard case .envelope(let envelope) = pair.1 else {
                return Finding(look: .nothing(place), isUnreadable: pair.1 == .unreadable)
            }
            guard reading.marks.admits(text, since: envelope.mark),
                envelope.tags.allSatisfy({ tagMarks[$0] ?? 0 <= envelope.mark })
            else { return Finding(look: .nothing(place)) }
            guard let content = try? self.content(envelope) else {
                return Finding(look: .nothing(place), isUnreadable: true)
            }
            let value = TierValue(
                content: content,
                terms: EntryTerms(envelope),
                age: pair.0.age.nanoseconds,
                place: place,
                mark: envelope.mark
            )
            return Finding(look: .found(value))
        }
    }

    private enum Opened: Equatable {
        case nothing, unreadable
        case envelope(Envelope)
    }

    private func open(_ entry: TierEntry, _ text: String) -> Opened {
        guard let payload = entry.payload else { return .nothing }
        guard
            let envelope = try? Envelope(payload, for: text, in: self.namespace, limit: self.maximumValue),
            envelope.codec == self.codec.id
        else { return .unreadable }
        return envelope.isTombstone ? .nothing : .envelope(envelope)
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
        envelope.writer = self.writer
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

    /// What stands for a removal of what was seen at a key, on the condition that it is still there: a removal itself has no
    /// condition.
    ///
    /// Refuses late writers as long as a tombstone, unless an entry that ends before is written over it and is gone again.
    func removal(of text: String, at place: TierPlace) -> TierWrite? {
        var over = Lifetime()
        (over.freshUntil, over.revalidateUntil, over.keptUntil) = (0, 0, 0)
        let terms = EntryTerms(over, now: 0, loadTime: 0, entityTag: nil, tags: [])
        let condition = TierWrite.Condition.version(place.version)
        guard var write = try? self.write(.notFound, text, terms, mark: place.mark, if: condition, token: 0) else {
            return nil
        }
        write.timeToLive = CacheLimits.tombstoneLife
        return write
    }

    /// Whether an entry that was found to be valid has been invalidated by one of its tags since.
    ///
    /// One round trip, none when it has no other tags than those given.
    func isInvalid(_ found: TierValue<Value>, besides tags: Set<String>) async throws -> Bool {
        let own = found.terms.tags.filter { !tags.contains($0) }
        guard !own.isEmpty else { return false }
        let marks = try await self.ask(.read) { try await $0.marks(of: own, in: self.namespace) }
        return marks.contains { found.mark < $0 }
    }

    /// Whether one of two versions is known to be the newer one: those of two tiers cannot be compared.
    func areComparable(_ one: UInt64, _ other: UInt64) -> Bool {
        !self.tier.hasSides || TierSide.areComparable(one, other)
    }

    /// The lock under which a key is loaded.
    func resource(_ text: String) -> Resource { TierInspector.resource(text, in: self.namespace) }

    /// Says in this process that a key was changed, before its memory is: who has read something older and is about to
    /// store it there either hears of it, or has it dropped.
    func changed(_ text: String, _ version: UInt64) { self.watches.tell(text, version: version, isChange: true) }

    /// Tells the other processes of a change.
    func tell(_ change: BusMessage.Change) { self.bus?.tell(change, in: self.namespace) }
}
