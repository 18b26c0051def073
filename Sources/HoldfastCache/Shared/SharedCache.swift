// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// A cache that several processes share: memory in front of a tier, one loader for all, and news of changes.
///
/// ```swift
/// let redis = try RedisCacheConnection(url: url)
/// let caches = try CacheService(tier: RedisCacheTier(redis), bus: RedisCacheBus(redis), locks: locks)
/// let products = try caches.sharedCache("products", of: Product.self, keyedBy: Int.self) {
///     $0.options.timeToLive = .seconds(60)
/// }
/// let product = try await products.value(for: 42) { try await database.product(42) }
/// try await products.remove(42)  // here, in the tier, and in the memory of every other process
/// ```
///
/// Made by ``CacheService/sharedCache(_:of:keyedBy:codec:configure:)``; processes that share one must configure it alike.
///
/// What it promises, besides what ``Cache`` does: with locks, at most one process loads a key at a time, and what it loaded
/// is not written over anything newer. When that process dies, another loads after ``CacheConfiguration/fillLease`` at the
/// latest, and a late write of the first is refused. What was loaded before an invalidation is not given after it by any
/// process that reads the tier. What it does not: memory of other processes follows a change when the bus brings the news,
/// usually within milliseconds; where news may be missing, memory is checked against the tier again before it is given.
/// Without the tier, the lock service or the bus, caches go on by themselves; statistics and events say so.
public final class SharedCache<Key: CacheKey, Value: Sendable>: Sendable {
    let memory: Cache<Key, Value>
    let link: SharedLink<Key, Value>

    init(_ memory: Cache<Key, Value>, _ link: SharedLink<Key, Value>) {
        self.memory = memory
        self.link = link
    }

    /// The cache's name, and the namespace of the tier.
    public var name: String { self.memory.name }

    /// How entries live unless a call or a loader says otherwise.
    public var options: CacheOptions { self.memory.options }

    /// What the cache did in this process since it was made.
    ///
    /// - Returns: The statistics.
    public func statistics() -> CacheStatistics { self.memory.statistics() }

    // MARK: - Reading

    /// The value of a key: from memory, from the tier, or loaded.
    ///
    /// From memory it takes no round trip; from the tier one, and one more if it has tags; loaded, in addition those of
    /// the lock, one look, one write.
    ///
    /// - Parameters:
    ///   - key: The key.
    ///   - options: How the entry lives; `nil` for as the cache says. Whose count is as for
    ///     ``Cache/value(for:options:loader:)-(_,_,Loader)``.
    ///   - loader: Loads the value; throws ``NotFound`` when there is none.
    /// - Returns: The value: a fresh one, or one that the options allow to be stale.
    /// - Throws: As ``Cache/value(for:options:loader:)-(_,_,Loader)``.
    public func value(
        for key: Key,
        options: CacheOptions? = nil,
        loader: @escaping Cache<Key, Value>.Loader
    ) async throws -> Value {
        try await self.memory.value(for: key, options: options, loader: loader)
    }

    /// The value of a key, loaded if need be by a loader that has nothing more to say about it.
    ///
    /// - Parameters:
    ///   - key: The key.
    ///   - options: How the entry lives; `nil` for as the cache says.
    ///   - loader: Loads the value; throws ``NotFound`` when there is none.
    /// - Returns: The value.
    /// - Throws: As ``Cache/value(for:options:loader:)-(_,_,Loader)``.
    public func value(
        for key: Key,
        options: CacheOptions? = nil,
        loader: @escaping @Sendable () async throws -> Value
    ) async throws -> Value {
        try await self.memory.value(for: key, options: options) { _ in try await loader() }
    }

    /// The values of several keys; those that are neither in memory nor in the tier are loaded together.
    ///
    /// One call of the loader gets the keys that nobody has and no other process is loading. One look into the tier for
    /// all, their locks at the same time, another look, one write.
    ///
    /// - Parameters:
    ///   - keys: The keys, in any order and any number.
    ///   - options: How the entries live; `nil` for as the cache says.
    ///   - loader: Loads the missing ones; keys that it leaves out have no value.
    /// - Returns: The values of the keys that have one.
    /// - Throws: As ``Cache/values(for:options:loader:)-(_,_,BatchLoader)``.
    public func values(
        for keys: some Sequence<Key>,
        options: CacheOptions? = nil,
        loader: @escaping Cache<Key, Value>.BatchLoader
    ) async throws -> [Key: Value] {
        try await self.memory.values(for: keys, options: options, loader: loader)
    }

    /// The values of several keys, loaded if need be by a loader that has nothing more to say about them.
    ///
    /// - Parameters:
    ///   - keys: The keys.
    ///   - options: How the entries live; `nil` for as the cache says.
    ///   - loader: Loads the missing ones.
    /// - Returns: The values of the keys that have one.
    /// - Throws: As ``Cache/values(for:options:loader:)-(_,_,BatchLoader)``.
    public func values(
        for keys: some Sequence<Key>,
        options: CacheOptions? = nil,
        loader: @escaping @Sendable ([Key]) async throws -> [Key: Value]
    ) async throws -> [Key: Value] {
        try await self.memory.values(for: keys, options: options) { keys, _ in try await loader(keys) }
    }

    /// The value of a key, if a fresh one is in this process' memory.
    ///
    /// - Parameter key: The key.
    /// - Returns: The value.
    public func cached(_ key: Key) -> Value? { self.memory.cached(key) }

    /// Whether a fresh value is in this process' memory; does not count as a read.
    ///
    /// - Parameter key: The key.
    /// - Returns: Whether ``cached(_:)`` would give one; ``get(_:)`` may give one from the tier all the same.
    public func contains(_ key: Key) -> Bool { self.memory.contains(key) }
}

extension CacheService {
    /// Makes a cache that is shared with other processes.
    ///
    /// - Parameters:
    ///   - name: Its name, the same in all processes: 1 to ``CacheLimits/maximumNamespace`` bytes.
    ///   - value: What it keeps.
    ///   - key: How that is called.
    ///   - codec: Makes bytes of values; the same in all processes.
    ///   - configure: Changes the defaults.
    /// - Returns: The cache.
    /// - Throws: ``CacheError`` with code ``CacheError/Code/invalidArgument`` when the service has no tier, the name is
    ///   taken, or a setting is out of its range.
    public func sharedCache<Key: CacheKey, Value: Sendable>(
        _ name: String,
        of value: Value.Type = Value.self,
        keyedBy key: Key.Type = Key.self,
        codec: some CacheCodec<Value>,
        configure: (inout CacheConfiguration<Key, Value>) -> Void = { _ in }
    ) throws(CacheError) -> SharedCache<Key, Value> {
        guard let tier = self.tier else {
            throw CacheError(.invalidArgument, "a shared cache needs a tier: CacheService(tier:bus:locks:)")
        }
        guard codec.id > 0 else { throw CacheError(.invalidArgument, "a codec's id is 1 to 255") }
        var configuration = CacheConfiguration<Key, Value>()
        configure(&configuration)
        try configuration.validate()
        try Self.check(name)
        let link = SharedLink<Key, Value>(
            namespace: name,
            tier: tier,
            bus: self.bus,
            codec: codec,
            maximumValue: configuration.maximumSharedValue,
            writer: self.name,
            fillLease: configuration.fillLease,
            text: { $0.cacheKey },
            key: { Key(cacheKey: $0) },
            meter: LayerMeter(cache: name, clock: self.clock, observer: self.observer)
        )
        let memory = Cache(name: name, configuration: configuration, service: self, link: link)
        let shared = SharedCache(memory, link)
        _ = try self.add(memory) { try await shared.remove($0) }
        return shared
    }

    /// Makes a cache that is shared with other processes, as JSON.
    ///
    /// - Parameters:
    ///   - name: Its name, the same in all processes: 1 to ``CacheLimits/maximumNamespace`` bytes.
    ///   - value: What it keeps.
    ///   - key: How that is called.
    ///   - configure: Changes the defaults.
    /// - Returns: The cache.
    /// - Throws: As ``sharedCache(_:of:keyedBy:codec:configure:)``.
    public func sharedCache<Key: CacheKey, Value: Codable & Sendable>(
        _ name: String,
        of value: Value.Type = Value.self,
        keyedBy key: Key.Type = Key.self,
        configure: (inout CacheConfiguration<Key, Value>) -> Void = { _ in }
    ) throws(CacheError) -> SharedCache<Key, Value> {
        try self.sharedCache(name, of: value, keyedBy: key, codec: JSONCacheCodec<Value>(), configure: configure)
    }
}
