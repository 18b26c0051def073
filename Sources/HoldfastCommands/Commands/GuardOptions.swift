// SPDX-License-Identifier: Apache-2.0

package import ArgumentParser
package import Holdfast
import HoldfastCore

/// A command to be run under a lock, and how.
package struct GuardOptions: ParsableArguments {
    /// The names of the locks.
    @Argument(
        help:
            "The names of the locks, all or none of which are taken: 1 to 512 bytes, no control characters, no braces."
    )
    package var names: [String]

    /// How to lock them.
    @OptionGroup package var lock: LockOptions
    /// The store.
    @OptionGroup package var storage: StoreOptions

    /// The kill margin.
    @Option(
        name: .long,
        help: ArgumentHelp(
            "How long before the end of the lease the command is killed, at most a quarter of it. Default: 3 % of it.",
            valueName: "duration"
        ),
        transform: DurationText.parse
    )
    package var killMargin: Duration?

    /// What to do about deadlocks.
    package enum Deadlocks: String, Sendable, CaseIterable, ExpressibleByArgument {
        /// End one.
        case detect
        /// Say so and wait on.
        case report
        /// Do not look.
        case off
    }

    /// What to do when requests wait for each other.
    @Option(
        name: .long,
        help: ArgumentHelp(
            "detect: one of those who wait for each other gives up, exit code 77; report: say so and wait on; off.",
            valueName: "policy"
        )
    )
    package var deadlocks = Deadlocks.detect

    /// Makes options without values, for the parser.
    package init() {}

    /// The command and its arguments, byte by byte as they were given: what stands after the first `--`.
    ///
    /// The parser does not see it: its strings are mended where that is not UTF-8.
    private var command: [CText] { Array(CText.arguments.drop { $0 != .terminator }.dropFirst()) }

    private var margins: KillMargins {
        get throws { try KillMargins(lease: self.lock.lease, killMargin: self.killMargin) }
    }

    private var inherited: InheritedOwner? {
        Inheritance.read(label: self.lock.label ?? self.command.first?.lastPathComponent)
    }

    /// Runs work with the command's session on a service that is set up for it.
    ///
    /// - Parameter work: What to do.
    /// - Returns: What the work returns.
    /// - Throws: ``CommandFailure`` when there is nothing to run or a setting is wrong, or what the work throws.
    package func run(
        _ work: @escaping @Sendable (RunSession, LockService) async throws -> RunSession.Outcome
    ) async throws -> RunSession.Outcome {
        let session = try self.session()
        let observer = self.deadlocks == .report ? DeadlockNotes() : nil
        return try await self.storage.withService(configuration: self.configuration, observer: observer) { service, _ in
            try await work(session, service)
        }
    }

    /// How the lock service has to work for this.
    private var configuration: LockServiceConfiguration {
        get throws {
            var configuration = LockServiceConfiguration()
            configuration.timeline = try self.margins.policy
            configuration.outageLimit = self.lock.outageLimit
            configuration.inherited = self.inherited
            switch self.deadlocks {
            case .detect: break
            case .report: configuration.deadlocks = .report(after: configuration.deadlocks.delay ?? .zero)
            case .off: configuration.deadlocks = .off
            }
            return configuration
        }
    }

    /// What to run.
    ///
    /// - Throws: ``CommandFailure`` when there is nothing to run or a setting is wrong.
    private func session() throws -> RunSession {
        guard !self.command.isEmpty else {
            throw CommandFailure(ExitStatus.usage, "no command; write: holdfast run NAME -- COMMAND")
        }
        if try self.storage.url() == .memory { Output.note("a lock in memory: keeps nobody out but this command") }
        let resources = try self.names.map { try Resource($0) }
        guard resources.count == 1 || !self.lock.barging else {
            throw CommandFailure(ExitStatus.configuration, "--barging is for one lock; several are taken in turn")
        }
        return RunSession(
            lock: self.lock,
            resources: resources,
            command: self.command,
            margins: try self.margins,
            inherited: self.inherited
        )
    }
}
