// SPDX-License-Identifier: Apache-2.0

package import ArgumentParser

/// The command line's root.
package struct HoldfastCommand: AsyncParsableCommand {
    /// What `--help` says.
    package static let configuration = CommandConfiguration(
        commandName: "holdfast",
        abstract: "Locks for processes, on one machine or many.",
        discussion: """
            holdfast run nightly -- ./job.sh        run a job under a lock
            holdfast ls                             who holds what, since when, from where
            holdfast why nightly                    who is in the way, down to the root

            Locks live in a store: \(StoreURL.forms). Without --store and \
            $HOLDFAST_STORE it is a SQLite file of yours, for all processes of this machine.

            Completion: holdfast --generate-completion-script bash|zsh|fish
            """,
        version: "set at run time",
        subcommands: [
            RunCommand.self, ElectCommand.self, AcquireCommand.self, RenewCommand.self, ReleaseCommand.self,
            ListCommand.self, ShowCommand.self, WhyCommand.self, GraphCommand.self, WatchCommand.self,
            RevokeCommand.self, CacheCommand.self,
            DoctorCommand.self,
            BenchCommand.self, BenchWorkerCommand.self, StampedeWorkerCommand.self, DemoCommand.self,
            DemoWorkerCommand.self,
        ]
    )

    /// The names of the command and its subcommand that arguments begin with, each after a space.
    package static func path(of arguments: [String]) -> String {
        var (path, commands) = ("", self.configuration.subcommands)
        for argument in arguments {
            guard let command = commands.first(where: { $0.configuration.commandName == argument }) else { break }
            path += " \(argument)"
            commands = command.configuration.subcommands
        }
        return path
    }

    /// Makes the command, for the parser.
    package init() {}
}
