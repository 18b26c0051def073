// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
import HoldfastCore
import HoldfastRedis
package import HoldfastRedisCache

/// What processes share a cache through: the tier with its entries, and the bus.
package struct CacheParts: Sendable {
    /// Where entries are.
    package let tier: RedisCacheTier
    /// Where changes are told.
    package let bus: RedisCacheBus

    /// Makes them of a store's URL, on the same connections.
    ///
    /// - Parameter url: One Redis, a Sentinel's master, or a cluster.
    /// - Returns: The parts; nothing is sent yet.
    /// - Throws: ``CommandFailure`` when the URL names something else.
    package static func make(_ url: StoreURL) throws -> CacheParts {
        guard case .redis(let text) = url, !RedisQuorumConfiguration.names(severalIn: text) else {
            throw CommandFailure(
                ExitStatus.configuration,
                "a shared cache needs one Redis, a Sentinel or a cluster; use --store redis://HOST"
            )
        }
        let connection = try RedisCacheConnection(configuration: try RedisConfiguration(url: text))
        return CacheParts(tier: try RedisCacheTier(connection), bus: RedisCacheBus(connection))
    }
}
