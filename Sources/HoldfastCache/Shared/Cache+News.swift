// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import Synchronization

// What other processes say.
extension Cache {
    /// Doubts all that is in memory, since news may be missing.
    func suspect() {
        guard let link = self.link else { return }
        self.generations.suspectAll()
        link.watches.wakeAll()
    }

    /// Takes all that the tier has for newer than what is in memory.
    func forgetVersions() {
        guard self.link != nil else { return }
        self.changeAll { shard, _ in shard.forgetVersions() }
    }

    /// Takes note of what changed elsewhere.
    func receive(_ changes: [BusMessage.Change]) {
        guard let link = self.link else { return }
        for change in changes { self.receive(change, link) }
    }

    private func receive(_ change: BusMessage.Change, _ link: SharedLink<Key, Value>) {
        switch change {
        case .changed(let text, let version):
            // In this order: whoever is about to store something older either hears of it or has it dropped.
            link.changed(text, version)
            if let key = link.key(text) { self.drop(key, olderThan: version) }
        case .expired(let text, let version):
            link.changed(text, version)
            if let key = link.key(text) { self.age(key, olderThan: version, supersedes: true) }
        case .refreshed(let text, let version):
            if let key = link.key(text) { self.age(key, olderThan: version, supersedes: false) }
            link.watches.tell(text, version: version, isChange: false)
        case .invalidated(.tag(let tag), _): self.invalidate(tag: tag)
        case .invalidated(.prefix(let prefix), _): self.invalidate(prefix: prefix, link.text)
        case .invalidated(.all, _): self.invalidateAll()
        case .unknown: break
        }
    }

    /// Whether what is in memory is known to be as new as what the others have.
    private func isAsNew(_ present: UInt64, as version: UInt64) -> Bool {
        present >= version && self.link?.areComparable(present, version) ?? true
    }

    /// Somebody changed a key: what is older is not given any more, and what is being loaded is not stored.
    private func drop(_ key: Key, olderThan version: UInt64) {
        let hash = Self.hash(key)
        let now = self.service.clock.now
        self.change(hash) { shard, removed in
            if let (_, record) = shard.peek(key, hash), self.isAsNew(record.version, as: version) { return }
            // A load that began after the change is not stored either: that costs one more look into the tier.
            shard.supersede(key, removed: &removed)
            shard.remove(key, hash, .elsewhere, at: now, removed: &removed)
        }
    }

    /// Somebody loaded a key anew, or made it stale: what is older is not fresh any more.
    ///
    /// - Parameters:
    ///   - key: The key.
    ///   - version: Its version now.
    ///   - supersedes: Whether what is being loaded is older too.
    private func age(_ key: Key, olderThan version: UInt64, supersedes: Bool) {
        let hash = Self.hash(key)
        let now = self.service.clock.now
        self.change(hash) { shard, removed in
            let present = shard.peek(key, hash)?.1
            if let present, self.isAsNew(present.version, as: version) { return }
            if supersedes { shard.supersede(key, removed: &removed) }
            guard present != nil else { return }
            shard.extend(key, hash) { $0.lifetime.expire(at: now, from: $0.storedAt) }
        }
    }
}
