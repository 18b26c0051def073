// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore

extension SharedCache {
    /// What a read of a key would give now, and why: in memory, in the tier, and who loads it among all processes.
    ///
    /// Changes nothing and is not counted. One round trip to the tier, one more for an entry with tags, and one to the lock
    /// service, at the same time. What does not answer is said to be so; nothing is thrown.
    ///
    /// - Parameter key: The key.
    /// - Returns: The explanation.
    public func explain(_ key: Key) async -> CacheExplanation {
        var explanation = self.memory.explain(key)
        let text = self.link.text(key)
        async let lock = self.lock(text)
        explanation.tier = await self.link.examine(text)
        explanation.lock = await lock
        return explanation
    }

    private func lock(_ text: String) async -> CacheExplanation.Lock? {
        guard let locks = self.memory.service.locks else { return nil }
        let resource = self.link.resource(text)
        do {
            let status = try await locks.status(of: resource)
            return .init(resource: resource, holders: status.holders, waiters: status.waiters.count, error: nil)
        } catch {
            return .init(resource: resource, holders: [], waiters: 0, error: ErrorLabel.of(error))
        }
    }
}

extension SharedLink {
    /// Describes what the tier has for a key.
    fileprivate func examine(_ text: String) async -> CacheExplanation.Tier {
        let name = self.tier.name
        guard (try? CacheLimits.check([text], in: self.namespace)) != nil else {
            return CacheExplanation.Tier(name: name, standing: .unshareable)
        }
        do {
            return try await self.tier.tier.steadily {
                let reading = try await self.tier.ask(.read) { try await $0.read([text], in: self.namespace) }
                let entry = reading.entries.first ?? .absent
                return try await self.describe(entry, text, reading.marks)
            }
        } catch {
            return CacheExplanation.Tier(name: name, standing: .unavailable(ErrorLabel.of(error)))
        }
    }

    private func describe(_ entry: TierEntry, _ text: String, _ marks: TierMarks) async throws -> CacheExplanation.Tier
    {
        func tier(_ standing: CacheExplanation.Tier.Standing) -> CacheExplanation.Tier {
            var tier = CacheExplanation.Tier(name: self.tier.name, standing: standing)
            tier.version = entry.version
            tier.age = entry.age
            tier.size = entry.payload?.count ?? 0
            return tier
        }
        guard let payload = entry.payload else { return tier(entry.version == 0 ? .absent : .removed) }
        let envelope: Envelope
        do throws(Envelope.Fault) {
            envelope = try Envelope(payload, for: text, in: self.namespace, limit: self.maximumValue)
        } catch {
            return tier(.unreadable(error.sentence))
        }
        guard !envelope.isTombstone else { return tier(.removed) }
        let standing = try await self.standing(of: envelope, text, marks, age: entry.age.nanoseconds)
        var result = tier(standing)
        result.codec = envelope.codec
        result.isNegative = envelope.isNotFound
        result.freshFor = envelope.freshFor == .max ? nil : .nanoseconds(envelope.freshFor) - entry.age
        result.loadTime = envelope.loadTime > 0 ? .nanoseconds(envelope.loadTime) : nil
        result.writer = envelope.writer.isEmpty ? nil : envelope.writer
        result.tags = envelope.tags
        result.entityTag = envelope.entityTag
        return result
    }

    private func standing(
        of envelope: Envelope,
        _ text: String,
        _ marks: TierMarks,
        age: Int64
    ) async throws -> CacheExplanation.Tier.Standing {
        guard envelope.codec == self.codec.id else { return .unreadable("made by another codec") }
        if envelope.mark < marks.all { return .invalidated(.all) }
        for (prefix, mark) in marks.prefixes where envelope.mark < mark && text.utf8.starts(with: prefix.utf8) {
            return .invalidated(.prefix(prefix))
        }
        if !envelope.tags.isEmpty {
            let tagMarks = try await self.tier.ask(.read) { try await $0.marks(of: envelope.tags, in: self.namespace) }
            for (tag, mark) in zip(envelope.tags, tagMarks) where envelope.mark < mark {
                return .invalidated(.tag(tag))
            }
        }
        if !envelope.isNotFound, (try? self.codec.decode(envelope.payload)) == nil {
            return .unreadable("its codec does not understand it")
        }
        if age < envelope.freshFor { return .fresh }
        return age < envelope.revalidateFor ? .revalidating : .stale
    }
}

extension Envelope.Fault {
    fileprivate var sentence: String {
        switch self {
        case .foreign: "not an entry of this library, or of a version that this program does not know"
        case .damaged: "cut or changed, or written for another key"
        case .tooLarge: "larger than maximumSharedValue"
        }
    }
}
