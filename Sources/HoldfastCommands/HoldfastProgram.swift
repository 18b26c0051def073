// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Glibc
import HoldfastCore

/// The program `holdfast`.
public enum HoldfastProgram {
    /// The version of this release.
    package static let version = "0.1.0"

    /// Runs the command that the arguments name and ends the process.
    public static func main() async -> Never {
        SignalRelay.shared.start()
        let arguments = Array(CommandLine.arguments.dropFirst())
        // The parser's own --version would have to know the libraries on every start.
        if arguments == ["--version"] { Self.printVersion() }
        do {
            var command = try HoldfastCommand.parseAsRoot(arguments)
            if var command = command as? any AsyncParsableCommand {
                try await command.run()
            } else {
                try command.run()
            }
            exit(ExitStatus.success)
        } catch let failure as CommandFailure {
            Self.end(failure)
        } catch let error as LockError {
            Self.end(CommandFailure(error))
        } catch is CancellationError {
            Self.end(CommandFailure(ExitStatus.signalled(SIGINT)))
        } catch {
            HoldfastCommand.exit(withError: error)
        }
    }

    private static func end(_ failure: CommandFailure) -> Never {
        if let message = failure.message { Output.note(message) }
        exit(failure.status)
    }

    private static func printVersion() -> Never {
        let libraries = StoreFactory.libraries.map { "\($0.name) \($0.version)" }.joined(separator: ", ")
        try? Output.line("holdfast \(Self.version)\(libraries.isEmpty ? "" : " (\(libraries))")")
        exit(ExitStatus.success)
    }
}
