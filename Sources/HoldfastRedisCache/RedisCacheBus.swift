// SPDX-License-Identifier: Apache-2.0

public import HoldfastCache
public import HoldfastCore
public import HoldfastRedis

/// Tells all processes that share a Redis what changed, by one channel of it.
///
/// Messages are not kept: who does not listen at the moment misses them, and is told so by
/// ``CacheBusEvent/interrupted`` and ``CacheBusEvent/listening``. A connection that says nothing is noticed after 10 s. On a
/// cluster one node is listened to, all publish by the one that has the channel's slot, and nodes pass messages on.
public final class RedisCacheBus: CacheBus {
    /// How often to look whether a subscription that is refused or broken is so for good.
    private static let pause: Duration = .seconds(1)

    /// The connections.
    public let connection: RedisCacheConnection

    /// Makes a bus on connections that a tier may use too.
    public init(_ connection: RedisCacheConnection) { self.connection = connection }

    /// Makes a bus with connections of its own; nothing is sent yet.
    ///
    /// - Parameters:
    ///   - configuration: How the servers are reached.
    ///   - channel: The channel, the same for all who share entries.
    /// - Throws: `CacheError` with code `invalidArgument` when a setting is out of its range.
    public convenience init(
        configuration: RedisConfiguration,
        channel: String = RedisCacheConnection.defaultChannel
    ) throws(CacheError) {
        self.init(try RedisCacheConnection(configuration: configuration, channel: channel))
    }

    /// Listens until cancelled; see ``CacheBus/run()``.
    ///
    /// A server that cannot be reached is tried again and again; what it refuses is thrown.
    ///
    /// - Throws: `CacheError` with code `tierRefused` for a wrong password, or a user who may not subscribe.
    public func run() async throws {
        while !Task.isCancelled {
            self.listen()
            switch self.standing {
            case .listening: break
            case .forbidden:
                throw CacheError(
                    .tierRefused,
                    """
                    the Redis user may not subscribe to the channel of the cache's bus; permit +subscribe and \
                    &\(CacheKeys.literal(self.connection.channel)) (\(CacheAdvice.permissions))
                    """
                )
            case .late, .refused, nil: try await self.connection.check()
            }
            try? await Task.sleep(for: Self.pause)
        }
    }

    private func listen() {
        switch self.connection.access.servers {
        case .one(let master): master.subscription.start()
        case .cluster(let cluster): cluster.listen()
        }
    }

    private var standing: Subscription.Standing? {
        switch self.connection.access.servers {
        case .one(let master): master.subscription.settled
        case .cluster(let cluster): cluster.listener?.subscription.settled
        }
    }

    /// Sends a message; see ``CacheBus/publish(_:)``.
    ///
    /// One round trip. Sent again when the reply is lost, so it may come twice.
    ///
    /// - Parameter message: Its bytes, at most `CacheLimits.maximumMessage`.
    /// - Throws: `CacheError`; whether it was delivered is then unknown.
    public func publish(_ message: [UInt8]) async throws {
        try CacheLimits.check(message: message)
        let channel = self.connection.channel
        _ = try await withCacheErrors(channel: channel) { () async throws(LockError) in
            // On a cluster all go by the same node: what goes by two may come in any order.
            try await self.connection.client.send(to: .slot(RedisSlot(of: channel))) { encoder, _ in
                encoder.begin(3)
                encoder.part("PUBLISH")
                encoder.part(channel)
                encoder.part(message)
            }
        }
    }

    /// Listens; see ``CacheBus/subscribe(_:)``.
    ///
    /// - Parameter onEvent: Called on the event loop of the connection.
    /// - Returns: What ends it.
    public func subscribe(_ onEvent: @escaping @Sendable (CacheBusEvent) -> Void) -> SignalSubscription {
        self.connection.hub.add(onEvent)
    }
}
