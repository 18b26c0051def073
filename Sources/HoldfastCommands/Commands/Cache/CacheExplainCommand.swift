// SPDX-License-Identifier: Apache-2.0

package import ArgumentParser
import Holdfast
import HoldfastCache
import HoldfastCore
import HoldfastRedis
import HoldfastRedisCache

/// `holdfast cache explain`.
package struct CacheExplainCommand: AsyncParsableCommand {
    /// What `--help` says.
    package static let configuration = CommandConfiguration(
        commandName: "explain",
        abstract: "Say why services get a key from the cache, or not, and who loads it.",
        discussion: """
            holdfast cache explain products 42

            What is in the memory of a service is not known here; it follows the tier. Who loads the key now is known by \
            the lock, and who loaded what lies in the tier is written there. The lock under which services load \
            the key is looked up in the same store, so services that keep their locks elsewhere are not seen. Who may \
            not read it, since that takes permissions of its own, is told why, and the entry is explained all the same.
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
        let lock = try await self.look(at: resource)
        let explanation = CacheExplanation(CacheEntryView(found), remainder, lock)
        guard self.output.format == .table else { return try Output.line(explanation.json.text) }
        for line in explanation.lines { try Output.line(line) }
    }

    /// What is known of the lock; what lies in the tier is worth knowing without it.
    private func look(at resource: Resource) async throws -> CacheExplanation.Lock {
        guard case .redis(let url) = try self.target.storage.url() else { return .unknown("it is in another store") }
        let configuration = try CacheParts.configuration(url, CacheParts.operatorPatience)
        do {
            let store = try RedisLockStore(configuration: configuration)
            return .seen(try await withLockService(store: store) { try await $0.status(of: resource) })
        } catch let error as LockError {
            return .unknown(Self.words(error, configuration))
        }
    }

    /// Why a lock cannot be read, with what a user of caches alone would have to be permitted.
    private static func words(_ error: LockError, _ configuration: RedisConfiguration) -> String {
        guard (error.underlying as? RedisErrorLine)?.lack == .key else { return error.message }
        let start = configuration.prefix + TierInspector.resources
        let keys = RedisPermissions.rules(prefix: start).filter { $0.hasPrefix("~") && $0.contains(start) }
        return "the Redis user may not touch the keys of locks; permit \(keys.joined(separator: " and "))"
    }
}
