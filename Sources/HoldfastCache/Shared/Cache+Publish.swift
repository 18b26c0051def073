// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import Synchronization

extension Cache {
    /// An entry of the tier on its way into memory.
    struct Publication: Sendable {
        let content: Content<Value>
        let version: UInt64
        let lifetime: Lifetime
        let tags: Set<String>
        var entityTag: String?
        /// What was invalidated before it was read or written.
        let stamp: UInt64
        /// Whether it was read there or written by this process.
        let origin: ValueOrigin
    }

    /// Puts what the tier has into memory, unless something newer is known.
    ///
    /// - Parameters:
    ///   - publication: The entry.
    ///   - key: Its key.
    ///   - watch: What others said of the key since before it was read or written.
    ///   - supersedes: Whether what is being loaded is older.
    func publish(_ publication: Publication, for key: Key, _ watch: KeyWatch, supersedes: Bool) {
        let hash = Self.hash(key)
        let tags = self.generations.tags(publication.tags)
        let weight = self.weight(key, publication.content)
        let text = self.link?.text(key)
        let now = self.service.clock.now
        let hasSides = self.link?.tier.hasSides ?? false
        self.change(hash) { shard, removed in
            if supersedes { shard.supersede(key, removed: &removed) }
            if let (_, record) = shard.peek(key, hash) {
                guard self.link?.areComparable(record.version, publication.version) ?? true else {
                    // Of another tier, and nobody can say which is newer.
                    return shard.remove(key, hash, .elsewhere, at: now, removed: &removed)
                }
                if record.version == publication.version, watch.admits(publication.version, hasSides: hasSides) {
                    // The same; whatever was doubted of it is not any more.
                    shard.restamp(key, hash, version: record.version, stamp: publication.stamp)
                }
                if record.version >= publication.version { return }
            }
            guard watch.admits(publication.version, hasSides: hasSides), publication.lifetime.keptUntil > now,
                self.generations.admits(publication.stamp, keyText: text, tags: tags)
            else { return }
            let terms = MemoryBooks.Terms(
                weight: weight,
                version: publication.version,
                lifetime: publication.lifetime,
                tags: tags,
                entityTag: publication.entityTag,
                origin: publication.origin
            )
            let (content, stamp) = (publication.content, publication.stamp)
            shard.store(key, hash, content, stamp: stamp, on: terms, now: now, removed: &removed)
        }
    }
}
