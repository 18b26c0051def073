// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import Synchronization

/// What ties a cache to the source that is written through it.
final class SourceLink<Key: Hashable & Sendable, Value: Sendable>: Sendable {
    let writer: any CacheWriter<Key, Value>
    /// One change of a key at a time, so that cache and source agree on the last.
    let turns = KeyTurns<Key>()
    /// `nil` when the source is written first.
    let behind: WriteBehind<Key, Value>?
    private let lastVersion: Mutex<UInt64>

    init(_ writing: CacheWriting<Key, Value>, _ name: String, service: CacheService) {
        self.writer = writing.writer
        self.lastVersion = Mutex(writing.firstVersion - 1)
        switch writing.mode {
        case .through: self.behind = nil
        case .behind(let options, let link):
            self.behind = WriteBehind(name, writing, options, link, service: service)
        }
    }

    /// The version of a change that is written through.
    ///
    /// - Parameter token: The fencing token of the lock that the key is written under; `nil` without one.
    /// - Returns: The version.
    func nextVersion(_ token: FencingToken?) -> UInt64 {
        self.lastVersion.withLock { last in
            // Without a lock it goes on above the highest token that was seen.
            guard let token else {
                last += 1
                return last
            }
            last = max(last, token.rawValue)
            return token.rawValue
        }
    }
}

// What a cache does with its source besides reading and writing it.
extension Cache {
    func beginDrain() { self.source?.behind?.beginDrain() }

    func drained(by time: Int64) async { await self.source?.behind?.drained(by: time) }

    /// Counts what was written to the source.
    func countWrites(_ statistics: inout CacheStatistics) {
        let through = self.counts.withLock { ($0.writes, $0.writeFailures) }
        (statistics.writes, statistics.writeFailures) = through
        guard let behind = self.source?.behind else { return }
        let (counts, pending, dead) = behind.state.withLock {
            ($0.queue.counts, $0.queue.count + $0.reserved, $0.queue.letters.count)
        }
        statistics.writes &+= counts.written
        statistics.writeFailures &+= counts.failures
        statistics.writeRetries = counts.retries
        statistics.coalescedWrites = counts.coalesced
        statistics.parkedWrites = counts.parked
        statistics.pendingWrites = pending
        statistics.deadLetters = dead
    }
}
