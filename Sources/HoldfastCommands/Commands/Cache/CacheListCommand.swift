// SPDX-License-Identifier: Apache-2.0

package import ArgumentParser
import HoldfastCache
import HoldfastRedisCache

/// `holdfast cache ls`.
package struct CacheListCommand: AsyncParsableCommand {
    /// What `--help` says.
    package static let configuration = CommandConfiguration(
        commandName: "ls",
        abstract: "List the entries of a cache.",
        discussion: """
            holdfast cache ls products
            holdfast cache ls products eu/ --limit 20
            holdfast cache ls products --format jsonl | jq -r 'select(.age_s > 3600).key'

            In no order. The server's keys are walked in small steps, so it takes long where there are many, of whatever \
            program; what changes meanwhile may be missing or come twice. States: fresh, revalidating (given while it is \
            loaded anew), stale (given when loading fails), not-found (known not to exist), invalidated, unreadable. \
            `holdfast cache stats` lists the caches.
            """
    )

    @OptionGroup var target: CacheTarget
    @Argument(help: "How the keys start.") var prefix = ""
    @Option(
        name: .long,
        help: ArgumentHelp("How many entries at most, 0 for all. Default: 1000 in a table, else all.", valueName: "n")
    )
    var limit: Int?
    @OptionGroup var output: FormatOptions

    /// Makes the command, for the parser.
    package init() {}

    /// How many rows a table has unless somebody wants more: nobody reads them.
    private static let tableLimit = 1000

    /// Lists.
    package func run() async throws {
        guard (self.limit ?? 0) >= 0 else {
            throw CommandFailure(ExitStatus.configuration, "--limit is 0 or more")
        }
        let cache = try self.target.open()
        try await cache.tier.refuseNode()
        let limit = self.limit ?? (self.output.format == .table ? Self.tableLimit : 0)
        var list = CacheList(format: self.output.format, limit: limit == 0 ? .max : limit)
        var cursor: String?
        var batch = CacheList.Batch()
        repeat {
            let page = try await cache.tier.keys(in: self.target.namespace, prefix: self.prefix, after: cursor)
            var rest = page.keys[...]
            while !rest.isEmpty, !list.isFull {
                let found = try await cache.inspector.inspect(Array(rest.prefix(batch.size)))
                rest = rest.dropFirst(batch.size)
                try list.show(found)
                batch.adapt(to: found.reduce(0) { $0 + $1.size })
            }
            if !rest.isEmpty { list.hasMore = true }
            cursor = page.next
        } while cursor != nil && !list.isFull
        if cursor != nil { list.hasMore = true }
        try list.end()
    }
}

/// Entries as they come, so that any number of them takes little memory.
struct CacheList {
    /// How many entries are read at once: few where they are large.
    struct Batch {
        /// So much is read at once, give or take.
        private static let bytes = 4 << 20

        private(set) var size = 32

        /// Takes note of how much the last ones were.
        mutating func adapt(to bytes: Int) {
            if bytes > Self.bytes { self.size = max(1, self.size / 2) }
            if bytes < Self.bytes / 4 { self.size = min(CacheLimits.maximumBatch, self.size * 2) }
        }
    }

    private let format: OutputFormat
    private let limit: Int
    private let style = TerminalStyle.forOutput()
    private var table = CacheEntryView.table
    private var count = 0
    /// Whether some are not shown.
    var hasMore = false

    init(format: OutputFormat, limit: Int) {
        self.format = format
        self.limit = limit
    }

    /// Whether no more are shown.
    var isFull: Bool { self.count >= self.limit }

    /// Shows some.
    mutating func show(_ found: [TierInspector.Inspection]) throws {
        // Gone since it was listed.
        let there = found.filter { if case .nothing = $0.content { false } else { true } }
        let views = there.prefix(self.limit - self.count).map { CacheEntryView($0) }
        if views.count < there.count { self.hasMore = true }
        switch self.format {
        case .table:
            for view in views { self.table.append(view.row) }
            guard !views.isEmpty else { return }
            try Output.text(self.table.takeLines(style: self.style).joined(separator: "\n") + "\n")
        case .json:
            for (index, view) in views.enumerated() {
                try Output.text((self.count + index == 0 ? "[" : ",") + view.json().text)
            }
        case .jsonl: for view in views { try Output.line(view.json().text) }
        }
        self.count += views.count
    }

    /// Says what is left to say.
    func end() throws {
        if self.format == .json { try Output.line(self.count == 0 ? "[]" : "]") }
        if self.format == .table, self.count == 0 { return Output.note("there are no entries") }
        if self.hasMore { Output.note("there are more than the \(self.count) shown (--limit 0 shows all)") }
    }
}
