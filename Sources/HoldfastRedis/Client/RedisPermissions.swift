// SPDX-License-Identifier: Apache-2.0

/// What a user of a Redis server has to be permitted for locks to work: the least.
public enum RedisPermissions {
    /// The commands: scripts and what they call, messages, and what a connection begins with.
    ///
    /// Without `role` a replica is only noticed when it refuses a write; `wait` is for ``RedisConfiguration/replicas``.
    /// Without `info` the eviction policy and the time since a restart are not known, without `subscribe` waiters poll,
    /// and without `client|id`, `client|tracking` and `client|caching` those who wait for holders of other libraries do.
    static let commands = [
        "eval", "evalsha", "time", "get", "mget", "getrange", "set", "setrange", "del", "exists", "pexpire", "pttl",
        "zadd", "zrem", "zrange", "zrank", "zcard", "zscore", "hset", "hget", "hmget", "hdel", "hgetall", "sadd",
        "srem", "smembers", "publish", "subscribe", "ping", "scan", "client|setname", "client|id", "client|tracking",
        "client|caching", "info", "role", "wait",
    ]

    /// What there is more on a cluster: its map, and messages that stay with a node, which servers have from 7.0 on.
    ///
    /// A server that does not know a command refuses the whole rule: leave `ssubscribe` and `spublish` out there.
    static let clusterCommands = ["cluster|info", "cluster|slots", "asking", "ssubscribe", "spublish"]

    /// The rules for `ACL SETUSER`: keys, channels, commands.
    ///
    /// `hf:o:*` is for finding deadlocks. With an empty prefix, all keys: names of locks may be anything.
    ///
    /// - Parameters:
    ///   - prefix: What the keys of all locks start with; see ``RedisConfiguration/prefix``.
    ///   - isCluster: Whether they are for the nodes of a cluster.
    ///   - database: The number of the database.
    /// - Returns: The rules, one word each.
    public static func rules(prefix: String, isCluster: Bool = false, database: Int = 0) -> [String] {
        // A glob's own characters are meant as they are.
        let literal = prefix.map { "*?[]\\".contains($0) ? "\\\($0)" : "\($0)" }.joined()
        let keys = prefix.isEmpty ? ["~*"] : ["~\(literal)*", "~hf:{\(literal)*", "~hf:o:*"]
        return ["resetkeys"] + keys + ["resetchannels", "&hf:c:*", "&__redis__:invalidate", "-@all"]
            + (isCluster ? Self.commands + Self.clusterCommands : Self.commands).map { "+\($0)" }
            + (database == 0 ? [] : ["+select"])
    }
}
