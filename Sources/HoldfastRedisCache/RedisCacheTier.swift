// SPDX-License-Identifier: Apache-2.0

public import HoldfastCache
import HoldfastCore
public import HoldfastRedis
import Synchronization

/// Cache entries that all processes of a Redis share: one server, Sentinels' master, or a cluster.
///
/// An entry is one string key, `<prefix><namespace>:<key>`: a short head with its version and token, and the envelope (see
/// `Docs/Architecture.md`, "What lies on a Redis server for a cache"). What another program has put at such a key reads as
/// absent, with version 0, and is overwritten only by removals and by writes on the condition
/// ``TierWrite/Condition/always`` or `version(0)`.
///
/// **Calls that are sent twice.** A reply may be lost with its connection, and the call is then made again within the
/// configured time. A removal or an invalidation happens twice, which is harmless. A conditional write whose first copy took
/// effect is recognised by what lies there, token and envelope, so it is not refused on account of itself. A copy that
/// the server finds late, after the call has ended, is refused by its condition; only a write on the condition `always`
/// may then overwrite a later one.
///
/// **What a failover loses.** Replicas follow with a delay, so a new master may lack the last entries, tombstones and
/// marks. What was invalidated in the last moments before may be valid again; the bus says `interrupted` then.
///
/// A user of the server needs no more than ``RedisCachePermissions/rules(prefix:channel:isCluster:)``.
public final class RedisCacheTier: CacheTier {
    /// What keys start with unless set otherwise.
    public static let defaultPrefix = "hfc:"
    /// The largest envelope, in bytes: a reply of more than 16 MB ends a connection.
    public static let maximumPayload = 8 << 20

    /// How long anything is kept at most.
    private static let longest: Duration = .seconds(10 * 365 * 24 * 60 * 60)

    /// `redis`.
    public var name: String { "redis" }
    /// That of the connections.
    public var timeout: Duration? { self.connection.configuration.timeout }
    /// What all keys start with.
    public let prefix: String
    /// The connections.
    public let connection: RedisCacheConnection

    /// The marks of namespaces that were seen last, on a cluster.
    let seen = Mutex<[[UInt8]: UInt64]>([:])

    /// Makes a tier on connections that others may use too.
    ///
    /// - Parameters:
    ///   - connection: The connections.
    ///   - prefix: What all keys start with; no braces, and no prefix of another program's keys.
    /// - Throws: `CacheError` with code `invalidArgument`.
    public init(_ connection: RedisCacheConnection, prefix: String = RedisCacheTier.defaultPrefix) throws(CacheError) {
        guard !prefix.utf8.contains(where: { $0 == UInt8(ascii: "{") || $0 == UInt8(ascii: "}") }),
            prefix.utf8.count <= 128
        else { throw CacheError(.invalidArgument, "the prefix of a cache has a brace or is longer than 128 bytes") }
        self.connection = connection
        self.prefix = prefix
    }

    /// Makes a tier with connections of its own; nothing is sent yet.
    ///
    /// - Parameters:
    ///   - configuration: How the servers are reached.
    ///   - prefix: What all keys start with; no braces, and no prefix of another program's keys.
    /// - Throws: `CacheError` with code `invalidArgument` when a setting is out of its range.
    public convenience init(
        configuration: RedisConfiguration,
        prefix: String = RedisCacheTier.defaultPrefix
    ) throws(CacheError) {
        try self.init(try RedisCacheConnection(configuration: configuration), prefix: prefix)
    }

    var client: RedisClient { self.connection.client }

    func keys(_ namespace: String) -> CacheKeys { CacheKeys(prefix: self.prefix, namespace: namespace) }

    /// Asks the server once whether it can be used, and returns; see ``CacheTier/run()``.
    ///
    /// - Throws: `CacheError` with code `tierRefused` for what the server refuses. That it cannot be reached is no reason.
    public func run() async throws { try await self.connection.check() }

    // MARK: - Entries

    /// Writes entries; see ``CacheTier/write(_:in:)``.
    ///
    /// One script for each, all sent at once. Keys of one call must differ; their order is not kept.
    ///
    /// - Parameters:
    ///   - writes: What to write; envelopes of at most ``maximumPayload``.
    ///   - namespace: Where.
    /// - Returns: What became of each, in their order.
    /// - Throws: `CacheError`; any of them may then have been written.
    public func write(_ writes: [TierWrite], in namespace: String) async throws -> [TierWriteReply] {
        try CacheLimits.check(writes.map(\.key), in: namespace)
        for write in writes where write.payload.count > Self.maximumPayload {
            throw CacheError(
                .invalidArgument,
                "the redis tier takes at most \(Self.maximumPayload) bytes per entry, not \(write.payload.count)"
            )
        }
        let keys = self.keys(namespace)
        return try await withCacheErrors(prefix: self.prefix) { () async throws(LockError) in
            try await self.client.atOnce(writes) { write throws(LockError) in
                try await self.write(write, at: keys.entry(write.key))
            }
        }
    }

    private func write(_ write: TierWrite, at key: String) async throws(LockError) -> TierWriteReply {
        let condition =
            switch write.condition {
            case .always: "always"
            case .version(let version): CacheRecord.digits(version, width: 16)
            }
        let token = CacheRecord.digits(write.token, width: 20)
        let life = Self.milliseconds(write.timeToLive)
        let answer = try await self.client.send(to: .slot(RedisSlot(of: key))) { encoder, isKnown in
            CacheScripts.write.begin(&encoder, keys: [key], arguments: 4, isKnown: isKnown)
            encoder.part(condition)
            encoder.part(token)
            encoder.part(life)
            encoder.part(write.payload)
        }
        guard let parts = answer.reply.elements, parts.count == 2, let version = parts[1].version else {
            throw CacheFailure.unreadable
        }
        if parts[0] == .integer(1) { return .written(version: version) }
        if answer.isRepeat, let record = try await self.record(at: key), record.kind != .tombstone,
            record.token == write.token, record.payload.elementsEqual(write.payload)
        {
            // Its first copy took effect, and the reply was lost.
            return .written(version: record.version)
        }
        return .refused(version: version)
    }

    /// Removes entries; see ``CacheTier/remove(_:in:keepFor:)``.
    ///
    /// One script for each, all sent at once. A tombstone stays at least as long as the one it replaces, and goes on when
    /// an entry that was written over it ends sooner.
    ///
    /// - Parameters:
    ///   - keys: The keys.
    ///   - namespace: Theirs.
    ///   - keepFor: How long the tombstones stay.
    /// - Returns: The versions of the tombstones, in order.
    /// - Throws: `CacheError`; any of them may then have been removed.
    public func remove(_ keys: [String], in namespace: String, keepFor: Duration) async throws -> [UInt64] {
        try CacheLimits.check(keys, in: namespace)
        let names = self.keys(namespace)
        let life = Self.milliseconds(keepFor)
        return try await withCacheErrors(prefix: self.prefix) { () async throws(LockError) in
            try await self.client.atOnce(keys) { key throws(LockError) in
                let key = names.entry(key)
                let answer = try await self.client.send(to: .slot(RedisSlot(of: key))) { encoder, isKnown in
                    CacheScripts.remove.begin(&encoder, keys: [key], arguments: 1, isKnown: isKnown)
                    encoder.part(life)
                }
                guard let version = answer.reply.version else { throw CacheFailure.unreadable }
                return version
            }
        }
    }

    // MARK: - Marks

    /// Marks what is invalid from now on; see ``CacheTier/invalidate(_:in:keepFor:)``.
    ///
    /// One script. An invalidation of a prefix when `CacheLimits.maximumPrefixes` others are marked is one of everything.
    ///
    /// - Parameters:
    ///   - scope: What.
    ///   - namespace: Where.
    ///   - keepFor: How long the mark stays.
    /// - Returns: The new mark.
    /// - Throws: `CacheError`; the mark may then have been set.
    public func invalidate(
        _ scope: InvalidationScope,
        in namespace: String,
        keepFor: Duration
    ) async throws -> UInt64 {
        try CacheLimits.check(scope, in: namespace)
        let names = self.keys(namespace)
        let life = Self.milliseconds(keepFor)
        let (keys, word, prefix) =
            switch scope {
            case .all: ([names.marks], "all", "")
            case .prefix(let prefix): ([names.marks], "prefix", prefix)
            case .tag(let tag): ([names.marks, names.tag(tag)], "tag", "")
            }
        return try await withCacheErrors(prefix: self.prefix) { () async throws(LockError) in
            let answer = try await self.client.send(to: .slot(names.slot)) { encoder, isKnown in
                CacheScripts.mark.begin(&encoder, keys: keys, arguments: 3, isKnown: isKnown)
                encoder.part(word)
                encoder.part(life)
                encoder.part(prefix)
            }
            guard let mark = answer.reply.version else { throw CacheFailure.unreadable }
            return mark
        }
    }

    private static func milliseconds(_ duration: Duration) -> Int64 {
        max(1, min(duration, self.longest).millisecondsRoundedUp)
    }
}

extension RedisReply {
    /// A version or a mark.
    var version: UInt64? { self.number.flatMap { UInt64(exactly: $0) } }
}

extension RedisClient {
    /// Sends a command for each item, all at once, so that those of one connection travel together.
    ///
    /// - Parameters:
    ///   - items: What for.
    ///   - body: Sends one.
    /// - Returns: What came of each, in order.
    /// - Throws: The first error, when all have ended.
    func atOnce<Item: Sendable, Reply: Sendable>(
        _ items: [Item],
        _ body: @escaping @Sendable (Item) async throws(LockError) -> Reply
    ) async throws(LockError) -> [Reply] {
        if items.count == 1 { return [try await body(items[0])] }
        let outcomes = await withTaskGroup(of: (Int, Result<Reply, LockError>).self) { group in
            for (index, item) in items.enumerated() {
                group.addTask {
                    // Built before the tuple, whose first element an optimised build may lose; see `MultiAcquisition`.
                    let outcome: Result<Reply, LockError>
                    do throws(LockError) {
                        outcome = .success(try await body(item))
                    } catch {
                        outcome = .failure(error)
                    }
                    return (index, outcome)
                }
            }
            var outcomes = [Result<Reply, LockError>?](repeating: nil, count: items.count)
            for await (index, outcome) in group { outcomes[index] = outcome }
            return outcomes
        }
        var replies: [Reply] = []
        for outcome in outcomes { if let reply = try outcome?.get() { replies.append(reply) } }
        return replies
    }
}
