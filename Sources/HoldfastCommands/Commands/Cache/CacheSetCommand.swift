// SPDX-License-Identifier: Apache-2.0

package import ArgumentParser
import HoldfastCache

/// `holdfast cache set`.
package struct CacheSetCommand: AsyncParsableCommand {
    /// What `--help` says.
    package static let configuration = CommandConfiguration(
        commandName: "set",
        abstract: "Store a value under a key, for all services.",
        discussion: """
            holdfast cache set products 42 '{"name":"anvil"}' --ttl 5m --tag shop/7
            holdfast cache set products 42 < product.json
            holdfast cache set greetings en 'Hello' --raw

            The value is JSON, which services read with their JSON codec; what does not fit their type is a miss for \
            them. Loads of the key that are under way are not stored over it. Put -- before a value that begins with -. \
            Prints the version.
            """
    )

    @OptionGroup var target: CacheTarget
    @Argument(help: "The key.") var key: String
    @Argument(help: "The value, or - for stdin.") var value = "-"
    @Option(
        name: .long,
        help: ArgumentHelp(
            "How long it is fresh. Default: for as long as it is there, at most \(DurationText.short(CacheLimits.longestLife)).",
            valueName: "duration"
        ),
        transform: DurationText.parse
    )
    var ttl: Duration?
    @Option(
        name: .customLong("tag"),
        help: ArgumentHelp("What it can be invalidated by; may be given several times.", valueName: "tag")
    )
    var tags: [String] = []
    @Flag(name: .long, help: "The value is a text and not JSON; it is stored as a JSON string.")
    var raw = false
    @OptionGroup var output: FormatOptions

    /// Makes the command, for the parser.
    package init() {}

    /// Sets.
    package func run() async throws {
        let cache = try self.target.open()
        let value = try await self.json()
        let draft = TierEditor.Draft(
            key: self.key,
            value: value.bytes,
            timeToLive: self.ttl,
            tags: self.tags
        )
        try draft.validate(in: self.target.namespace)
        if value.bytes.count > CacheLimits.defaultMaximumValue {
            Output.note(
                "more than \(CacheLimits.defaultMaximumValue) bytes: only services with a larger maximumSharedValue read it"
            )
        }
        guard let version = try await cache.editor.write([draft]).first ?? nil else {
            throw CommandFailure(ExitStatus.unavailable, "the store wrote nothing")
        }
        switch self.output.format {
        case .table: try Output.line("version \(version)")
        case .json, .jsonl:
            try Output.line(
                JSONValue.object([
                    .init("key", .string(self.key)), .init("version", .integer(Int64(clamping: version))),
                ]).text
            )
        }
    }

    private func json() async throws -> JSONText {
        var bytes = Array(self.value.utf8)
        if self.value == "-" {
            guard let all = try await InputReader("-").all(limit: CacheLimits.largestValue) else {
                throw CommandFailure(
                    ExitStatus.configuration,
                    "the value has more than \(CacheLimits.largestValue) bytes"
                )
            }
            bytes = all
        }
        if self.raw {
            guard let text = String(validating: bytes, as: UTF8.self) else {
                throw CommandFailure(ExitStatus.dataError, "the value is not UTF-8; nothing was stored")
            }
            return JSONText(string: text)
        }
        guard !JSONCheck.hasMark(bytes) else {
            throw CommandFailure(
                ExitStatus.dataError,
                "the value is not JSON: it begins with a byte order mark; nothing was stored"
            )
        }
        guard let json = JSONText(bytes) else {
            throw CommandFailure(
                ExitStatus.dataError,
                "the value is not JSON; nothing was stored (--raw stores it as a text, and quotes make it one: '\"text\"')"
            )
        }
        return json
    }
}
