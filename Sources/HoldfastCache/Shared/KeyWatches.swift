// SPDX-License-Identifier: Apache-2.0

import Holdfast
import Synchronization

/// Who in this process wants to hear what others say of a key while something is under way for it.
final class KeyWatches: Sendable {
    private let watches = Mutex<[String: [ObjectIdentifier: KeyWatch]]>([:])

    /// Watches a key from now on.
    func begin(_ key: String) -> KeyWatch {
        let watch = KeyWatch()
        self.watches.withLock { $0[key, default: [:]][ObjectIdentifier(watch)] = watch }
        return watch
    }

    /// Ends a watch.
    func end(_ key: String, _ watch: KeyWatch) {
        self.watches.withLock { watches in
            watches[key]?[ObjectIdentifier(watch)] = nil
            if watches[key]?.isEmpty == true { watches[key] = nil }
        }
    }

    /// A key was changed, here or elsewhere, or somebody else loaded it anew.
    ///
    /// - Parameters:
    ///   - key: The key.
    ///   - version: Its version now.
    ///   - isChange: Whether older values must not be given any more.
    func tell(_ key: String, version: UInt64, isChange: Bool) {
        for watch in self.watches.withLock({ $0[key].map { Array($0.values) } ?? [] }) {
            watch.tell(version: version, isChange: isChange)
        }
    }

    /// Who reads the key now must not store what he finds: it may have changed, and nobody knows to which version.
    func doubt(_ key: String) { self.tell(key, version: .max, isChange: true) }

    /// Messages may have been lost: whoever waits for one should look himself.
    func wakeAll() {
        for watch in self.watches.withLock({ $0.values.flatMap(\.values) }) { watch.slot.wake(.signal) }
    }
}

/// One who watches a key.
final class KeyWatch: Sendable {
    /// Woken by what others say.
    let slot = WakeSlot()
    /// The highest versions that changes of the key gave it since the watch began, by the lowest bit; 0 when there were none.
    private let changed = Mutex<(even: UInt64, odd: UInt64)>((0, 0))

    /// Whether a version is as new as all changes since the watch began.
    ///
    /// - Parameters:
    ///   - version: The version.
    ///   - hasSides: Whether it cannot be compared with one of another lowest bit.
    /// - Returns: Whether it is.
    func admits(_ version: UInt64, hasSides: Bool) -> Bool {
        let newest = self.changed.withLock { $0 }
        guard max(newest.even, newest.odd) <= version else { return false }
        return !hasSides || [newest.even, newest.odd].allSatisfy { TierSide.areComparable($0, version) }
    }

    fileprivate func tell(version: UInt64, isChange: Bool) {
        if isChange {
            self.changed.withLock { newest in
                if version & 1 == 0 {
                    newest.even = max(newest.even, version)
                } else {
                    newest.odd = max(newest.odd, version)
                }
            }
        }
        self.slot.wake(.signal)
    }
}
