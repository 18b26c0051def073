// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import NIOCore

/// The connections of a store that live on one event loop, and how commands find their way over them.
final class RedisAccess: Sendable {
    /// One master, or those of a cluster.
    enum Servers: Sendable {
        case one(RedisMaster)
        case cluster(RedisCluster)
    }

    let client: RedisClient
    let servers: Servers
    private let connector: Connector

    /// Makes connections; nothing is sent yet.
    ///
    /// - Parameters:
    ///   - configuration: How the servers are reached.
    ///   - loop: Where the connections live.
    ///   - channel: Where messages come; see ``Subscription``.
    ///   - onEvent: Told of messages, and when some may have been missed.
    /// - Throws: ``LockError`` when what encryption needs cannot be read.
    init(
        _ configuration: RedisConfiguration,
        loop: any EventLoop,
        channel: String,
        onEvent: @escaping @Sendable (Subscription.Event) -> Void
    ) throws(LockError) {
        self.connector = try Connector(configuration, loop: loop)
        if let seeds = configuration.cluster {
            let cluster = try RedisCluster(configuration, seeds: seeds, loop: loop, channel: channel, onEvent: onEvent)
            self.client = RedisClient(cluster, configuration, loop: loop)
            self.servers = .cluster(cluster)
        } else {
            let master = RedisMaster(
                configuration,
                CommandConnection(self.connector),
                Subscription(self.connector, channel: channel, hearsOfKeys: true, onEvent: onEvent)
            )
            self.client = RedisClient(master.connection, configuration)
            self.servers = .one(master)
            self.connector.watch { [weak master] in master?.startAnew() }
        }
    }

    /// Closes for good.
    func close() {
        self.connector.close()
        switch self.servers {
        case .one(let master): master.close()
        case .cluster(let cluster): cluster.close()
        }
    }
}
