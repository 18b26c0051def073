// SPDX-License-Identifier: Apache-2.0

package import HoldfastCore
package import NIOCore

/// The connections of a store or a cache that live on one event loop, and how commands find their way over them.
package final class RedisAccess: Sendable {
    /// One master, or those of a cluster.
    package enum Servers: Sendable {
        /// One master.
        case one(RedisMaster)
        /// The masters of a cluster.
        case cluster(RedisCluster)
    }

    /// Sends commands.
    package let client: RedisClient
    /// Who answers them.
    package let servers: Servers
    /// What connections find that should be otherwise.
    let cautions = Cautions()
    private let connector: Connector

    /// Makes connections; nothing is sent yet.
    ///
    /// - Parameters:
    ///   - configuration: How the servers are reached.
    ///   - loop: Where the connections live.
    ///   - channel: Where messages come; see ``Subscription``.
    ///   - hearsOfLocks: Whether servers may be asked to tell of keys, and a cluster's node for messages of its own:
    ///     what waiting for locks takes. Otherwise the channel is all.
    ///   - onEvent: Told of messages, and when some may have been missed.
    /// - Throws: ``LockError`` when what encryption needs cannot be read.
    package init(
        _ configuration: RedisConfiguration,
        loop: any EventLoop,
        channel: String,
        hearsOfLocks: Bool = true,
        onEvent: @escaping @Sendable (Subscription.Event) -> Void
    ) throws(LockError) {
        self.connector = try Connector(configuration, loop: loop, cautions: self.cautions)
        if let seeds = configuration.cluster {
            let cluster = try RedisCluster(
                configuration,
                seeds: seeds,
                loop: loop,
                channel: channel,
                hearsOfLocks: hearsOfLocks,
                cautions: self.cautions,
                onEvent: onEvent
            )
            self.client = RedisClient(cluster, configuration, loop: loop)
            self.servers = .cluster(cluster)
        } else {
            let master = RedisMaster(
                configuration,
                // Tracking ends with the connection that asked for it.
                CommandConnection(self.connector, onLoss: { if hearsOfLocks { onEvent(.changed(nil)) } }),
                Subscription(self.connector, channel: channel, hearsOfKeys: hearsOfLocks, onEvent: onEvent),
                patient: PatientConnection(self.connector)
            )
            self.client = RedisClient(master, configuration)
            self.servers = .one(master)
            self.connector.watch { [weak master] in master?.startAnew(unlessAt: $0) }
        }
    }

    /// Closes for good.
    package func close() {
        self.connector.close()
        switch self.servers {
        case .one(let master): master.close()
        case .cluster(let cluster): cluster.close()
        }
    }
}
