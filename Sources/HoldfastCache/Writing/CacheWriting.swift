// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// How a cache writes to its source.
public struct CacheWriting<Key: Hashable & Sendable, Value: Sendable>: Sendable {
    /// When the source is written.
    enum Mode: Sendable {
        case through
        case behind(WriteBehindOptions, JournalLink<Key, Value>?)
    }

    let writer: any CacheWriter<Key, Value>
    let mode: Mode
    let firstVersion: UInt64

    /// Writes to the source first, and then to the cache, while the caller waits.
    ///
    /// - Parameters:
    ///   - writer: Writes to the source; gets one change at a time.
    ///   - firstVersion: Where versions begin: for a source that remembers them, above all it has. Of no meaning under
    ///     locks.
    /// - Returns: The setting.
    public static func through(_ writer: some CacheWriter<Key, Value>, firstVersion: UInt64 = 1) -> CacheWriting {
        CacheWriting(writer: writer, mode: .through, firstVersion: firstVersion)
    }

    /// Writes to the cache at once, and to the source soon after, several changes at a time.
    ///
    /// > Important: What is not yet written when the process dies is lost. Use a journal where that matters.
    ///
    /// - Parameters:
    ///   - writer: Writes to the source.
    ///   - configure: Changes the defaults.
    /// - Returns: The setting.
    public static func behind(
        _ writer: some CacheWriter<Key, Value>,
        configure: (inout WriteBehindOptions) -> Void = { _ in }
    ) -> CacheWriting {
        var options = WriteBehindOptions()
        configure(&options)
        return CacheWriting(writer: writer, mode: .behind(options, nil), firstVersion: options.firstVersion)
    }

    /// Writes to a journal and the cache at once, and to the source soon after, several changes at a time.
    ///
    /// What is in the journal when the process dies is written by its next run.
    ///
    /// - Parameters:
    ///   - writer: Writes to the source.
    ///   - journal: Remembers what is not yet written; of this cache alone.
    ///   - codec: Makes bytes of values for the journal.
    ///   - configure: Changes the defaults.
    /// - Returns: The setting.
    public static func behind(
        _ writer: some CacheWriter<Key, Value>,
        journal: some WriteJournal,
        codec: some CacheCodec<Value>,
        configure: (inout WriteBehindOptions) -> Void = { _ in }
    ) -> CacheWriting where Key: CacheKey {
        var options = WriteBehindOptions()
        configure(&options)
        let link = JournalLink<Key, Value>(
            journal: journal,
            codec: codec,
            text: { $0.cacheKey },
            key: { Key(cacheKey: $0) }
        )
        return CacheWriting(writer: writer, mode: .behind(options, link), firstVersion: options.firstVersion)
    }

    /// Writes to a journal, as JSON, and the cache at once, and to the source soon after, several changes at a time.
    ///
    /// - Parameters:
    ///   - writer: Writes to the source.
    ///   - journal: Remembers what is not yet written; of this cache alone.
    ///   - configure: Changes the defaults.
    /// - Returns: The setting.
    public static func behind(
        _ writer: some CacheWriter<Key, Value>,
        journal: some WriteJournal,
        configure: (inout WriteBehindOptions) -> Void = { _ in }
    ) -> CacheWriting where Key: CacheKey, Value: Codable {
        self.behind(writer, journal: journal, codec: JSONCacheCodec<Value>(), configure: configure)
    }

    /// Checks the numbers.
    ///
    /// - Throws: ``CacheError`` with code ``CacheError/Code/invalidArgument``.
    func validate() throws(CacheError) {
        guard (1...CacheLimits.highestVersion).contains(self.firstVersion) else {
            throw CacheError(.invalidArgument, "firstVersion must be from 1 to 2^62")
        }
        if case .behind(let options, _) = self.mode { try options.validate() }
    }
}

/// How changes are written behind.
public struct WriteBehindOptions: Sendable {
    /// What a caller gets when too many changes wait.
    public enum Overflow: Sendable, Hashable {
        /// He waits until there is room.
        case wait
        /// ``CacheError/Code/writerFull``, and nothing is changed.
        case fail
    }

    /// The most changes of one call of the writer.
    ///
    /// 100 by default. Halved each time that a whole call fails and doubled when one succeeds, so that a change that the
    /// source cannot take does not take the others with it.
    public var maximumBatch = 100
    /// How long a change waits for others to go with it; more changes of its key are then one.
    ///
    /// 100 ms by default. A full batch does not wait.
    public var maximumDelay: Duration = .milliseconds(100)
    /// How many calls of the writer may be under way at once, never two for one key.
    ///
    /// 1 by default.
    public var concurrentBatches = 1
    /// How long a call of the writer may take.
    ///
    /// Then it is cancelled; the next call for its keys waits until it has ended. 30 s by default.
    public var attemptLimit: Duration = .seconds(30)
    /// How many keys may have changes that wait or are under way.
    ///
    /// 10,000 by default. A change of a key that waits already needs no room; what callers bring at the same moment may go
    /// beyond by one for each.
    public var capacity = 10_000
    /// What a caller gets when there is no room.
    public var overflow = Overflow.wait
    /// How often a change is tried before it is a dead letter.
    ///
    /// The last of these attempts is by itself, so that it does not fail for another's sake. `nil` for no limit; 10 by
    /// default.
    public var maximumAttempts: Int? = 10
    /// The pauses after failures, with jitter: the shortest.
    ///
    /// 50 ms by default. The changes of a call that failed as a whole hold up all others for it, since the source may not
    /// work; those that failed by themselves only themselves.
    public var shortestPause: Duration = .milliseconds(50)
    /// The longest of these pauses.
    ///
    /// 30 s by default.
    public var longestPause: Duration = .seconds(30)
    /// How many dead letters are kept.
    ///
    /// When there are that many, changes are tried again and again instead: none is dropped. 1000 by default.
    public var maximumDeadLetters = 1000
    /// Which errors make a dead letter at once: trying again is of no use.
    ///
    /// ``PermanentWriteFailure`` by default. An error of a call with several changes is not believed to be of each: they
    /// are tried once more, one by one.
    public var isPermanent: @Sendable (any Error) -> Bool = { $0 is PermanentWriteFailure }
    /// Where versions begin without a journal: for a source that remembers them, above all it has.
    public var firstVersion: UInt64 = 1

    /// Makes options with the defaults.
    public init() {}

    /// Checks the numbers.
    ///
    /// - Throws: ``CacheError`` with code ``CacheError/Code/invalidArgument``.
    func validate() throws(CacheError) {
        func refuse(_ sentence: String) -> CacheError { CacheError(.invalidArgument, sentence) }
        guard (1...Self.largestBatch).contains(self.maximumBatch) else {
            throw refuse("maximumBatch must be 1 to \(Self.largestBatch)")
        }
        guard self.capacity > 0, self.maximumDeadLetters > 0, self.concurrentBatches > 0 else {
            throw refuse("capacity, maximumDeadLetters and concurrentBatches must be above zero")
        }
        guard self.maximumDelay >= .zero, self.maximumDelay <= Self.longestTime else {
            throw refuse("maximumDelay must be from zero to an hour")
        }
        guard self.attemptLimit > .zero, self.attemptLimit <= Self.longestTime else {
            throw refuse("attemptLimit must be above zero and at most an hour")
        }
        guard self.maximumAttempts ?? 1 > 0 else { throw refuse("maximumAttempts must be above zero, or nil") }
        guard self.shortestPause > .zero, self.shortestPause <= self.longestPause, self.longestPause <= Self.longestTime
        else { throw refuse("pauses must be above zero and at most an hour, the longest not below the shortest") }
    }

    /// One call with more changes would hold up all others for long.
    private static var largestBatch: Int { 10_000 }
    /// Nobody who waits longer than this still waits.
    private static var longestTime: Duration { .seconds(60 * 60) }
}
