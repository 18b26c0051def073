// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// The last loads of one part of the memory that brought what was stored, for whoever asks who led them: a pure value.
///
/// A ring of the last ``capacity`` loads, by half of the hashes of their keys, as in ``KeyHistory``. Written where a load
/// lands, never where something is read.
struct LoadHistory: Sendable {
    /// One load.
    struct Record: Sendable {
        let fingerprint: UInt32
        /// When it ended, in nanoseconds on the cache's clock.
        let time: Int64
        /// How long it took, in nanoseconds.
        let duration: Int64
        /// Who led it.
        let leader: Leader
    }

    /// Who led a load.
    enum Leader: Sendable {
        /// This process: its loader was called, under a lock if there was one.
        case own(OwnerID?, FencingToken?)
        /// Somebody who wrote to the tier, where this process took it.
        case tier
    }

    /// How many loads a part remembers: 5 KiB at most.
    static var capacity: Int { 64 }

    private var records: ContiguousArray<Record> = []
    /// Where the next one goes once the ring is full.
    private var next = 0

    /// Remembers a load in the place of the oldest.
    mutating func note(_ hash: UInt64, _ leader: Leader, at time: Int64, duration: Int64) {
        let fingerprint = MemoryIndex.fingerprint(hash)
        let record = Record(fingerprint: fingerprint, time: time, duration: duration, leader: leader)
        if self.records.count < Self.capacity {
            self.records.append(record)
        } else {
            self.records[self.next] = record
        }
        self.next = self.next + 1 == Self.capacity ? 0 : self.next + 1
    }

    /// The last load of a key, if it is remembered.
    func last(of hash: UInt64) -> Record? {
        let fingerprint = MemoryIndex.fingerprint(hash)
        return self.records.filter { $0.fingerprint == fingerprint }.max { $0.time < $1.time }
    }
}
