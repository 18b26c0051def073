// SPDX-License-Identifier: Apache-2.0

package import ArgumentParser
import Glibc
import HoldfastCache

/// `holdfast cache get`.
package struct CacheGetCommand: AsyncParsableCommand {
    /// What `--help` says.
    package static let configuration = CommandConfiguration(
        commandName: "get",
        abstract: "Print the value of a key.",
        discussion: """
            holdfast cache get products 42 | jq .name
            holdfast cache get products 42 --format json    with version, age, time left, tags
            holdfast cache get images logo --raw > logo.png

            Exits 1 when there is no value that a service could use, 65 when it is not JSON and --raw was not given. A \
            stale value is printed with a note on stderr. On a terminal --raw shows control characters as \\u{…}.
            """
    )

    @OptionGroup var target: CacheTarget
    @Argument(help: "The key.") var key: String
    @Flag(name: .long, help: "Print the value's bytes as they are, whatever made them.")
    var raw = false
    @OptionGroup var output: FormatOptions

    /// Makes the command, for the parser.
    package init() {}

    /// Checks what excludes each other, for the parser.
    package func validate() throws {
        if self.raw, self.output.format != .table { throw ValidationError("--raw and --format exclude each other") }
    }

    /// Gets.
    package func run() async throws {
        let cache = try self.target.open()
        guard let found = try await cache.inspector.inspect([self.key]).first else { return }
        let view = CacheEntryView(found)
        if self.output.format != .table {
            try Output.line(view.json(includesValue: true).text)
            if view.absence != nil { throw CommandFailure(ExitStatus.failure) }
            return
        }
        let shown = TerminalText.escaped(self.key)
        if let absence = view.absence {
            throw CommandFailure(
                ExitStatus.failure,
                "'\(shown)' \(absence) (`holdfast cache explain` says more)"
            )
        }
        guard let envelope = view.envelope else { return }
        if found.standing == .stale || found.standing == .revalidating, let left = view.freshFor {
            Output.note("'\(shown)' is stale since \(DurationText.short(.zero - left))")
        }
        if self.raw { return try Self.write(envelope.payload) }
        guard let value = view.value else {
            throw CommandFailure(
                ExitStatus.dataError,
                "'\(shown)' is not JSON (\(view.codec ?? "-"), \(envelope.payload.count) bytes); --raw prints its bytes"
            )
        }
        try Output.line(value.text)
    }

    private static func write(_ bytes: ArraySlice<UInt8>) throws {
        guard isatty(STDOUT_FILENO) == 1 else { return try Output.write(bytes, to: STDOUT_FILENO) }
        try Output.line(TerminalText.escaped(String(decoding: bytes, as: UTF8.self)))
    }
}
