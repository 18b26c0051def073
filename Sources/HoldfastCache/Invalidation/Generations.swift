// SPDX-License-Identifier: Apache-2.0

public import Synchronization

/// What was invalidated in a cache, and when, in numbers that only count invalidations: no clock decides what is older.
///
/// A load takes a stamp before it begins. What is stored carries the stamp, and is valid while nothing that concerns it
/// was invalidated with a higher one. Tags are looked at when an entry is read; a prefix and everything are removed from
/// memory at once, so their marks are there for the loads that are under way.
@usableFromInline
final class Generations: Sendable {
    private struct State {
        var tags: [String: TagRecord] = [:]
        /// Marks of prefixes; few, see ``CacheLimits/maximumPrefixes``.
        var prefixes: [(prefix: String, mark: UInt64)] = []
        var all: UInt64 = 0
        /// The highest mark of those that were forgotten to keep the tables small: whoever is older than it is not stored.
        var forgotten: UInt64 = 0
        /// Above how many tags to look for some that nobody uses.
        var tagLimit = 1024
    }

    /// The number of the last invalidation.
    @usableFromInline
    let last = Atomic<UInt64>(1)
    /// Entries that were checked before this must be checked again against the shared tier.
    @usableFromInline
    let suspicion = Atomic<UInt64>(0)
    private let state = Mutex(State())

    /// Nothing was invalidated yet.
    init() {}

    /// The stamp of what begins now.
    @inlinable
    var stamp: UInt64 { self.last.load(ordering: .acquiring) }

    /// Entries with an older stamp may have missed an invalidation.
    @inlinable
    var suspectBelow: UInt64 { self.suspicion.load(ordering: .relaxed) }

    private func next() -> UInt64 { self.last.add(1, ordering: .acquiringAndReleasing).newValue }

    /// Invalidates what carries a tag.
    ///
    /// - Parameters:
    ///   - tag: The tag.
    ///   - now: The time, for explanations; it decides nothing.
    func invalidate(tag: String, at now: Int64) {
        self.state.withLock { state in
            let mark = self.next()
            let record = Self.record(tag, &state)
            record.time.store(now, ordering: .relaxed)
            record.mark.store(mark, ordering: .releasing)
        }
    }

    /// Has loads under way not store what starts so.
    ///
    /// - Returns: What is older than this is not valid any more.
    func invalidate(prefix: String) -> UInt64 {
        self.state.withLock { state in
            let mark = self.next()
            state.prefixes.removeAll { $0.prefix.utf8.elementsEqual(prefix.utf8) }
            state.prefixes.append((prefix, mark))
            if state.prefixes.count > CacheLimits.maximumPrefixes {
                state.forgotten = max(state.forgotten, state.prefixes.removeFirst().mark)
            }
            return mark
        }
    }

    /// Has loads under way store nothing.
    func invalidateAll() { self.state.withLock { $0.all = self.next() } }

    /// Doubts all that is stored, since invalidations may have been missed.
    func suspectAll() { self.suspicion.store(self.next(), ordering: .releasing) }

    /// Finds the records of tags.
    @usableFromInline
    func tags(_ names: Set<String>) -> TagSet? {
        guard !names.isEmpty else { return nil }
        let names = names.sorted()
        return self.state.withLock { state in
            let records = names.map { name in
                let record = Self.record(name, &state)
                // At once: room for the next one is made by forgetting those that nobody uses.
                record.users.add(1, ordering: .acquiringAndReleasing)
                return record
            }
            return TagSet(names: names, records: records)
        }
    }

    /// How many tags are remembered.
    var tagCount: Int { self.state.withLock { $0.tags.count } }

    /// Whether none of some tags was invalidated after a stamp, as far as that is remembered.
    func admits(_ stamp: UInt64, tags names: Set<String>) -> Bool {
        if names.isEmpty || self.stamp == stamp { return true }
        return self.state.withLock { state in
            names.allSatisfy { stamp >= state.tags[$0]?.mark.load(ordering: .acquiring) ?? state.forgotten }
        }
    }

    /// Whether what was begun under a stamp may be stored.
    ///
    /// - Parameters:
    ///   - stamp: The stamp of its beginning.
    ///   - keyText: The key as text, where it has one.
    ///   - tags: What is said of it.
    /// - Returns: Whether nothing that concerns it was invalidated since.
    func admits(_ stamp: UInt64, keyText: String?, tags: TagSet?) -> Bool {
        if let tags, !tags.admits(stamp) { return false }
        if self.stamp == stamp { return true }
        return self.state.withLock { state in
            guard stamp >= state.all, stamp >= state.forgotten else { return false }
            guard let keyText else { return true }
            return state.prefixes.allSatisfy { stamp >= $0.mark || !keyText.utf8.starts(with: $0.prefix.utf8) }
        }
    }

    private static func record(_ tag: String, _ state: inout State) -> TagRecord {
        if let record = state.tags[tag] { return record }
        if state.tags.count >= state.tagLimit {
            // Those that no entry carries matter to loads under way only.
            for (tag, record) in state.tags where record.users.load(ordering: .acquiring) == 0 {
                state.forgotten = max(state.forgotten, record.mark.load(ordering: .acquiring))
                state.tags[tag] = nil
            }
            state.tagLimit = max(1024, state.tags.count * 2)
        }
        // It may have been here before.
        let record = TagRecord(mark: state.forgotten)
        state.tags[tag] = record
        return record
    }
}

/// A tag of a cache: when it was last invalidated.
final class TagRecord: Sendable {
    /// The number of the last invalidation, or one that is not lower; 0 for none.
    let mark: Atomic<UInt64>
    /// When that was.
    let time = Atomic<Int64>(0)
    /// How many sets name it.
    let users = Atomic<Int>(0)

    init(mark: UInt64) { self.mark = Atomic(mark) }
}

/// The tags of an entry.
@usableFromInline
final class TagSet: Sendable {
    /// Their names, sorted.
    let names: [String]
    private let records: [TagRecord]

    /// Takes over the records, in each of which this set is counted as a user already.
    fileprivate init(names: [String], records: [TagRecord]) {
        self.names = names
        self.records = records
    }

    deinit { for record in self.records { record.users.subtract(1, ordering: .acquiringAndReleasing) } }

    /// Whether none was invalidated after a stamp.
    @usableFromInline
    func admits(_ stamp: UInt64) -> Bool { self.records.allSatisfy { stamp >= $0.mark.load(ordering: .acquiring) } }

    /// The first that was invalidated after a stamp, and when that was.
    func invalidated(after stamp: UInt64) -> (tag: String, time: Int64)? {
        for (name, record) in zip(self.names, self.records) where stamp < record.mark.load(ordering: .acquiring) {
            return (name, record.time.load(ordering: .relaxed))
        }
        return nil
    }
}

extension Cache {
    /// How many tags are remembered: those of entries and loads, and some that nobody uses.
    package var rememberedTags: Int { self.generations.tagCount }
}
