// SPDX-License-Identifier: Apache-2.0

package import ArgumentParser
import HoldfastCache
import HoldfastRedisCache

/// `holdfast cache stats`.
package struct CacheStatsCommand: AsyncParsableCommand {
    /// What `--help` says.
    package static let configuration = CommandConfiguration(
        commandName: "stats",
        abstract: "Count what caches have in the store, and say how its servers fare.",
        discussion: """
            holdfast cache stats
            holdfast cache stats products --format json

            Walks all keys of the servers in small steps; what changes meanwhile may be missing or counted twice. Bytes \
            are those of entries as they are written. Marks are those of invalidations, tombstones those of removals. \
            The figures of servers are of all that uses them. Needs the permissions +strlen and +info, which services do \
            not.
            """
    )

    @Argument(help: "The name of one cache. Default: all.")
    var namespace: String?
    @OptionGroup var storage: StoreOptions
    @OptionGroup var output: FormatOptions

    /// Makes the command, for the parser.
    package init() {}

    /// Counts.
    package func run() async throws {
        let tier = try CacheParts.make(try self.storage.url(), patience: CacheParts.operatorPatience).tier
        if let namespace = self.namespace { _ = try TierInspector(tier, namespace: namespace) }
        try await tier.refuseNode()
        let counts = try await self.count(tier)
        let servers = try await tier.figures()
        guard self.output.format == .table else { return try Output.line(Self.json(counts, servers).text) }
        let style = TerminalStyle.forOutput()
        for line in Self.table(counts).lines(style: style) { try Output.line(line) }
        try Output.line("")
        for line in Self.table(servers).lines(style: style) { try Output.line(line) }
    }

    private func count(_ tier: RedisCacheTier) async throws -> [(name: String, census: RedisCacheTier.Census)] {
        // By bytes, as the tier tells names apart.
        var counts: [[UInt8]: RedisCacheTier.Census] = [:]
        // A cache that has nothing has its row too, when somebody asks for it.
        if let namespace = self.namespace { counts[Array(namespace.utf8)] = RedisCacheTier.Census() }
        var progress = Progress()
        var cursor: String?
        repeat {
            let page = try await tier.census(of: self.namespace, after: cursor)
            for (name, census) in page.counts { counts[name, default: RedisCacheTier.Census()].add(census) }
            progress.show("\(counts.values.reduce(0) { $0 + $1.entries }) entries so far …")
            cursor = page.next
        } while cursor != nil
        progress.clear()
        return counts.sorted { $0.key.lexicographicallyPrecedes($1.key) }
            .map { (String(decoding: $0.key, as: UTF8.self), $0.value) }
    }

    private static func table(_ counts: [(name: String, census: RedisCacheTier.Census)]) -> TextTable {
        var table = TextTable([
            ("CACHE", .left), ("ENTRIES", .right), ("BYTES", .right), ("TOMBSTONES", .right), ("MARKS", .right),
            ("FOREIGN", .right),
        ])
        for (name, census) in counts {
            table.append(
                [name]
                    + [census.entries, census.bytes, census.tombstones, census.marks, census.foreign].map { String($0) }
            )
        }
        return table
    }

    private static func table(_ servers: [RedisCacheTier.ServerFigures]) -> TextTable {
        var table = TextTable([
            ("SERVER", .left), ("MEMORY", .right), ("LIMIT", .right), ("HITS", .right), ("MISSES", .right),
            ("EVICTED", .right), ("EXPIRED", .right),
        ])
        for server in servers {
            let cells = RedisCacheTier.serverFields.map { field in
                let number = server.numbers[field]
                return field == "maxmemory" && number == 0 ? "none" : number.map { String($0) } ?? "-"
            }
            table.append([server.address] + cells)
        }
        return table
    }

    private static func json(
        _ counts: [(name: String, census: RedisCacheTier.Census)],
        _ servers: [RedisCacheTier.ServerFigures]
    ) -> JSONValue {
        .object([
            .init(
                "caches",
                .array(
                    counts.map { name, census in
                        .object([
                            .init("name", .string(name)),
                            .init("entries", .integer(census.entries)),
                            .init("bytes", .integer(census.bytes)),
                            .init("tombstones", .integer(census.tombstones)),
                            .init("marks", .integer(census.marks)),
                            .init("foreign", .integer(census.foreign)),
                        ])
                    }
                )
            ),
            .init(
                "servers",
                .array(
                    servers.map { server in
                        .object(
                            [.init("address", .string(server.address))]
                                + RedisCacheTier.serverFields.map { field in
                                    .init(field, server.numbers[field].map(JSONValue.integer) ?? .null)
                                }
                        )
                    }
                )
            ),
        ])
    }
}
