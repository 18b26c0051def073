// SPDX-License-Identifier: Apache-2.0

package import ArgumentParser
package import HoldfastCore

#if canImport(FoundationEssentials)
import FoundationEssentials
#else
import Foundation
#endif

/// Where a script keeps its grant: a file, stdin and stdout, or the environment; never the arguments, which `ps` shows.
package struct GrantSource: ParsableArguments {
    /// The file.
    @Option(
        name: .long,
        help: ArgumentHelp(
            "The file with the grant, or - for stdin. Default: $HOLDFAST_GRANT, which holds the grant itself.",
            valueName: "file"
        )
    )
    package var grant: String?

    /// Makes options without values, for the parser.
    package init() {}

    /// Whether the grant is in a file of its own, which can be replaced.
    package var file: String? { self.grant == "-" ? nil : self.grant }

    /// Reads the grant.
    ///
    /// - Throws: ``CommandFailure``; its message never repeats what was read.
    package func read(environment: Environment = .process) throws -> Grant {
        let text: String
        switch self.grant {
        case "-": text = try SecretFile.text(from: 0, named: "the grant")
        case let file?: text = try SecretFile.text(of: file)
        case nil:
            guard let value = environment["HOLDFAST_GRANT"], !value.isEmpty else {
                throw CommandFailure(
                    ExitStatus.configuration,
                    "no grant; give --grant FILE, --grant - or $HOLDFAST_GRANT"
                )
            }
            text = value
        }
        return try Self.decode(text)
    }

    /// Reads a grant from its JSON.
    ///
    /// - Throws: ``CommandFailure``.
    package static func decode(_ text: String) throws -> Grant {
        do {
            return try JSONDecoder().decode(Grant.self, from: Data(text.utf8))
        } catch {
            throw CommandFailure(
                ExitStatus.configuration,
                "this is not a grant; use what `holdfast acquire` printed, whole and unchanged"
            )
        }
    }

    /// A grant as one line of JSON.
    ///
    /// It holds the secret id.
    package static func encode(_ grant: Grant) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return String(decoding: try encoder.encode(grant), as: UTF8.self) + "\n"
    }
}
