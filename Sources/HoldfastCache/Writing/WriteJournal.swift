// SPDX-License-Identifier: Apache-2.0

/// Where changes that are not yet written outlive the process.
///
/// It belongs to one cache of one process at a time.
public protocol WriteJournal: Sendable {
    /// Opens the journal and reads what an earlier run left, before anything else is asked of it.
    ///
    /// - Returns: What is not settled.
    /// - Throws: ``CacheError`` with code ``CacheError/Code/storage`` when somebody else uses it, or it cannot be read; what
    ///   is in it stays as it is.
    func open() async throws -> JournalContents

    /// Adds records.
    ///
    /// - Parameter records: The records; all or none of them are there afterwards, unless the process dies meanwhile.
    /// - Throws: ``CacheError`` with code ``CacheError/Code/storage``; none of them counts then.
    func append(_ records: [JournalRecord]) async throws

    /// Lets go of the journal; what is in it stays.
    func close() async

    /// Tells of what goes wrong beside these calls, so that the journal works but takes more and more room.
    ///
    /// - Parameter listener: Called on any thread; returns soon.
    func watch(_ listener: @escaping @Sendable (CacheError) -> Void)
}

extension WriteJournal {
    /// Has nothing to tell.
    public func watch(_ listener: @escaping @Sendable (CacheError) -> Void) {}
}

/// A line of a journal.
public struct JournalRecord: Sendable, Hashable {
    /// What it says.
    public enum Kind: UInt8, Sendable, Hashable, CaseIterable {
        /// The key gets a value.
        case set = 1
        /// The key is removed.
        case remove
        /// The change with this version is written, or nobody wants it any more.
        case settled
        /// The change with this version is a dead letter.
        case parked
    }

    /// What it says.
    public let kind: Kind
    /// The version of the change, one of its own among all of the journal.
    public let version: UInt64
    /// The key's text; empty unless the record is a change.
    public let key: String
    /// The value's bytes; empty unless the key gets one.
    public let payload: [UInt8]

    /// Describes a record.
    public init(_ kind: Kind, version: UInt64, key: String = "", payload: [UInt8] = []) {
        self.kind = kind
        self.version = version
        self.key = key
        self.payload = payload
    }
}

/// What a journal has when it is opened.
public struct JournalContents: Sendable, Hashable {
    /// The last change of each key that is not settled, by version.
    public var changes: [JournalRecord]
    /// The versions of those that are dead letters.
    public var parked: Set<UInt64>
    /// The highest version that it ever had; 0 for none.
    public var highestVersion: UInt64
    /// How many bytes at its end were of a record that was never finished, and are gone.
    public var tornBytes: Int

    /// Describes contents.
    public init(
        changes: [JournalRecord] = [],
        parked: Set<UInt64> = [],
        highestVersion: UInt64 = 0,
        tornBytes: Int = 0
    ) {
        self.changes = changes
        self.parked = parked
        self.highestVersion = highestVersion
        self.tornBytes = tornBytes
    }
}

/// What ties a cache to its journal.
struct JournalLink<Key: Hashable & Sendable, Value: Sendable>: Sendable {
    let journal: any WriteJournal
    let codec: any CacheCodec<Value>
    /// What a key is called.
    let text: @Sendable (Key) -> String
    /// Which key is called so.
    let key: @Sendable (String) -> Key?

    /// The record of a change.
    ///
    /// - Throws: ``CacheError`` with code ``CacheError/Code/invalidArgument`` when key or value are too long, or what the
    ///   codec throws.
    func record(_ action: CacheAction<Value>, for key: Key, version: UInt64) throws -> JournalRecord {
        let text = self.text(key)
        guard text.utf8.count <= CacheLimits.maximumKey else {
            throw CacheError(.invalidArgument, "a key in a journal has at most \(CacheLimits.maximumKey) bytes")
        }
        guard case .set(let value) = action else { return JournalRecord(.remove, version: version, key: text) }
        let payload = [self.codec.id] + (try self.codec.encode(value))
        guard payload.count <= CacheLimits.largestValue else {
            throw CacheError(.invalidArgument, "a value in a journal has at most \(CacheLimits.largestValue) bytes")
        }
        return JournalRecord(.set, version: version, key: text, payload: payload)
    }

    /// The change of a record; `nil` when this program cannot read it.
    func change(_ record: JournalRecord) -> (key: Key, action: CacheAction<Value>)? {
        guard let key = self.key(record.key) else { return nil }
        guard record.kind == .set else { return (key, .remove) }
        guard record.payload.first == self.codec.id,
            let value = try? self.codec.decode(record.payload.dropFirst())
        else { return nil }
        return (key, .set(value))
    }
}
