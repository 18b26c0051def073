// SPDX-License-Identifier: Apache-2.0

/// What a user of a Redis server has to be permitted for caches to work: the least.
public enum RedisCachePermissions {
    /// The commands: scripts and what they call, reading, messages, and what a connection begins with.
    ///
    /// Without `role` a replica is only noticed when it refuses a write; without `info` the eviction policy is not known;
    /// `scan` is for listing keys. A name of the connection is a courtesy.
    static let commands = [
        "eval", "evalsha", "time", "get", "getrange", "set", "pttl", "scan", "publish", "subscribe", "ping",
        "client|setname", "info", "role",
    ]

    /// What there is more on a cluster: its map, and slots that move.
    static let clusterCommands = ["cluster|info", "cluster|slots", "asking"]

    /// The rules for `ACL SETUSER`: keys, channels, commands.
    ///
    /// - Parameters:
    ///   - prefix: What the keys of the cache start with.
    ///   - channel: The channel of the bus.
    ///   - isCluster: Whether they are for the nodes of a cluster.
    /// - Returns: The rules, one word each.
    public static func rules(
        prefix: String = RedisCacheTier.defaultPrefix,
        channel: String = RedisCacheConnection.defaultChannel,
        isCluster: Bool = false
    ) -> [String] {
        ["resetkeys", "~\(CacheKeys.literal(prefix))*", "resetchannels", "&\(CacheKeys.literal(channel))", "-@all"]
            + (isCluster ? Self.commands + Self.clusterCommands : Self.commands).map { "+\($0)" }
    }
}
