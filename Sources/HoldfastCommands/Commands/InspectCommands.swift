// SPDX-License-Identifier: Apache-2.0

package import ArgumentParser
import Holdfast
import HoldfastCore

/// `holdfast ls`.
package struct ListCommand: AsyncParsableCommand {
    /// What `--help` says.
    package static let configuration = CommandConfiguration(
        commandName: "ls",
        abstract: "List what is held, by whom, since when, from where.",
        discussion: "holdfast ls 'invoices/*' --format json | jq -r '.[].resource'"
    )

    @Argument(help: "Names to list; * stands for any text, ? for one character.")
    var pattern = "*"
    @OptionGroup var storage: StoreOptions
    @OptionGroup var output: FormatOptions

    /// Makes the command, for the parser.
    package init() {}

    /// Lists.
    package func run() async throws {
        let pattern = ResourcePattern(self.pattern)
        let statuses = try await self.storage.withService { service, _ in
            try await service.found(pattern)
        }.sorted { $0.resource < $1.resource }
        switch self.output.format {
        case .table:
            if statuses.isEmpty { return Output.note("nothing is held") }
            let style = TerminalStyle.forOutput()
            for line in StatusView.holders(statuses).lines(style: style) { try Output.line(line) }
        case .json, .jsonl: try self.output.writeJSON(statuses.map(StatusView.json))
        }
    }
}

extension LockService {
    /// All that is not free; says so when there are places that may not be read.
    func found(_ pattern: ResourcePattern) async throws -> [ResourceStatus] {
        var statuses: [ResourceStatus] = []
        var pages = self.survey(pattern).makeAsyncIterator()
        while let status = try await pages.next() { statuses.append(status) }
        if pages.hidden > 0 {
            let places = pages.hidden == 1 ? "one place" : "\(pages.hidden) places"
            Output.note("\(places) may not be read by this user; what is held there is not shown")
        }
        return statuses
    }
}

/// `holdfast show`.
package struct ShowCommand: AsyncParsableCommand {
    /// What `--help` says.
    package static let configuration = CommandConfiguration(
        commandName: "show",
        abstract: "Show one lock: its holders and who waits for it."
    )

    @Argument(help: "The name of the lock.")
    var name: String
    @OptionGroup var storage: StoreOptions
    @OptionGroup var output: FormatOptions

    /// Makes the command, for the parser.
    package init() {}

    /// Shows.
    package func run() async throws {
        let resource = try Resource(self.name)
        let status = try await self.storage.withService { service, _ in try await service.status(of: resource) }
        guard self.output.format == .table else { return try Output.line(StatusView.json(status).text) }
        if status.isFree { return try Output.line("'\(TerminalText.escaped(self.name))' is free") }
        let style = TerminalStyle.forOutput()
        for line in StatusView.holders([status]).lines(style: style) { try Output.line(line) }
        let waiters = StatusView.waiters(status)
        if waiters.isEmpty { return }
        try Output.line("")
        for line in waiters.lines(style: style) { try Output.line(line) }
    }
}

/// `holdfast watch`.
package struct WatchCommand: AsyncParsableCommand {
    /// What `--help` says.
    package static let configuration = CommandConfiguration(
        commandName: "watch",
        abstract: "Print what changes, until interrupted.",
        discussion: """
            Looks at the store at an interval: what comes and goes between two looks is not seen. The kinds are \
            acquired, ended (for whatever reason), waiting, left (stopped waiting) and resting.
            """
    )

    @Argument(help: "Names to watch; * stands for any text, ? for one character.")
    var pattern = "*"
    @Option(
        name: .long,
        help: ArgumentHelp("How often to look.", valueName: "duration"),
        transform: DurationText.parse
    )
    var interval: Duration = .milliseconds(250)
    @OptionGroup var storage: StoreOptions
    @OptionGroup var output: FormatOptions

    /// Makes the command, for the parser.
    package init() {}

    /// Watches.
    package func run() async throws {
        guard self.interval >= .milliseconds(10) else {
            throw CommandFailure(ExitStatus.configuration, "an interval below 10ms would only load the store")
        }
        let (pattern, interval, format) = (ResourcePattern(self.pattern), self.interval, self.output.format)
        try await self.storage.withService { service, _ in
            var before: [Resource: ResourceStatus] = [:]
            var isFirst = true
            var isAway = false
            while true {
                let after: [Resource: ResourceStatus]
                do {
                    after = try await service.survey(pattern).reduce(into: [:]) { $0[$1.resource] = $1 }
                } catch let error as LockError where error.code == .storeUnavailable && !isFirst {
                    // What happens meanwhile is not seen; what it leads to is.
                    if !isAway { Output.note("the store does not answer; watching on") }
                    isAway = true
                    try await Task.sleep(for: interval, clock: .continuous)
                    continue
                }
                if isAway { Output.note("the store answers again") }
                (isFirst, isAway) = (false, false)
                for change in SurveyChange.between(before, after) {
                    try Output.line(format == .table ? Self.line(change) : Self.json(change).text)
                }
                before = after
                try await Task.sleep(for: interval, clock: .continuous)
            }
        }
    }

    private static func line(_ change: SurveyChange) -> String {
        let who = change.owner.map { "  \($0)" } ?? ""
        return "\(WallClock.timeOfDay)  \(change.kind.rawValue)  \(TerminalText.escaped(change.resource.name + who))"
    }

    private static func json(_ change: SurveyChange) -> JSONValue {
        .object([
            .init("time", .string(WallClock.timestamp)),
            .init("event", .string(change.kind.rawValue)),
            .init("resource", .string(change.resource.name)),
            .init("who", change.details),
        ])
    }
}

/// `holdfast revoke`.
package struct RevokeCommand: AsyncParsableCommand {
    /// What `--help` says.
    package static let configuration = CommandConfiguration(
        commandName: "revoke",
        abstract: "Ask the holders of a lock to let go, or take it from them.",
        discussion: """
            Without --force holders are asked: a command under `holdfast run` gets TERM, a program gets an event. \
            With --force the lock goes to the next waiter at once; its holders are told, but may still act for a \
            moment, so be sure that they are gone or that what they write to checks fencing tokens. Holders of other \
            libraries mostly cannot be asked; when nobody can, this says so and ends with 1.

            holdfast revoke nightly
            holdfast revoke nightly --force
            """
    )

    @Argument(help: "The name of the lock.")
    var name: String
    @Flag(name: .long, help: "Take the lock away.")
    var force = false
    @OptionGroup var storage: StoreOptions

    /// Makes the command, for the parser.
    package init() {}

    /// Revokes.
    package func run() async throws {
        let (resource, force) = (try Resource(self.name), self.force)
        let shown = TerminalText.escaped(self.name)
        let (holders, reached) = try await self.storage.withService { service, _ in
            guard !force else {
                let holders = try await service.forceRelease(resource)
                return (holders, holders.count)
            }
            let reply = try await service.revoke(resource)
            return (reply.asked, reply.reached)
        }
        guard !holders.isEmpty else {
            throw CommandFailure(ExitStatus.failure, "'\(shown)' is not held (`holdfast ls` lists what is)")
        }
        // Ours hear of it at their next renewal if not at once.
        guard reached > 0 || holders.contains(where: { $0.owner != nil }) else {
            let names = holders.map { TerminalText.escaped($0.name) }.joined(separator: ", ")
            throw CommandFailure(
                ExitStatus.failure,
                "'\(shown)' is held by \(names), which cannot be asked; if it is gone or must stop, take the lock from it: "
                    + "holdfast revoke '\(shown)' --force"
            )
        }
        for holder in holders {
            try Output.line("\(force ? "took" : "asked") \(TerminalText.escaped(holder.name))")
        }
    }
}
