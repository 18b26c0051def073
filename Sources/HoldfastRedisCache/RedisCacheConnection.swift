// SPDX-License-Identifier: Apache-2.0

public import HoldfastCache
import HoldfastCore
public import HoldfastRedis
import NIOCore
import NIOPosix

/// The connections of a process to the Redis that its caches share: one for commands, one for messages.
///
/// ```swift
/// let redis = try RedisCacheConnection(configuration: RedisConfiguration(url: "redis://cache.internal"))
/// let tier = RedisCacheTier(redis)
/// let bus = RedisCacheBus(redis)
/// ```
///
/// One server, the master that Sentinels know, or a cluster. Not a majority of servers (Redlock): these agree on locks,
/// entries would differ. Both connections are made when they are first needed, and close when nobody uses this any more.
/// ``RedisConfiguration/prefix``, ``RedisConfiguration/replicas`` and ``RedisConfiguration/offersExecutor`` are for locks
/// and do not count here.
///
/// **Eviction.** A server that may evict keys may evict a mark or a tombstone, and what it made invalid is valid again. So
/// such a server is refused unless ``RedisConfiguration/allowsEviction`` says that this is accepted. Marks are read with
/// each entry, so least-used policies (`volatile-lfu`, `allkeys-lru` …) take them last.
public final class RedisCacheConnection: Sendable {
    /// The channel of the bus unless set otherwise.
    public static let defaultChannel = "hfc:bus"

    /// How the servers are reached.
    public let configuration: RedisConfiguration
    /// The channel of the bus.
    public let channel: String

    let access: RedisAccess
    let hub: BusHub

    /// Makes connections; nothing is sent yet.
    ///
    /// - Parameters:
    ///   - configuration: How the servers are reached.
    ///   - channel: The channel of the bus, the same for all who share entries.
    /// - Throws: `CacheError` with code `invalidArgument` when a setting is out of its range.
    public init(
        configuration: RedisConfiguration,
        channel: String = RedisCacheConnection.defaultChannel
    ) throws(CacheError) {
        guard (1...256).contains(channel.utf8.count) else {
            throw CacheError(.invalidArgument, "the channel of a bus has 1 to 256 bytes")
        }
        var configuration = configuration
        (configuration.offersExecutor, configuration.replicas, configuration.prefix) = (false, 0, "")
        self.configuration = configuration
        self.channel = channel
        let loop = MultiThreadedEventLoopGroup.singleton.any()
        let hub = BusHub(loop)
        self.hub = hub
        do throws(LockError) {
            try configuration.check()
            self.access = try RedisAccess(configuration, loop: loop, channel: channel, hearsOfLocks: false) {
                hub.receive($0)
            }
        } catch {
            throw CacheFailure.error(error)
        }
    }

    /// Makes connections from a URL; nothing is sent yet.
    ///
    /// - Parameters:
    ///   - url: The same as for ``RedisConfiguration/init(url:)``, and for locks. Errors never quote it.
    ///   - channel: The channel of the bus, the same for all who share entries.
    /// - Throws: `CacheError` with code `invalidArgument` when it cannot be read, or names several masters.
    public convenience init(url: String, channel: String = RedisCacheConnection.defaultChannel) throws(CacheError) {
        guard !RedisQuorumConfiguration.names(severalIn: url) else {
            throw CacheError(
                .invalidArgument,
                "a majority of Redis servers keeps locks, not caches; write redis:// with one host, redis+sentinel:// or "
                    + "redis+cluster://"
            )
        }
        let configuration: RedisConfiguration
        do throws(LockError) {
            configuration = try RedisConfiguration(url: url)
        } catch {
            throw CacheFailure.error(error)
        }
        try self.init(configuration: configuration, channel: channel)
    }

    deinit { self.access.close() }

    var client: RedisClient { self.access.client }

    /// Asks the server for a sign of life.
    ///
    /// - Throws: What the server refuses; whether it answers at all is another matter, and may change.
    func check() async throws(CacheError) {
        do throws(LockError) {
            _ = try await self.client.run(["PING"])
        } catch  where error.code == .storeRefused {
            throw CacheFailure.error(error, channel: self.channel)
        } catch {
            // It may come up later; each call says for itself when it does not answer.
        }
    }
}
