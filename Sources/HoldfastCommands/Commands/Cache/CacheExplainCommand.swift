// SPDX-License-Identifier: Apache-2.0

package import ArgumentParser
import Holdfast
import HoldfastCache
import HoldfastCore
import HoldfastRedisCache

/// `holdfast cache explain`.
package struct CacheExplainCommand: AsyncParsableCommand {
    /// What `--help` says.
    package static let configuration = CommandConfiguration(
        commandName: "explain",
        abstract: "Say why services get a key from the cache, or not, and who loads it.",
        discussion: """
            holdfast cache explain products 42

            What is in the memory of a service is not known here; it follows the tier. The lock under which services load \
            the key is looked up in the same store, so services that keep their locks elsewhere are not seen.
            """
    )

    @OptionGroup var target: CacheTarget
    @Argument(help: "The key.") var key: String
    @OptionGroup var output: FormatOptions

    /// Makes the command, for the parser.
    package init() {}

    /// Explains.
    package func run() async throws {
        let cache = try self.target.open()
        guard let found = try await cache.inspector.inspect([self.key]).first else { return }
        let remainder = try await cache.tier.remainder(of: self.key, in: self.target.namespace)
        let resource = TierInspector.resource(self.key, in: self.target.namespace)
        let status = try await self.target.storage.withService { service, _ in
            try await service.status(of: resource)
        }
        let explanation = CacheExplanation(CacheEntryView(found), remainder, status)
        guard self.output.format == .table else { return try Output.line(explanation.json.text) }
        for line in explanation.lines { try Output.line(line) }
    }
}
