// SPDX-License-Identifier: Apache-2.0

package import ArgumentParser
import Glibc
import HoldfastCache

/// `holdfast cache rm`.
package struct CacheRemoveCommand: AsyncParsableCommand {
    /// What `--help` says.
    package static let configuration = CommandConfiguration(
        commandName: "rm",
        abstract: "Remove keys, for all services.",
        discussion: """
            holdfast cache rm products 42 43

            Loads of the keys that are under way are not stored: a mark of the removal stays for an hour. Exits 0 also \
            for keys that were not there.
            """
    )

    @OptionGroup var target: CacheTarget
    @Argument(help: "The keys.") var keys: [String]
    @OptionGroup var output: FormatOptions

    /// Makes the command, for the parser.
    package init() {}

    /// Removes.
    package func run() async throws {
        let cache = try self.target.open()
        var seen = Set<[UInt8]>()
        // By bytes, as the tier tells them apart.
        let keys = self.keys.filter { seen.insert(Array($0.utf8)).inserted }
        var versions: [UInt64] = []
        for some in keys.batches { versions += try await cache.editor.remove(some) }
        switch self.output.format {
        case .table: try Output.line("removed \(keys.count) \(keys.count == 1 ? "key" : "keys")")
        case .json, .jsonl:
            try self.output.writeJSON(
                zip(keys, versions).map { key, version in
                    .object([.init("key", .string(key)), .init("version", .integer(Int64(clamping: version)))])
                }
            )
        }
    }
}

/// `holdfast cache invalidate`.
package struct CacheInvalidateCommand: AsyncParsableCommand {
    /// What `--help` says.
    package static let configuration = CommandConfiguration(
        commandName: "invalidate",
        abstract: "Invalidate a key, a tag, a prefix or everything, for all services.",
        discussion: """
            holdfast cache invalidate products --tag shop/7
            holdfast cache invalidate products --prefix eu/
            holdfast cache invalidate products --key 42 --expire
            holdfast cache invalidate products --all --yes

            Takes one mark, however many entries it concerns: what was loaded before is not given any more, and \
            disappears when its time is over. --expire keeps the entry of a key as a stale one, which services give \
            while they load it anew, or when that fails, if they are set so; an entry whose writer allows no stale \
            value is removed.
            """
    )

    @OptionGroup var target: CacheTarget
    @Option(name: .long, help: ArgumentHelp("A key.", valueName: "key"))
    var key: String?
    @Option(name: .long, help: ArgumentHelp("All entries that carry it.", valueName: "tag"))
    var tag: String?
    @Option(name: .long, help: ArgumentHelp("All keys that start so.", valueName: "text"))
    var prefix: String?
    @Flag(name: .long, help: "Everything.")
    var all = false
    @Flag(name: .long, help: "Keep the entry of the key, as a stale one if it may be that.")
    var expire = false
    @Flag(name: .long, help: "Do not ask before --all.")
    var yes = false
    @OptionGroup var output: FormatOptions

    /// Makes the command, for the parser.
    package init() {}

    /// Checks what excludes each other, for the parser.
    package func validate() throws {
        let given = [self.key != nil, self.tag != nil, self.prefix != nil, self.all].count { $0 }
        guard given == 1 else { throw ValidationError("give one of --key, --tag, --prefix and --all") }
        guard !self.expire || self.key != nil else { throw ValidationError("--expire goes with --key") }
        guard self.prefix != "" else { throw ValidationError("an empty prefix is everything; use --all") }
        guard self.tag != "" else { throw ValidationError("a tag has 1 to \(CacheLimits.maximumTag) bytes") }
    }

    /// Invalidates.
    package func run() async throws {
        let cache = try self.target.open()
        if let key = self.key {
            let shown = TerminalText.escaped(key)
            if !self.expire {
                let version = try await cache.editor.remove([key]).first
                return try self.tell("removed '\(shown)'", version, as: "removed")
            }
            switch try await cache.editor.expire(key) {
            case .absent:
                throw CommandFailure(
                    ExitStatus.failure,
                    "'\(shown)' has no entry that could be made stale (`holdfast cache explain` says why)"
                )
            case .stale: return try self.tell("made '\(shown)' stale", nil, as: "stale")
            case .removed(let version):
                return try self.tell("removed '\(shown)': its writer allows no stale value", version, as: "removed")
            }
        }
        let scope: InvalidationScope
        if let tag = self.tag {
            scope = .tag(tag)
        } else if let prefix = self.prefix {
            scope = .prefix(prefix)
        } else {
            scope = .all
            try await self.confirm()
        }
        let mark = try await cache.editor.invalidate(scope)
        try self.tell("invalidated \(CacheEntryView.words(scope))", mark, as: "invalidated")
    }

    private func confirm() async throws {
        if self.yes { return }
        guard isatty(STDIN_FILENO) == 1 else {
            throw CommandFailure(ExitStatus.configuration, "--all needs --yes when nobody can be asked")
        }
        let question = "invalidate everything in '\(TerminalText.escaped(self.target.namespace))'? [y/N] "
        try Output.write(question, to: STDERR_FILENO)
        guard case .bytes(let answer)? = try await InputReader("-").line(limit: 100),
            ["y", "yes"].contains(String(decoding: answer, as: UTF8.self).lowercased())
        else { throw CommandFailure(ExitStatus.failure, "nothing was invalidated") }
    }

    private func tell(_ words: String, _ number: UInt64?, as outcome: String) throws {
        guard self.output.format != .table else { return try Output.line(words) }
        try Output.line(
            JSONValue.object([
                .init("key", .optional(self.key)),
                .init("tag", .optional(self.tag)),
                .init("prefix", .optional(self.prefix)),
                .init("all", .bool(self.all)),
                .init("mark", number.map { .integer(Int64(clamping: $0)) } ?? .null),
                .init("outcome", .string(outcome)),
            ]).text
        )
    }
}
