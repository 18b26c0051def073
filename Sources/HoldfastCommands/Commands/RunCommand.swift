// SPDX-License-Identifier: Apache-2.0

package import ArgumentParser
import Glibc
import Holdfast
import HoldfastCore

/// `holdfast run`.
package struct RunCommand: AsyncParsableCommand {
    /// What `--help` says.
    package static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Run a command while holding a lock.",
        usage: "holdfast run <name> ... [<options>] -- <command> ...",
        discussion: """
            holdfast run nightly -- ./job.sh
            holdfast run --wait 0 nightly -- ./job.sh || echo "still running"
            holdfast run --shared --wait 10s data -- ./report.sh
            holdfast run --mode permit:4 uploads -- ./upload.sh
            holdfast run accounts/1 accounts/2 -- ./transfer.sh

            The command runs in a process group of its own and gets the signals INT, TERM, HUP, QUIT, USR1, USR2 and \
            WINCH. If the lock is lost, the group gets TERM a tenth of the lease before it can pass to another, and \
            KILL the kill margin before that; also when holdfast itself is killed or stopped. `holdfast revoke` sends \
            it TERM. What the command leaves running in its group when it ends gets TERM too, and KILL 0.1 s later. \
            Processes that leave the group are not covered.

            Several names are taken all or none, in an order that keeps two commands from waiting for each other.

            The command sees HOLDFAST_RESOURCE, HOLDFAST_FENCING_TOKEN (hand it to what you write to; with several \
            names both are of the first, and HOLDFAST_FENCING_TOKENS has a line TOKEN NAME for each), \
            HOLDFAST_VALID_UNTIL (the end of the first lease in seconds as in /proc/uptime), and HOLDFAST_OWNER with \
            HOLDFAST_HOLDING: by these, `holdfast run` inside the command acts for the same owner, enters a lock that \
            it holds already, and is part of the search for deadlocks. A command that would wait for itself, or two \
            that wait for each other, end with 77 for one of them after 0.2 s.

            Exit codes: the command's own, 128+n when signal n ended it, 126 and 127 as in shells; \
            75 not acquired in time; 76 lock lost, command stopped; 77 deadlock; 78 wrong setting; \
            69 store unavailable; 64 wrong arguments; 130 interrupted while waiting.
            """
    )

    @OptionGroup var options: GuardOptions

    /// Makes the command, for the parser.
    package init() {}

    /// Runs the command under the lock and ends with its exit code.
    package func run() async throws {
        throw CommandFailure(try await self.options.run { try await $0.run(on: $1) }.status)
    }
}

/// `holdfast elect`.
package struct ElectCommand: AsyncParsableCommand {
    /// What `--help` says.
    package static let configuration = CommandConfiguration(
        commandName: "elect",
        abstract: "Run a command while leader, again and again.",
        usage: "holdfast elect <name> [<options>] -- <command> ...",
        discussion: """
            holdfast elect scheduler -- ./scheduler
            holdfast elect scheduler --lease 5s -- ./scheduler

            Of all who run this with one name, one is the leader and runs its command; the others wait their turn. A \
            leader that may lose the lock is stopped before another can lead, as under `holdfast run`, and campaigns \
            again. Ends with the command's exit code when it ends by itself, or when a signal ends it.

            A store that was reached and does not answer for longer than 5 s is tried again every second until it does; \
            with --wait, or when it cannot be reached at the start, that ends with 69. Other exit codes as for \
            `holdfast run`.
            """
    )

    @OptionGroup var options: GuardOptions

    /// Makes the command, for the parser.
    package init() {}

    /// Campaigns and leads until the command ends by itself.
    package func run() async throws {
        let waitsForever = self.options.lock.wait == nil
        let name = self.options.names.first
        let outcome = try await self.options.run { session, service in
            // Whoever has given a wrong address shall know at once.
            var isKnown = try await Self.unlessInterrupted { await Self.answers(service, name) }
            var isOut = false
            while true {
                do {
                    let outcome = try await session.run(on: service)
                    guard outcome.isLost, !outcome.isInterrupted else { return outcome }
                    Output.note("not the leader any more; campaigning again")
                    isKnown = true
                    isOut = false
                } catch let error as LockError where error.code == .storeUnavailable && isKnown && waitsForever {
                    if !isOut { Output.note("\(error.message); trying again until it answers") }
                    isOut = true
                    try await Self.unlessInterrupted { try await Task.sleep(for: Self.pause) }
                }
            }
        }
        throw CommandFailure(outcome.status)
    }

    /// How long to rest between tries at a store that does not answer; each lasts some seconds by itself.
    private static let pause: Duration = .seconds(1)

    private static func answers(_ service: LockService, _ name: String?) async -> Bool {
        guard let name, let resource = try? Resource(name) else { return false }
        return (try? await service.holders(of: resource)) != nil
    }

    /// Does what can be broken off, and ends the command when a signal does.
    private static func unlessInterrupted<Result: Sendable>(
        _ work: @escaping @Sendable () async throws -> Result
    ) async throws -> Result {
        let inbox = SignalInbox()
        do {
            return try await inbox.cancelling(work)
        } catch is CancellationError {
            throw CommandFailure(ExitStatus.signalled(inbox.received ?? SIGINT))
        }
    }
}
