// SPDX-License-Identifier: Apache-2.0

/// What became of the keys of one part of the memory lately, for whoever asks why one is not there: a pure value.
///
/// A ring of the last ``capacity`` incidents. Keys are known by half of their hashes, 32 bits seeded in each process, so one
/// question in thirty million gets an answer about another key. Writing to it costs a few nanoseconds and allocates once; reading it looks at all of it.
@usableFromInline
struct KeyHistory: Sendable {
    /// What became of a key.
    @usableFromInline
    enum Cause: UInt8, Sendable {
        case expired, evicted, removed, elsewhere, tag, prefix, all, failed, abandoned, superseded, unwanted

        /// What listeners are told of it.
        @usableFromInline
        var removal: RemovalCause {
            switch self {
            case .expired: .expired
            case .evicted: .evicted
            default: .invalidated
            }
        }
    }

    /// One incident.
    struct Record: Sendable, Hashable {
        let fingerprint: UInt32
        /// When, in nanoseconds on the cache's clock.
        let time: Int64
        let cause: Cause
    }

    /// How many incidents a part remembers: 3 KiB, and seconds to hours of it, as the part is busy.
    static var capacity: Int { 128 }

    private var records: ContiguousArray<Record> = []
    /// Where the next one goes once the ring is full.
    private var next = 0
    /// What was said of some of them: a tag, a prefix, an error's type.
    private var details: [Int: String] = [:]

    /// Nothing happened yet.
    @usableFromInline
    init() {}

    /// Whether nothing was forgotten yet.
    private(set) var isComplete = true

    /// Remembers an incident in the place of the oldest.
    mutating func note(_ hash: UInt64, _ cause: Cause, at time: Int64, detail: String? = nil) {
        self.note(fingerprint: MemoryIndex.fingerprint(hash), cause, at: time, detail: detail)
    }

    /// The same, by the half of the hash that the memory keeps.
    mutating func note(fingerprint: UInt32, _ cause: Cause, at time: Int64, detail: String?) {
        let record = Record(fingerprint: fingerprint, time: time, cause: cause)
        let place = self.next
        if self.records.count < Self.capacity {
            if self.records.isEmpty { self.records.reserveCapacity(Self.capacity) }
            self.records.append(record)
        } else {
            self.records[place] = record
            self.isComplete = false
        }
        self.next = place + 1 == Self.capacity ? 0 : place + 1
        if detail != nil || !self.details.isEmpty { self.details[place] = detail }
    }

    /// What is remembered of a key, the latest first.
    func incidents(of hash: UInt64) -> [(record: Record, detail: String?)] {
        let fingerprint = MemoryIndex.fingerprint(hash)
        // From the place before the next one backwards, around the ring.
        return (0..<self.records.count).compactMap { steps in
            let place = (self.next - 1 - steps + 2 * Self.capacity) % Self.capacity
            return self.records[place].fingerprint == fingerprint ? (self.records[place], self.details[place]) : nil
        }
    }
}
