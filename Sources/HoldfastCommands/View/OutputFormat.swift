// SPDX-License-Identifier: Apache-2.0

package import ArgumentParser

/// For whom output is made.
package enum OutputFormat: String, Sendable, CaseIterable, ExpressibleByArgument {
    /// For people.
    case table
    /// One JSON value.
    case json
    /// A JSON value on each line.
    case jsonl
}

/// The option `--format`.
package struct FormatOptions: ParsableArguments {
    /// The format.
    @Option(name: .long, help: "table for people, json or jsonl (a value on each line) for scripts.")
    package var format: OutputFormat = .table

    /// Makes options without values, for the parser.
    package init() {}

    /// Writes values as JSON in one of the two ways.
    package func writeJSON(_ values: [JSONValue]) throws {
        if self.format == .json {
            try Output.line(JSONValue.array(values).text)
        } else {
            for value in values { try Output.line(value.text) }
        }
    }
}
