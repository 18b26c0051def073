// SPDX-License-Identifier: Apache-2.0

package import ArgumentParser
import Holdfast
import HoldfastCore

/// `holdfast run`.
package struct RunCommand: AsyncParsableCommand {
    /// What `--help` says.
    package static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Run a command while holding a lock.",
        discussion: """
            holdfast run nightly -- ./job.sh
            holdfast run --wait 0 nightly -- ./job.sh || echo "still running"
            holdfast run --shared --wait 10s data -- ./report.sh

            The command runs in a process group of its own and gets the signals INT, TERM, HUP, QUIT, USR1, USR2 and \
            WINCH. If the lock is lost, the group gets TERM a tenth of the lease before it can pass to another, and \
            KILL the kill margin before that; also when holdfast itself is killed or stopped. `holdfast revoke` sends \
            it TERM. What the command leaves running in its group when it ends gets TERM too, and KILL 0.1 s later. \
            Processes that leave the group are not covered.

            The command sees HOLDFAST_RESOURCE, HOLDFAST_FENCING_TOKEN (hand it to what you write to), \
            HOLDFAST_OWNER, and HOLDFAST_VALID_UNTIL: the end of the first lease in seconds as in /proc/uptime.

            Exit codes: the command's own, 128+n when signal n ended it, 126 and 127 as in shells; \
            75 not acquired in time; 76 lock lost, command stopped; 77 deadlock; 78 wrong setting; \
            69 store unavailable; 64 wrong arguments; 130 interrupted while waiting.
            """
    )

    @OptionGroup var lock: LockOptions
    @OptionGroup var storage: StoreOptions

    @Option(
        name: .long,
        help: ArgumentHelp(
            "How long before the end of the lease the command is killed, at most a quarter of it. Default: 3 % of it.",
            valueName: "duration"
        ),
        transform: DurationText.parse
    )
    var killMargin: Duration?

    @Argument(parsing: .postTerminator, help: "The command and its arguments, after `--`.")
    var command: [String] = []

    /// Makes the command, for the parser.
    package init() {}

    /// The command byte by byte, as it was given: the parser's strings are mended where that is not UTF-8.
    private var rawCommand: [CText] {
        let given = CText.arguments.drop { $0 != CText("--") }.dropFirst()
        let parsed = self.command.map { CText($0) }
        let isSame = given.map { String(decoding: $0.bytes, as: UTF8.self) } == self.command
        return isSame ? Array(given) : parsed
    }

    /// Runs the command under the lock and ends with its exit code.
    package func run() async throws {
        guard !self.command.isEmpty else {
            throw CommandFailure(ExitStatus.usage, "no command; write: holdfast run NAME -- COMMAND")
        }
        let margins = try KillMargins(lease: self.lock.lease, killMargin: self.killMargin)
        var configuration = LockServiceConfiguration()
        configuration.timeline = margins.policy
        configuration.outageLimit = self.lock.outageLimit
        if try self.storage.url() == .memory { Output.note("a lock in memory: keeps nobody out but this command") }
        let session = RunSession(
            lock: self.lock,
            resource: try self.lock.resource,
            command: self.rawCommand,
            margins: margins
        )
        let status = try await self.storage.withService(configuration: configuration) { service, _ in
            try await session.run(on: service)
        }
        throw CommandFailure(status)
    }
}
