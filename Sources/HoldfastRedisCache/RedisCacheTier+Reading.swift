// SPDX-License-Identifier: Apache-2.0

public import HoldfastCache
import HoldfastCore
import HoldfastRedis
import Synchronization

/// Reading entries, and listing them.
extension RedisCacheTier {
    /// How many keys one `SCAN` looks at: about half a millisecond of the server's time.
    private static let keysPerScan = 1000
    /// How many namespaces' marks are remembered, on a cluster.
    private static let namespaces = 1024

    /// Reads entries and marks; see ``CacheTier/read(_:in:)``.
    ///
    /// On one server, the marks and then the entries are asked for on one connection: one round trip, and no mark is later
    /// than an entry. The nodes of a cluster have no order among them. There, all are asked at once, and when the marks
    /// are those that were seen before, they were so all the time; when they are not, since something was invalidated
    /// meanwhile or this is the first look, the entries are read again: one more round trip.
    ///
    /// - Parameters:
    ///   - keys: The keys.
    ///   - namespace: Theirs.
    /// - Returns: An entry for each key in their order, and the marks as they were not later than the entries.
    /// - Throws: `CacheError`.
    public func read(_ keys: [String], in namespace: String) async throws -> TierReading {
        try CacheLimits.check(keys, in: namespace)
        let names = self.keys(namespace)
        let entries = keys.map { names.entry($0) }
        return try await withCacheErrors(prefix: self.prefix) { () async throws(LockError) in
            switch self.connection.access.servers {
            case .one(let master):
                let commands = [["GET", names.marks]] + entries.map { Self.get($0) } + [["TIME"]]
                let replies = try await self.client.read(on: master.connection, commands)
                guard replies.count == entries.count + 2 else { throw CacheFailure.unreadable }
                let time = try Self.time(replies[entries.count + 1])
                let marks = try Self.marks(replies[0])
                let found = try await self.entries(replies.dropFirst().dropLast(), at: entries, time)
                return TierReading(entries: found, marks: marks)
            case .cluster: return try await self.readCluster(entries, names)
            }
        }
    }

    /// What is asked for at once, of different nodes.
    private enum Question: Sendable {
        case time
        case marks
        case entry(String)
    }

    private func readCluster(_ keys: [String], _ names: CacheKeys) async throws(LockError) -> TierReading {
        let namespace = Array(names.marks.utf8)
        let before = self.seen.withLock { $0[namespace] }
        // Ages are told by one clock, that of the marks' node: those of a cluster agree within a second or so.
        let questions = [Question.time, .marks] + (before == nil ? [] : keys.map { .entry($0) })
        let replies = try await self.client.atOnce(questions) { question throws(LockError) in
            switch question {
            case .time: try await self.client.run(["TIME"], on: .slot(names.slot))
            case .marks: try await self.mark(at: names.marks)
            case .entry(let key): try await self.get(key)
            }
        }
        let time = try Self.time(replies[0])
        let marks = try Self.marks(replies[1])
        if before == marks.current {
            return TierReading(entries: try await self.entries(replies.dropFirst(2), at: keys, time), marks: marks)
        }
        self.seen.withLock { seen in
            if seen.count >= Self.namespaces { seen = [:] }
            seen[namespace] = marks.current
        }
        let again = try await self.client.atOnce(keys) { key throws(LockError) in try await self.get(key) }
        return TierReading(entries: try await self.entries(again[...], at: keys, time), marks: marks)
    }

    /// The server's clock, in µs.
    private static func time(_ reply: RedisReply) throws(LockError) -> UInt64 {
        if case .error(let line) = reply { throw RedisErrorLine(line).error }
        guard let parts = reply.elements, parts.count == 2, let seconds = parts[0].text.flatMap({ UInt64($0) }),
            let rest = parts[1].text.flatMap({ UInt64($0) }), seconds < 1 << 40, rest < 1_000_000
        else { throw CacheFailure.unreadable }
        return seconds * 1_000_000 + rest
    }

    /// A command that reads an entry, and no more of it than an entry has.
    private static func get(_ key: String, upTo end: Int = maximumPayload + CacheRecord.longestHead) -> [String] {
        ["GETRANGE", key, "0", String(end)]
    }

    private func get(_ key: String) async throws(LockError) -> RedisReply {
        do throws(LockError) {
            return try await self.client.run(Self.get(key), on: .slot(RedisSlot(of: key)))
        } catch {
            guard (error.underlying as? RedisErrorLine)?.kind == "WRONGTYPE" else { throw error }
            return .null
        }
    }

    /// What is at the key of marks, on whichever node; what is of another type is damaged, and not nothing.
    private func mark(at key: String) async throws(LockError) -> RedisReply {
        do throws(LockError) {
            return try await self.client.run(["GET", key], on: .slot(RedisSlot(of: key)))
        } catch {
            guard (error.underlying as? RedisErrorLine)?.kind == "WRONGTYPE" else { throw error }
            return .error("WRONGTYPE")
        }
    }

    /// The marks of a namespace.
    private static func marks(_ reply: RedisReply) throws(LockError) -> TierMarks {
        if case .null = reply { return TierMarks() }
        return MarkRecord.marks(try Self.bytes(reply)) ?? MarkRecord.unreadable
    }

    /// The mark of a tag.
    private static func tagMark(_ reply: RedisReply) throws(LockError) -> UInt64 {
        if case .null = reply { return 0 }
        return MarkRecord.tag(try Self.bytes(reply))
    }

    /// Reads the marks of tags; see ``CacheTier/marks(of:in:)``.
    ///
    /// One round trip, and one slot of a cluster. Not `MGET`, to which what is of another type is nothing: what is
    /// there and is no mark makes everything with the tag invalid.
    ///
    /// - Parameters:
    ///   - tags: Which.
    ///   - namespace: Where.
    /// - Returns: The mark of each in their order; 0 for a tag that was never invalidated.
    /// - Throws: `CacheError`.
    public func marks(of tags: [String], in namespace: String) async throws -> [UInt64] {
        try CacheLimits.check(tags: tags, in: namespace)
        guard !tags.isEmpty else { return [] }
        let names = self.keys(namespace)
        let keys = tags.map { names.tag($0) }
        return try await withCacheErrors(prefix: self.prefix) { () async throws(LockError) in
            let replies: [RedisReply] =
                switch self.connection.access.servers {
                case .one(let master):
                    try await self.client.read(on: master.connection, keys.map { ["GET", $0] })
                case .cluster:
                    try await self.client.atOnce(keys) { key throws(LockError) in try await self.mark(at: key) }
                }
            guard replies.count == keys.count else { throw CacheFailure.unreadable }
            var marks: [UInt64] = []
            for reply in replies { marks.append(try Self.tagMark(reply)) }
            return marks
        }
    }

    /// The bytes of a value; none when there is no value, or one of another type.
    private static func bytes(_ reply: RedisReply) throws(LockError) -> [UInt8] {
        switch reply {
        case .string(let bytes): return bytes
        case .null: return []
        case .error(let line):
            let meaning = RedisErrorLine(line)
            guard meaning.kind == "WRONGTYPE" else { throw meaning.error }
            return []
        case .integer, .status, .array: throw CacheFailure.unreadable
        }
    }

    /// What lies at a key now.
    func record(at key: String) async throws(LockError) -> CacheRecord? {
        CacheRecord(try Self.bytes(try await self.get(key)))
    }

    private func entries(
        _ replies: ArraySlice<RedisReply>,
        at keys: [String],
        _ time: UInt64
    ) async throws(LockError) -> [TierEntry] {
        guard replies.count == keys.count else { throw CacheFailure.unreadable }
        var entries: [TierEntry] = []
        entries.reserveCapacity(keys.count)
        var ending: [Int] = []
        for (index, reply) in replies.enumerated() {
            let record = CacheRecord(try Self.bytes(reply))
            if record?.kind == .ending { ending.append(index) }
            entries.append(record?.entry(at: time) ?? .absent)
        }
        guard !ending.isEmpty else { return entries }
        // Only the server knows whether it is over: one more round trip, for what was removed and written again.
        let limit = String(Self.maximumPayload + CacheRecord.longestHead)
        let now = try await self.client.atOnce(ending) { index throws(LockError) in
            let key = keys[index]
            let answer = try await self.client.send(to: .slot(RedisSlot(of: key))) { encoder, isKnown in
                CacheScripts.peek.begin(&encoder, keys: [key], arguments: 1, isKnown: isKnown)
                encoder.part(limit)
            }
            return CacheRecord(try Self.bytes(answer.reply))?.entry(at: time) ?? .absent
        }
        for (index, entry) in zip(ending, now) { entries[index] = entry }
        return entries
    }

    /// Lists keys; see ``CacheTier/keys(in:prefix:after:)``.
    ///
    /// Walks the server's keys in small steps, on a cluster one master after the other, and looks at the head of each
    /// that fits: two round trips. A page may be empty though more follow.
    ///
    /// - Parameters:
    ///   - namespace: Where.
    ///   - prefix: How they start.
    ///   - cursor: `nil` at first, then what the last page said.
    /// - Returns: A page, in no order.
    /// - Throws: `CacheError`.
    public func keys(in namespace: String, prefix: String, after cursor: String?) async throws -> TierKeyPage {
        try CacheLimits.check([prefix], in: namespace)
        // The number of a master, and the place among its keys.
        let parts = (cursor ?? "0:0").split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 2, let number = Int(parts[0]), number >= 0, let position = UInt64(parts[1]) else {
            throw CacheError(.invalidArgument, "the place to go on with a list of keys is not one of the redis tier")
        }
        let names = self.keys(namespace)
        return try await withCacheErrors(prefix: self.prefix) { () async throws(LockError) in
            let masters: [RedisMaster] =
                switch self.connection.access.servers {
                case .one(let master): [master]
                case .cluster(let cluster): try await cluster.masters()
                }
            // Some may have gone since.
            guard number < masters.count else { return TierKeyPage(keys: [], next: nil) }
            let scan = [
                "SCAN", String(position), "MATCH", names.glob(prefix), "COUNT", String(Self.keysPerScan),
            ]
            guard let page = try await self.client.run(scan, on: .master(masters[number])).elements, page.count == 2,
                let next = page[0].text.flatMap({ UInt64($0) }), let found = page[1].elements
            else { throw CacheFailure.unreadable }
            var keys: [String] = []
            // By bytes: two keys of other bytes can be equal to Swift.
            for case .string(let bytes) in Set(found) { if let key = names.key(from: bytes) { keys.append(key) } }
            let isEntry = try await self.client.atOnce(keys) { key throws(LockError) in
                try await self.isEntry(names.entry(key))
            }
            let isLast = next == 0 && number + 1 == masters.count
            return TierKeyPage(
                keys: zip(keys, isEntry).filter(\.1).map(\.0),
                next: isLast ? nil : next == 0 ? "\(number + 1):0" : "\(number):\(next)"
            )
        }
    }

    private func isEntry(_ key: String) async throws(LockError) -> Bool {
        do throws(LockError) {
            let command = Self.get(key, upTo: CacheRecord.longestHead - 1)
            let reply = try await self.client.run(command, on: .slot(RedisSlot(of: key)))
            // An entry that may have ended is listed.
            return CacheRecord(try Self.bytes(reply)).map { $0.kind != .tombstone } ?? false
        } catch {
            guard (error.underlying as? RedisErrorLine)?.kind == "WRONGTYPE" else { throw error }
            return false
        }
    }
}
