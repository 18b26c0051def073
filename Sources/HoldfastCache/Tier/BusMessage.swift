// SPDX-License-Identifier: Apache-2.0

/// What a process tells the others: which keys changed and what was invalidated, never values.
///
/// ```
/// "HFB" 1 | origin 8 | sequence 8 | namespace: length 1, bytes | changes: each kind 1, number 8, text: length 2, bytes
/// ```
///
/// Kinds: 1 a key was changed by a writer, 2 a key was loaded anew, 3 a tag, 4 a prefix, 5 everything was invalidated, 6 a
/// key was made stale. The number is the version of the key or the mark of the invalidation. Unknown kinds are of newer versions of this library;
/// whoever does not know one doubts its memory.
package struct BusMessage: Sendable, Hashable {
    /// One of the things that a message tells.
    package enum Change: Sendable, Hashable {
        /// A writer changed or removed a key: older values must not be given any more.
        case changed(key: String, version: UInt64)
        /// A load stored a newer value: an older one is merely stale.
        case refreshed(key: String, version: UInt64)
        /// A key was made stale: older values are stale too, and what is being loaded is not stored.
        case expired(key: String, version: UInt64)
        /// Something was invalidated.
        case invalidated(InvalidationScope, mark: UInt64)
        /// Something that this version does not know.
        case unknown
    }

    /// Who tells: a number of its own for each start of a process.
    package var origin: UInt64
    /// Which of its messages this is, from 1.
    package var sequence: UInt64
    /// Which cache it is about.
    package var namespace: String
    /// What it tells.
    package var changes: [Change]

    private static let magic: [UInt8] = [0x48, 0x46, 0x42, 1]

    /// Makes a message.
    package init(origin: UInt64, sequence: UInt64, namespace: String, changes: [Change]) {
        self.origin = origin
        self.sequence = sequence
        self.namespace = namespace
        self.changes = changes
    }

    /// The bytes.
    package var encoded: [UInt8] {
        var bytes = Self.magic
        bytes.append(self.origin, width: 8)
        bytes.append(self.sequence, width: 8)
        bytes.append(UInt64(self.namespace.utf8.count), width: 1)
        bytes += self.namespace.utf8
        for change in self.changes {
            guard let (kind, number, text) = change.parts else { continue }
            bytes.append(kind)
            bytes.append(number, width: 8)
            bytes.append(UInt64(text.utf8.count), width: 2)
            bytes += text.utf8
        }
        return bytes
    }

    /// Reads bytes; `nil` when they are not a message.
    package init?(_ bytes: [UInt8]) {
        guard bytes.starts(with: Self.magic), bytes.count <= CacheLimits.maximumMessage else { return nil }
        var reader = ByteReader(bytes.dropFirst(Self.magic.count))
        guard let origin = reader.number(8), let sequence = reader.number(8), let length = reader.number(1),
            let namespace = reader.text(Int(length))
        else { return nil }
        var changes: [Change] = []
        while !reader.isAtEnd {
            guard let kind = reader.number(1), let number = reader.number(8), let length = reader.number(2),
                let text = reader.text(Int(length))
            else { return nil }
            changes.append(Change(kind: UInt8(kind), number: number, text: text))
        }
        self.init(origin: origin, sequence: sequence, namespace: namespace, changes: changes)
    }
}

extension BusMessage.Change {
    /// How many bytes it takes in a message.
    var encodedSize: Int { self.parts.map { 11 + $0.text.utf8.count } ?? 0 }

    /// What it is in a message; `nil` of what is unknown.
    var parts: (kind: UInt8, number: UInt64, text: String)? {
        switch self {
        case .changed(let key, let version): (1, version, key)
        case .refreshed(let key, let version): (2, version, key)
        case .expired(let key, let version): (6, version, key)
        case .invalidated(.tag(let tag), let mark): (3, mark, tag)
        case .invalidated(.prefix(let prefix), let mark): (4, mark, prefix)
        case .invalidated(.all, let mark): (5, mark, "")
        case .unknown: nil
        }
    }

    fileprivate init(kind: UInt8, number: UInt64, text: String) {
        switch kind {
        case 1: self = .changed(key: text, version: number)
        case 2: self = .refreshed(key: text, version: number)
        case 3: self = .invalidated(.tag(text), mark: number)
        case 4: self = .invalidated(.prefix(text), mark: number)
        case 5: self = .invalidated(.all, mark: number)
        case 6: self = .expired(key: text, version: number)
        default: self = .unknown
        }
    }
}

/// Which messages came from whom, so that a missing one is noticed: a pure value.
package struct BusLedger: Sendable {
    /// What a message's number says.
    package enum Verdict: Sendable, Hashable {
        /// It is the next one.
        case next
        /// It came before.
        case repeated
        /// Others should have come before it.
        case gap
    }

    /// How many senders are remembered; one that was forgotten counts as new.
    private static let most = 4096

    private var last: [UInt64: UInt64] = [:]
    private var order: [UInt64] = []

    /// Nobody has said anything yet.
    package init() {}

    /// Takes note of a message.
    ///
    /// Of an unknown sender, the first message must be its first: what it told before may concern what is in memory.
    package mutating func take(origin: UInt64, sequence: UInt64) -> Verdict {
        let before = self.last[origin]
        if before == nil {
            if self.order.count >= Self.most { self.last[self.order.removeFirst()] = nil }
            self.order.append(origin)
        }
        guard sequence > before ?? 0 else { return .repeated }
        self.last[origin] = sequence
        return sequence == (before ?? 0) + 1 ? .next : .gap
    }
}
