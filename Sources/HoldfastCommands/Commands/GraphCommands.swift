// SPDX-License-Identifier: Apache-2.0

package import ArgumentParser
import Holdfast
import HoldfastCore

/// `holdfast graph`.
package struct GraphCommand: AsyncParsableCommand {
    /// The ways to draw it.
    package enum Format: String, Sendable, CaseIterable, ExpressibleByArgument {
        /// For people.
        case text
        /// Graphviz.
        case dot
        /// Mermaid.
        case mermaid
        /// JSON.
        case json
    }

    /// What `--help` says.
    package static let configuration = CommandConfiguration(
        commandName: "graph",
        abstract: "Draw who waits for whom, with deadlocks marked.",
        discussion: """
            holdfast graph
            holdfast graph 'invoices/*' --format dot | dot -Tsvg > waits.svg
            holdfast graph --format mermaid

            Arrows lead from a waiter to what it waits for, and from a lock to its holder. The locks are read one page \
            after the other: what changes meanwhile may show a circle that is none. Exits 77 when there is a deadlock.
            """
    )

    @Argument(help: "Names to draw; * stands for any text, ? for one character.")
    var pattern = "*"
    @Option(name: .long, help: "text, dot (Graphviz), mermaid or json.")
    var format: Format = .text
    @OptionGroup var storage: StoreOptions

    /// Makes the command, for the parser.
    package init() {}

    /// Draws.
    package func run() async throws {
        let pattern = ResourcePattern(self.pattern)
        let statuses = try await self.storage.withService { service, _ in try await service.found(pattern) }
        let view = WaitGraphView(statuses)
        switch self.format {
        case .text:
            if statuses.isEmpty { Output.note("nothing is held") }
            for line in view.lines(style: TerminalStyle.forOutput()) { try Output.line(line) }
        case .dot: try Output.line(view.dot)
        case .mermaid: try Output.line(view.mermaid)
        case .json: try Output.line(view.json.text)
        }
        if view.hasDeadlock { throw CommandFailure(ExitStatus.deadlock) }
    }
}

/// `holdfast why`.
package struct WhyCommand: AsyncParsableCommand {
    /// What `--help` says.
    package static let configuration = CommandConfiguration(
        commandName: "why",
        abstract: "Say why a lock is not free, down to the root.",
        discussion: """
            holdfast why nightly
            holdfast why nightly --format json

            Names the holders, what they wait for in turn, and what to do about it. On Redis, a wait is known once it \
            has lasted for 0.2 s.
            """
    )

    @Argument(help: "The name of the lock.")
    var name: String
    @OptionGroup var storage: StoreOptions
    @OptionGroup var output: FormatOptions

    /// Makes the command, for the parser.
    package init() {}

    /// Explains.
    package func run() async throws {
        let resource = try Resource(self.name)
        let statuses = try await self.storage.withService { _, store in
            let status = try await store.status(of: resource)
            var statuses: [ResourceStatus] = []
            if store.capabilities.showsWaits {
                for owner in status.holders.compactMap(\.owner) {
                    statuses += try await store.waits(of: owner, for: resource)
                }
            }
            return statuses + [status]
        }
        let view = WhyView(resource, statuses)
        if self.output.format == .table {
            for line in view.lines { try Output.line(line) }
        } else {
            try Output.line(view.json.text)
        }
    }
}
