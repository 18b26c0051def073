// SPDX-License-Identifier: Apache-2.0

/// What came out of a part of the memory: told of, and let go of, when its lock is free again.
///
/// A value's or a key's end may run code of the user's, which may use the cache. Mostly one entry makes place for another,
/// and then this costs no memory.
@usableFromInline
struct Removals<Key: Hashable & Sendable, Value: Sendable>: Sendable {
    @usableFromInline
    struct Removal: Sendable {
        let entry: MemoryEntry<Key, Value>
        let cause: RemovalCause

        @usableFromInline
        init(_ entry: consuming MemoryEntry<Key, Value>, _ cause: RemovalCause) {
            self.entry = entry
            self.cause = cause
        }
    }

    @usableFromInline
    var first: Removal?
    @usableFromInline
    var others: [Removal] = []

    /// Keys that are not remembered any more, and the errors of their loads: also of the user's types.
    @usableFromInline
    var failures: [(key: Key, error: any Error)] = []

    @inlinable
    init() {}

    /// Notes that an entry came out, if there was one.
    @inlinable
    mutating func append(_ entry: consuming MemoryEntry<Key, Value>?, _ cause: RemovalCause) {
        guard let entry else { return }
        if self.first == nil { self.first = Removal(entry, cause) } else { self.others.append(Removal(entry, cause)) }
    }

    /// Tells of each value, in the order in which they came out.
    @usableFromInline
    func announce(to onRemoval: (Key, Value, RemovalCause) -> Void) {
        if let first = self.first { Self.announce(first, to: onRemoval) }
        for removal in self.others { Self.announce(removal, to: onRemoval) }
    }

    private static func announce(_ removal: Removal, to onRemoval: (Key, Value, RemovalCause) -> Void) {
        if case .value(let value) = removal.entry.content { onRemoval(removal.entry.key, value, removal.cause) }
    }
}
