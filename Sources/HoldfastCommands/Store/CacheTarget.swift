// SPDX-License-Identifier: Apache-2.0

package import ArgumentParser
package import HoldfastCache
package import HoldfastRedisCache

/// Which cache a command works on.
package struct CacheTarget: ParsableArguments {
    /// The cache's name.
    @Argument(help: "The cache's name in the services that use it.")
    package var namespace: String
    /// The store.
    @OptionGroup package var storage: StoreOptions

    /// Makes options without values, for the parser.
    package init() {}

    /// Opens the cache.
    ///
    /// - Returns: How to look at it and how to change it; nothing is sent yet.
    /// - Throws: ``CommandFailure`` or `CacheError` when the store can have no cache, or the cache no such name.
    package func open() throws -> (inspector: TierInspector, editor: TierEditor, tier: RedisCacheTier) {
        let parts = try CacheParts.make(try self.storage.url(), patience: CacheParts.operatorPatience)
        let inspector = try TierInspector(parts.tier, namespace: self.namespace)
        return (inspector, TierEditor(inspector, bus: parts.bus), parts.tier)
    }
}
