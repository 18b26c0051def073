// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import Synchronization

/// The GUIDs of a store's nodes: 64 random bits of the store and a number that goes on.
///
/// A GUID only has to be another than all others: it is in the node's name, for all to read, and proves nothing. The
/// system is asked for random bits once for each store, and not twice for each lock.
final class GUIDSource: Sendable {
    private let origin: UInt64
    private let serial = Atomic<UInt32>(0)

    init() {
        var generator = SystemRandomNumberGenerator()
        self.origin = generator.next()
    }

    /// Another GUID; begins with the request's reference.
    func next(_ layout: ZooKeeperConfiguration.Layout, for id: RequestID) -> String {
        let serial = self.serial.wrappingAdd(1, ordering: .relaxed).newValue
        return LockName.guid(layout, for: id, random: self.origin, UInt64(serial) << 32)
    }
}
