// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
import HoldfastCore
package import HoldfastRedis
package import HoldfastRedisCache

/// What processes share a cache through: the tier with its entries, and the bus.
package struct CacheParts: Sendable {
    /// Where entries are.
    package let tier: RedisCacheTier
    /// Where changes are told.
    package let bus: RedisCacheBus

    /// How long an operator waits for a call: hundreds of entries on a busy server take longer than a lock.
    package static let operatorPatience: Duration = .seconds(5)

    /// Makes them of a store's URL, on the same connections.
    ///
    /// - Parameters:
    ///   - url: One Redis, a Sentinel's master, or a cluster.
    ///   - patience: How long a call may take, where the URL does not say; `nil` for the default.
    /// - Returns: The parts; nothing is sent yet.
    /// - Throws: ``CommandFailure`` when the URL names something else.
    package static func make(_ url: StoreURL, patience: Duration? = nil) throws -> CacheParts {
        guard case .redis(let text) = url, !RedisQuorumConfiguration.names(severalIn: text) else {
            throw CommandFailure(
                ExitStatus.configuration,
                "a shared cache needs one Redis, a Sentinel or a cluster; use --store redis://HOST"
            )
        }
        let connection = try RedisCacheConnection(configuration: try Self.configuration(text, patience))
        return CacheParts(tier: try RedisCacheTier(connection), bus: RedisCacheBus(connection))
    }

    /// How the servers are reached: as patiently as the URL says, else as an operator.
    package static func configuration(_ url: String, _ patience: Duration?) throws -> RedisConfiguration {
        var configuration = try RedisConfiguration(url: url)
        if let patience, !RedisConfiguration.sets("timeout", in: url) { configuration.timeout = patience }
        return configuration
    }
}
