// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
import HoldfastCore
import HoldfastRedis

/// What lies on the servers, for operators; services need none of it.
extension RedisCacheTier {
    /// How many keys one `SCAN` of a census looks at: about half a millisecond of the server's time.
    private static let keysPerCensus = 1000

    /// How many slots are asked for: of two nodes, one would have to have them all.
    private static let probes = 32

    /// How long what is at a key stays there.
    package enum Remainder: Sendable, Hashable {
        /// There is nothing.
        case nothing
        /// It has no end: nothing of ours.
        case forever
        /// For so long.
        case ends(Duration)
    }

    /// How long what is at a key stays there, an entry, a tombstone or whatever else.
    ///
    /// One round trip.
    ///
    /// - Parameters:
    ///   - key: The key.
    ///   - namespace: Its namespace.
    /// - Returns: How long.
    /// - Throws: `CacheError`.
    package func remainder(of key: String, in namespace: String) async throws -> Remainder {
        try CacheLimits.check([key], in: namespace)
        let name = self.keys(namespace).entry(key)
        return try await withCacheErrors(prefix: self.prefix) { () async throws(LockError) in
            let reply = try await self.client.run(["PTTL", name], on: .slot(RedisSlot(of: name)))
            guard let milliseconds = reply.number else { throw CacheFailure.unreadable }
            return milliseconds == -2 ? .nothing : milliseconds < 0 ? .forever : .ends(.milliseconds(milliseconds))
        }
    }

    // MARK: - Counting

    /// What a namespace has.
    package struct Census: Sendable, Hashable {
        /// Entries, stale and invalid ones too.
        package var entries: Int64 = 0
        /// The bytes of those, as they are written.
        package var bytes: Int64 = 0
        /// Marks of removals.
        package var tombstones: Int64 = 0
        /// Marks of invalidations: of everything, of prefixes, of tags.
        package var marks: Int64 = 0
        /// Keys that hold something that is not ours.
        package var foreign: Int64 = 0

        /// Nothing.
        package init() {}

        /// Adds what another page has.
        package mutating func add(_ other: Census) {
            self.entries += other.entries
            self.bytes += other.bytes
            self.tombstones += other.tombstones
            self.marks += other.marks
            self.foreign += other.foreign
        }
    }

    /// A part of a census.
    package struct CensusPage: Sendable {
        /// What was found, by the bytes of the namespaces: two that are equal to Swift may be two.
        package var counts: [[UInt8]: Census]
        /// Where to go on, or `nil` when that was all.
        package var next: String?
    }

    /// Counts what is there, a page at a time.
    ///
    /// Walks all keys of the servers in small steps: what changes meanwhile may be missing or counted twice. Needs
    /// `STRLEN`, which services do not.
    ///
    /// - Parameters:
    ///   - namespace: Which one; `nil` for all.
    ///   - cursor: `nil` at first, then what the last page said.
    /// - Returns: A page; it may be empty though more follow.
    /// - Throws: `CacheError`.
    package func census(of namespace: String?, after cursor: String?) async throws -> CensusPage {
        let parts = (cursor ?? "0:0").split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 2, let number = Int(parts[0]), number >= 0, let position = UInt64(parts[1]) else {
            throw CacheError(.invalidArgument, "the place to go on with a census is not one of the redis tier")
        }
        // What is between is the namespace, with or without braces.
        let name = namespace.map { CacheKeys.escaped($0) }
        let inner = name.map { CacheKeys.literal($0) + "*" } ?? ""
        return try await withCacheErrors(prefix: self.prefix) { () async throws(LockError) in
            let masters = try await self.masters()
            guard number < masters.count else { return CensusPage(counts: [:], next: nil) }
            let scan = [
                "SCAN", String(position), "MATCH", CacheKeys.literal(self.prefix) + "*" + inner, "COUNT",
                String(Self.keysPerCensus),
            ]
            guard let page = try await self.client.run(scan, on: .master(masters[number])).elements, page.count == 2,
                let next = page[0].text.flatMap({ UInt64($0) }), let found = page[1].elements
            else { throw CacheFailure.unreadable }
            var items: [(name: String, key: String, item: CacheKeys.Item)] = []
            for case .string(let bytes) in Set(found) {
                guard let key = String(validating: bytes, as: UTF8.self),
                    let (owner, item) = CacheKeys.item(at: key, prefix: self.prefix),
                    name.map({ $0.utf8.elementsEqual(owner.utf8) }) ?? true
                else { continue }
                items.append((owner, key, item))
            }
            let counted = try await self.client.atOnce(items) { item throws(LockError) in
                try await self.count(item.key, item.item)
            }
            var counts: [[UInt8]: Census] = [:]
            for (item, census) in zip(items, counted) {
                counts[Array(CacheKeys.unescaped(item.name).utf8), default: Census()].add(census)
            }
            let isLast = next == 0 && number + 1 == masters.count
            return CensusPage(counts: counts, next: isLast ? nil : next == 0 ? "\(number + 1):0" : "\(number):\(next)")
        }
    }

    /// Makes sure that one server is not one of a cluster: a list of its keys would be a part that looks like the whole.
    ///
    /// One round trip, to keys of many slots: a node says of those of others where they are.
    ///
    /// - Throws: `CacheError` with code `tierRefused` for a node of a cluster.
    package func refuseNode() async throws {
        guard case .one(let master) = self.connection.access.servers else { return }
        _ = try await withCacheErrors(prefix: self.prefix) { () async throws(LockError) in
            let commands = (0..<Self.probes).map { ["GETRANGE", "\(self.prefix)probe:\($0)", "0", "0"] }
            return try await self.client.read(on: master.connection, commands)
        }
    }

    private func masters() async throws(LockError) -> [RedisMaster] {
        switch self.connection.access.servers {
        case .one(let master): [master]
        case .cluster(let cluster): try await cluster.masters()
        }
    }

    private func count(_ key: String, _ item: CacheKeys.Item) async throws(LockError) -> Census {
        var census = Census()
        do throws(LockError) {
            let place = RedisClient.Place.slot(RedisSlot(of: key))
            switch item {
            case .tag: census.marks = 1
            case .marks:
                let reply = try await self.client.run(["GET", key], on: place)
                guard case .string(let bytes) = reply else { return census }
                if let marks = MarkRecord.marks(bytes) {
                    census.marks = Int64(marks.prefixes.count) + (marks.all > 0 ? 1 : 0)
                } else {
                    census.foreign = 1
                }
            case .entry:
                let head = try await self.client.run(
                    ["GETRANGE", key, "0", String(CacheRecord.longestHead - 1)],
                    on: place
                )
                guard case .string(let bytes) = head, !bytes.isEmpty else { return census }
                switch CacheRecord(bytes)?.kind {
                case nil: census.foreign = 1
                case .tombstone?: census.tombstones = 1
                case .entry?, .ending?:
                    census.entries = 1
                    census.bytes = try await self.client.run(["STRLEN", key], on: place).number ?? 0
                }
            }
        } catch {
            guard (error.underlying as? RedisErrorLine)?.kind == "WRONGTYPE" else { throw error }
            census.foreign = 1
        }
        return census
    }

    // MARK: - Servers

    /// What a server says of itself.
    package struct ServerFigures: Sendable, Hashable {
        /// Where it is.
        package var address: String
        /// What ``RedisCacheTier/figures()`` asks for, as far as the server says it.
        package var numbers: [String: Int64]
    }

    /// The fields of `INFO` that say how a server fares as a cache.
    ///
    /// Bytes in use and allowed (0 for no limit), reads that found something and that did not, keys that were evicted and
    /// that expired.
    package static let serverFields = [
        "used_memory", "maxmemory", "keyspace_hits", "keyspace_misses", "evicted_keys", "expired_keys",
    ]

    /// Asks the masters how they fare; of all that uses them, not only of caches.
    ///
    /// One round trip to each.
    ///
    /// - Returns: What each says.
    /// - Throws: `CacheError`.
    package func figures() async throws -> [ServerFigures] {
        try await withCacheErrors(prefix: self.prefix) { () async throws(LockError) in
            var figures: [ServerFigures] = []
            for master in try await self.masters() {
                let info = try await self.client.run(["INFO"], on: .master(master)).text ?? ""
                var numbers: [String: Int64] = [:]
                for line in info.split(whereSeparator: \.isNewline) {
                    let parts = line.split(separator: ":", maxSplits: 1)
                    guard parts.count == 2, Self.serverFields.contains(String(parts[0])) else { continue }
                    numbers[String(parts[0])] = Int64(parts[1])
                }
                // Behind Sentinel it is known now which server that was.
                figures.append(ServerFigures(address: master.place, numbers: numbers))
            }
            return figures
        }
    }
}

extension CacheKeys {
    /// What is at a key.
    enum Item: Sendable, Hashable {
        case entry, marks, tag
    }

    /// Whose key it is, as the namespace is written in keys, and what is there; `nil` when it is not of a cache.
    static func item(at key: String, prefix: String) -> (name: String, item: Item)? {
        let bytes = Array(key.utf8)
        guard bytes.starts(with: prefix.utf8) else { return nil }
        let rest = bytes[prefix.utf8.count...]
        let isMark = rest.first == UInt8(ascii: "{")
        guard let end = rest.firstIndex(of: UInt8(ascii: isMark ? "}" : ":")),
            let name = String(validating: rest[rest.startIndex + (isMark ? 1 : 0)..<end], as: UTF8.self),
            !name.isEmpty
        else { return nil }
        let item: Item
        if isMark {
            let tail = rest[(end + 1)...]
            if tail.elementsEqual(":m".utf8) {
                item = .marks
            } else if tail.starts(with: ":t:".utf8) {
                item = .tag
            } else {
                return nil
            }
        } else {
            item = .entry
        }
        return (name, item)
    }

    /// A namespace as it is in keys.
    static func escaped(_ namespace: String) -> String {
        let start = CacheKeys(prefix: "", namespace: namespace).start
        return String(start.unicodeScalars.dropLast().map(Character.init))
    }

    /// A namespace from what it is in keys.
    static func unescaped(_ name: String) -> String {
        let codes: [[UInt8]: Character] = [
            Array("%3A".utf8): ":", Array("%7B".utf8): "{", Array("%7D".utf8): "}", Array("%25".utf8): "%",
        ]
        // By bytes: what follows a code may be one character with its last letter.
        var (text, rest) = ([UInt8](), Array(name.utf8)[...])
        while let byte = rest.first {
            if let sign = codes[Array(rest.prefix(3))]?.asciiValue {
                text.append(sign)
                rest = rest.dropFirst(3)
            } else {
                text.append(byte)
                rest = rest.dropFirst()
            }
        }
        return String(decoding: text, as: UTF8.self)
    }
}
