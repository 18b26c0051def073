// SPDX-License-Identifier: Apache-2.0

package import HoldfastCore

/// How to reach a Redis server and how to use it.
///
/// The description never shows the password.
public struct RedisConfiguration: Sendable, Hashable {
    /// The host name or address.
    public var host: String
    /// The port.
    public var port: Int
    /// The path of a Unix socket; then host and port do not count.
    public var socketPath: String?
    /// The Sentinels that know the master; then host and port do not count.
    public var sentinels: RedisSentinels?
    /// Nodes of a Redis Cluster to begin with; then host and port do not count.
    public var cluster: [RedisAddress]?
    /// How many replicas must have a grant before it counts.
    ///
    /// With 0, the default, a master that fails right after a grant takes it along, and the next one gives the lock again.
    /// What fewer replicas confirm within ``replicaTimeout`` is given back and an error. Halves the speed, and is no
    /// proof: a replica that is elected may be another. Makes one more connection: requests and upgrades wait on one of
    /// their own, one after the other, also those that end busy. What is held is renewed and given back beside them.
    public var replicas: Int
    /// How long to wait for replicas.
    public var replicaTimeout: Duration
    /// How the connection is encrypted, or `nil` for in the clear.
    public var tls: RedisTLS?
    /// The user for `AUTH`, or `nil` for the default user.
    public var user: String?
    /// The password for `AUTH`, or `nil` for none.
    public var password: String?
    /// The number of the database.
    public var database: Int
    /// What the keys of all locks start with; empty by default, as other Redlock libraries have it.
    public var prefix: String
    /// How long a call may take, tries and reconnects included.
    public var timeout: Duration
    /// The name of the connections in `CLIENT LIST`.
    public var clientName: String
    /// Whether a server that may evict keys, and locks with them, is accepted all the same.
    public var allowsEviction: Bool
    /// Whether a master that would write on without its replicas (`min-replicas-to-write 0`) is refused, behind Sentinel
    /// and on a cluster: cut off, it would grant locks that its successor grants too.
    public var refusesLoneMaster = false
    /// How many commands may be unanswered before new ones are refused.
    public var maximumPending: Int
    /// Whether the store has a thread of its own on which callers may run; see ``RedisLockStore/executor``.
    ///
    /// Makes one more connection, for renewals.
    public var offersExecutor = false
    /// Whether it is one of the nodes of a cluster.
    package var isClusterNode = false
    /// Whether to ask, with each new connection, since when the server has been up.
    package var asksUptime = false

    /// The port of Redis.
    public static let defaultPort = 6379
    /// How long a call may take unless set otherwise.
    public static let defaultTimeout: Duration = .seconds(1)
    /// How many nodes of a cluster may be named; the others are found by asking these.
    public static let clusterNodes = 1...100
    /// The range of ``timeout``.
    public static let timeouts: ClosedRange<Duration> = .milliseconds(10) ... .seconds(60)

    /// Makes a configuration with defaults for a host.
    ///
    /// - Parameters:
    ///   - host: The host name or address.
    ///   - port: The port.
    public init(host: String = "127.0.0.1", port: Int = RedisConfiguration.defaultPort) {
        self.host = host
        self.port = port
        self.socketPath = nil
        self.sentinels = nil
        self.cluster = nil
        self.replicas = 0
        self.replicaTimeout = .milliseconds(100)
        self.tls = nil
        self.user = nil
        self.password = nil
        self.database = 0
        self.prefix = ""
        self.timeout = Self.defaultTimeout
        self.clientName = "holdfast"
        self.allowsEviction = false
        self.maximumPending = 32_768
    }

    /// Checks what a URL or a program has set.
    ///
    /// - Throws: ``LockError`` with code ``LockError/Code/invalidArgument``.
    package func check() throws(LockError) {
        if let path = self.socketPath {
            // The kernel's limit, its final zero included.
            guard path.hasPrefix("/"), path.utf8.count < 108, !path.utf8.contains(0) else {
                throw Self.invalid("the path of a socket must begin with / and have fewer than 108 bytes")
            }
            guard self.tls == nil else { throw Self.invalid("a Unix socket is not encrypted") }
        }
        if let sentinels = self.sentinels {
            guard RedisSentinels.counts.contains(sentinels.addresses.count), !sentinels.name.isEmpty else {
                throw Self.invalid(
                    "it names no Sentinel, or not the master; write redis+sentinel://host,host,host/NAME"
                )
            }
            guard sentinels.addresses.allSatisfy({ !$0.host.isEmpty && (1...65_535).contains($0.port) }) else {
                throw Self.invalid("a Sentinel has no host, or a port outside 1 to 65535")
            }
        }
        if let nodes = self.cluster {
            guard Self.clusterNodes.contains(nodes.count),
                nodes.allSatisfy({ !$0.host.isEmpty && (1...65_535).contains($0.port) })
            else { throw Self.invalid("it names no node of the cluster, or one with a port outside 1 to 65535") }
            guard self.database == 0 else { throw Self.invalid("a cluster has no database but 0") }
        }
        guard Self.timeouts.contains(self.timeout) else {
            throw Self.invalid("timeout must be from 10ms to 60s, and is \(self.timeout.brief)")
        }
        guard (0...100).contains(self.replicas) else { throw Self.invalid("replicas must be from 0 to 100") }
        guard self.replicaTimeout >= .milliseconds(1), self.replicaTimeout <= self.timeout else {
            throw Self.invalid("replica-timeout must be from 1ms to the timeout of a call, \(self.timeout.brief)")
        }
        if let tls = self.tls, tls.keyFile != nil, tls.certificateFile == nil {
            throw Self.invalid("it has a key= without a cert=")
        }
        guard !self.host.isEmpty else { throw Self.invalid("it has no host") }
        guard (1...65_535).contains(self.port) else { throw Self.invalid("port \(self.port) is outside 1 to 65535") }
        guard (0...65_535).contains(self.database) else {
            throw Self.invalid("the database must be a number from 0, as in redis://host/2")
        }
        guard !self.prefix.contains(where: { $0 == "{" || $0 == "}" }), self.prefix.utf8.count <= 128 else {
            throw Self.invalid("the prefix has a brace or is longer than 128 bytes")
        }
        guard !self.clientName.isEmpty, self.clientName.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else {
            throw Self.invalid("the client name may have no spaces and only ASCII characters")
        }
        guard self.maximumPending > 0 else { throw Self.invalid("maximumPending must be above 0") }
    }

    static func invalid(_ reason: String) -> LockError {
        LockError(
            .invalidArgument,
            "this Redis address cannot be used: \(reason); write redis://[user:password@]host[:port][/database]"
        )
    }
}

extension RedisConfiguration: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    /// `redis://host:port/database`, `rediss://…`, `redis+sentinel://…/NAME`, `redis+cluster://…` or `redis+unix://path`, without user and password.
    public var description: String {
        if let path = self.socketPath { return "redis+unix://\(path)" }
        if let sentinels = self.sentinels {
            return "\(self.tls == nil ? "redis" : "rediss")+sentinel://\(sentinels)"
        }
        if let nodes = self.cluster {
            let hosts = nodes.map(\.description).joined(separator: ",")
            return "\(self.tls == nil ? "redis" : "rediss")+cluster://\(hosts)"
        }
        return "\(self.tls == nil ? "redis" : "rediss")://\(self.place)/\(self.database)"
    }

    /// `host:port`, or the path of the socket.
    var place: String {
        if let sentinels = self.sentinels { return "master \(sentinels.name)" }
        return self.socketPath ?? RedisAddress(host: self.host, port: self.port).description
    }

    /// The same as ``description``.
    public var debugDescription: String { self.description }

    /// Shows nothing but the description, so that `dump` shows no password.
    public var customMirror: Mirror { Mirror(self, children: ["address": self.description]) }
}
