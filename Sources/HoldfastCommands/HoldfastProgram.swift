// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Glibc
import HoldfastCache
import HoldfastCore

/// The program `holdfast`.
public enum HoldfastProgram {
    /// The version of this release.
    package static let version = "0.1.0"

    /// Runs the command that the arguments name and ends the process.
    public static func main() async -> Never {
        SignalRelay.shared.start()
        var arguments = Array(CommandLine.arguments.dropFirst())
        // What follows is a command's, and none of the parser's business.
        if Self.takesCommand(arguments), let end = arguments.firstIndex(of: "--") { arguments.removeSubrange(end...) }
        // The parser's own --version would have to know the libraries on every start.
        if arguments == ["--version"] { Self.printVersion() }
        guard CText.arguments.prefix(while: { $0 != .terminator }).allSatisfy(\.isUTF8) else {
            Self.end(CommandFailure(ExitStatus.usage, "an argument is not UTF-8; only the command after -- may be"))
        }
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
        } catch let error as CacheError {
            Self.end(CommandFailure(error))
        } catch is CancellationError {
            Self.end(CommandFailure(ExitStatus.signalled(SIGINT)))
        } catch {
            Self.end(error, arguments)
        }
    }

    /// Ends on the parser's word: help goes to stdout as it is, an error is one line with what to do.
    private static func end(_ error: any Error, _ arguments: [String]) -> Never {
        guard HoldfastCommand.exitCode(for: error) != .success else { HoldfastCommand.exit(withError: error) }
        let message = HoldfastCommand.message(for: error).split(separator: "\n").first.map(String.init) ?? "\(error)"
        let command = arguments.first.map { " \($0)" } ?? ""
        let hint =
            Self.takesCommand(arguments) && !CText.arguments.contains(.terminator)
            ? "the command goes after --, as in: holdfast\(command) NAME -- COMMAND"
            : "see holdfast\(HoldfastCommand.path(of: arguments)) --help"
        Self.end(CommandFailure(ExitStatus.usage, "\(TerminalText.escaped(message)) (\(hint))"))
    }

    private static func end(_ failure: CommandFailure) -> Never {
        if let message = failure.message { Output.note(message) }
        exit(failure.status)
    }

    private static func takesCommand(_ arguments: [String]) -> Bool { ["run", "elect"].contains(arguments.first) }

    private static func printVersion() -> Never {
        let libraries = StoreFactory.libraries.map { "\($0.name) \($0.version)" }.joined(separator: ", ")
        try? Output.line("holdfast \(Self.version)\(libraries.isEmpty ? "" : " (\(libraries))")")
        exit(ExitStatus.success)
    }
}
