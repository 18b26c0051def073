// SPDX-License-Identifier: Apache-2.0

/// Where cache entries are shared between processes: bytes, versions, and what was invalidated when.
///
/// A tier knows nothing of types, times to live in memory or loaders; `Cache` does. It promises three things:
///
/// - **Versions** of one key only grow, also over removals, for as long as anybody may still write what it loaded before
///   one: a removal leaves a tombstone with a version.
/// - **A conditional write** is one step: it takes effect only while the key's version is what the writer has seen, or
///   one that a holder of the lock before him made of it.
/// - **Marks** of a namespace grow with each invalidation of a tag, of a prefix or of everything. What was loaded under
///   an older mark than that of one of its tags is not valid, whoever wrote it and whenever it arrives.
///
/// It does not promise to keep anything: an entry may be gone at any time.
public protocol CacheTier: Sendable {
    /// What people call it, for statistics and messages: `redis`.
    var name: String { get }

    /// How often it began to speak for another tier than before, whose versions and marks cannot be compared with those of
    /// the last; 0 for a tier that never does.
    ///
    /// A tier that passes calls on to another one must pass this on too.
    var switches: UInt64 { get }

    /// How long a call takes at most before it fails for want of the tier; `nil` when that is not known.
    ///
    /// A load waits no longer for the answer of a lock service either. A tier that passes calls on to another one should pass
    /// this on too.
    var timeout: Duration? { get }

    /// Does the tier's own work until its task is cancelled; returns at once when there is none.
    ///
    /// - Throws: ``CacheError`` when the tier cannot work at all.
    func run() async throws

    /// Reads entries of one namespace, and its marks.
    ///
    /// One round trip for all keys (on a cluster: one to each node, at once).
    ///
    /// - Parameters:
    ///   - keys: The keys, at most ``CacheLimits/maximumBatch``.
    ///   - namespace: Theirs.
    /// - Returns: An entry for each key in their order, and the marks as they were not later than the entries.
    /// - Throws: ``CacheError`` with code ``CacheError/Code/tierUnavailable``.
    func read(_ keys: [String], in namespace: String) async throws -> TierReading

    /// Writes entries of one namespace.
    ///
    /// One round trip for all. Each is written or refused by itself, in no order: the keys of one call differ.
    ///
    /// - Parameters:
    ///   - writes: What to write, at most ``CacheLimits/maximumBatch``.
    ///   - namespace: Where.
    /// - Returns: What became of each, in their order.
    /// - Throws: ``CacheError``; any of them may then have been written.
    func write(_ writes: [TierWrite], in namespace: String) async throws -> [TierWriteReply]

    /// Removes entries and leaves a tombstone in the place of each.
    ///
    /// A tombstone refuses those who loaded before it for as long as it stays, also when an entry that was written over it
    /// ends sooner, and when another removal asks for less.
    ///
    /// - Parameters:
    ///   - keys: The keys, at most ``CacheLimits/maximumBatch``.
    ///   - namespace: Theirs.
    ///   - keepFor: How long the tombstones stay: longer than any load may take.
    /// - Returns: The versions of the tombstones, in order.
    /// - Throws: ``CacheError``; any of them may then have been removed.
    func remove(_ keys: [String], in namespace: String, keepFor: Duration) async throws -> [UInt64]

    /// Marks what is invalid from now on.
    ///
    /// - Parameters:
    ///   - scope: What.
    ///   - namespace: Where.
    ///   - keepFor: How long the mark stays: longer than any entry may live.
    /// - Returns: The new mark, higher than all that the namespace had.
    /// - Throws: ``CacheError``; the mark may then have been set.
    func invalidate(_ scope: InvalidationScope, in namespace: String, keepFor: Duration) async throws -> UInt64

    /// Reads the marks of tags.
    ///
    /// - Parameters:
    ///   - tags: Which, at most ``CacheLimits/maximumBatch``.
    ///   - namespace: Where.
    /// - Returns: The mark of each in their order; 0 for a tag that was never invalidated.
    /// - Throws: ``CacheError``.
    func marks(of tags: [String], in namespace: String) async throws -> [UInt64]

    /// Lists keys, for operators.
    ///
    /// - Parameters:
    ///   - namespace: Where.
    ///   - prefix: How they start.
    ///   - cursor: `nil` at first, then what the last page said.
    /// - Returns: A page; what changes meanwhile may be missing or come twice.
    /// - Throws: ``CacheError``.
    func keys(in namespace: String, prefix: String, after cursor: String?) async throws -> TierKeyPage
}

extension CacheTier {
    /// It never switches.
    public var switches: UInt64 { 0 }

    /// Not known.
    public var timeout: Duration? { nil }

    /// Asks for things that belong together, and again when the tier switched meanwhile: a mark of one tier says nothing
    /// about an entry of another.
    ///
    /// - Parameter look: Asks.
    /// - Returns: What it gave without a switch.
    /// - Throws: What it throws, or ``CacheError`` with code ``CacheError/Code/tierUnavailable`` when the tier switched each
    ///   time.
    func steadily<Answer>(_ look: () async throws -> Answer) async throws -> Answer {
        for _ in 0..<CacheLimits.mostLooks {
            let before = self.switches
            let answer = try await look()
            if self.switches == before { return answer }
        }
        throw CacheError(.tierUnavailable, "the \(self.name) tier switched to another one during each look")
    }
}

/// What an invalidation is about, within a namespace.
public enum InvalidationScope: Sendable, Hashable {
    /// All entries that carry this tag.
    case tag(String)
    /// All entries whose key starts so.
    case prefix(String)
    /// All entries.
    case all
}

/// What a tier has for one key.
public struct TierEntry: Sendable, Hashable {
    /// The envelope as it was written; `nil` when there is none, or a tombstone.
    public var payload: [UInt8]?
    /// The version of the entry or the tombstone; 0 when there is neither.
    public var version: UInt64
    /// How long ago it was written, by the tier's clock; zero when there is nothing.
    public var age: Duration

    /// Nothing there.
    public static let absent = TierEntry(payload: nil, version: 0)

    /// Describes an entry.
    public init(payload: [UInt8]?, version: UInt64, age: Duration = .zero) {
        self.payload = payload
        self.version = version
        self.age = age
    }
}

/// The marks of a namespace that concern all its entries.
public struct TierMarks: Sendable, Hashable {
    /// The highest mark that was given out; 0, or 1 in the secondary of a ``FallbackTier``, when there is none.
    ///
    /// What is loaded from now on is valid against all up to it.
    public var current: UInt64
    /// The mark of the last invalidation of everything.
    public var all: UInt64
    /// The marks of prefixes.
    public var prefixes: [String: UInt64]

    /// The mark of what a tier cannot read: everything is older, so that nothing that was invalid is valid again.
    package static let unreadable = UInt64.max

    /// Describes marks.
    public init(current: UInt64 = 0, all: UInt64 = 0, prefixes: [String: UInt64] = [:]) {
        self.current = current
        self.all = all
        self.prefixes = prefixes
    }

    /// Whether an entry that was loaded under a mark is still valid, its tags aside.
    public func admits(_ key: String, since mark: UInt64) -> Bool {
        mark >= self.all && self.prefixes.allSatisfy { mark >= $0.value || !key.utf8.starts(with: $0.key.utf8) }
    }
}

/// What a read of a tier gives.
public struct TierReading: Sendable {
    /// An entry for each key, in order.
    public var entries: [TierEntry]
    /// The marks of the namespace.
    public var marks: TierMarks

    /// Describes a reading.
    public init(entries: [TierEntry], marks: TierMarks) {
        self.entries = entries
        self.marks = marks
    }
}

/// A write to a tier.
public struct TierWrite: Sendable, Hashable {
    /// When a write takes effect.
    public enum Condition: Sendable, Hashable {
        /// Always, whatever is there.
        case always
        /// While the version is this one (0: nothing was there) or nothing is there any more, and no entry with a higher
        /// fencing token.
        ///
        /// Also when what is there now was written since with a lower token above 0, on the condition of this version or
        /// an older one: by somebody who had lost the lock and was a little faster. What was written over a removal or a
        /// `set` that the writer has not seen never gives way.
        case version(UInt64)
    }

    /// The key.
    public var key: String
    /// The envelope.
    public var payload: [UInt8]
    /// How long the tier keeps it, 1 ms or more.
    public var timeToLive: Duration
    /// When it takes effect.
    public var condition: Condition
    /// The token of the lock under which it was loaded; 0 without one.
    public var token: UInt64

    /// Describes a write.
    public init(key: String, payload: [UInt8], timeToLive: Duration, condition: Condition = .always, token: UInt64 = 0)
    {
        self.key = key
        self.payload = payload
        self.timeToLive = timeToLive
        self.condition = condition
        self.token = token
    }
}

/// What became of a write.
public enum TierWriteReply: Sendable, Hashable {
    /// It is there, with this version.
    case written(version: UInt64)
    /// Something newer was there, with this version; nothing was written.
    case refused(version: UInt64)
}

/// Some keys of a namespace.
public struct TierKeyPage: Sendable, Hashable {
    /// The keys, without prefix and namespace.
    public var keys: [String]
    /// Where to go on, or `nil` when that was all.
    public var next: String?

    /// Describes a page.
    public init(keys: [String], next: String?) {
        self.keys = keys
        self.next = next
    }
}
