// SPDX-License-Identifier: Apache-2.0

import Holdfast
import Synchronization

/// One at a time for each key, in the order of coming.
final class KeyTurns<Key: Hashable & Sendable>: Sendable {
    /// Who waits for each key that somebody has.
    private let waiting = Mutex<[Key: [WakeSlot]]>([:])

    init() {}

    /// Does some work when it is the caller's turn.
    ///
    /// - Parameters:
    ///   - key: For which key.
    ///   - work: The work.
    /// - Returns: What the work returns.
    /// - Throws: What the work throws, or `CancellationError` while waiting, and the work is not done.
    func take<Result>(_ key: Key, _ work: () async throws -> Result) async throws -> Result {
        try await self.begin(key)
        defer { self.end(key) }
        return try await work()
    }

    private func begin(_ key: Key) async throws {
        let slot = self.waiting.withLock { waiting -> WakeSlot? in
            guard waiting[key] != nil else {
                waiting[key] = []
                return nil
            }
            let slot = WakeSlot()
            waiting[key]?.append(slot)
            return slot
        }
        guard let slot, await !slot.wait().contains(.admitted) else { return }
        // Cancelled; it may have become our turn in the same moment, and then it is another's.
        let isOurs = self.waiting.withLock { waiting in
            let place = waiting[key]?.firstIndex { $0 === slot }
            if let place { waiting[key]?.remove(at: place) }
            return place == nil
        }
        if isOurs { self.end(key) }
        throw CancellationError()
    }

    private func end(_ key: Key) {
        let next = self.waiting.withLock { waiting -> WakeSlot? in
            guard let others = waiting[key], !others.isEmpty else {
                waiting[key] = nil
                return nil
            }
            return waiting[key]?.removeFirst()
        }
        next?.wake(.admitted)
    }
}
