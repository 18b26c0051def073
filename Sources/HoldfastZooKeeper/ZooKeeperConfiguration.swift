// SPDX-License-Identifier: Apache-2.0

package import HoldfastCore

/// How to reach a ZooKeeper ensemble and how to use it.
///
/// The description never shows the password.
public struct ZooKeeperConfiguration: Sendable, Hashable {
    /// How the nodes of locks are named: what other programs on the same paths understand.
    public enum Layout: String, Sendable, Hashable, CaseIterable {
        /// As Curator's `InterProcessMutex`, and Go's `zk.Lock`: they and our locks of any mode exclude each other.
        case curator
        /// As Curator's `InterProcessReadWriteLock`: exclusive and shared locks only.
        case curatorReadWrite = "curator-rw"
        /// As kazoo's `WriteLock` and `ReadLock`, and its `Lock` where nobody reads: exclusive and shared locks only.
        ///
        /// The locks' own nodes stay: kazoo makes them once, and its clients would not find again what is removed.
        case kazoo
    }

    /// Who may see and change the nodes of locks.
    public enum Access: String, Sendable, Hashable, CaseIterable {
        /// Everybody who reaches the servers.
        case open
        /// The user of this configuration.
        case creator
    }

    /// When a release is over.
    public enum Release: String, Sendable, Hashable, CaseIterable {
        /// When it is on its way. Whatever this process does afterwards comes after it; it is seen to that it arrives.
        case background
        /// When the server has confirmed it, one round trip later.
        case confirmed
    }

    /// The servers, each as `host:port`.
    public var servers: [String]
    /// The path below which the locks are: the lock on `a/b` is the node `root/a/b`.
    ///
    /// Empty for the top.
    public var root: String
    /// The user for digest authentication, or `nil`.
    public var user: String?
    /// The password for digest authentication, or `nil`.
    ///
    /// It crosses the network in clear, as all that is said to the servers: for the loopback device, a private network, or
    /// a TLS proxy such as stunnel between.
    public var password: String?
    /// Who may see and change the nodes; ``Access/creator`` needs a user.
    public var access: Access
    /// How long the servers keep the session of a client that they do not hear of, and its locks with it.
    public var sessionTimeout: Duration
    /// The servers' `tickTime`, or `nil` when it is not known.
    ///
    /// Then it is taken for ``usualTick``, or a fifth of ``sessionTimeout`` where that is more: whoever has slower servers
    /// has to say so, or two may believe in a lock for a moment when the leader is cut off from the others. Whoever has
    /// faster ones may believe in a lock for longer when it is said; see ``ZooKeeperLockStore``.
    public var tick: Duration?
    /// How long a call may take, reconnects included.
    public var timeout: Duration
    /// How the nodes of locks are named.
    public var layout: Layout
    /// When a release is over.
    public var release: Release
    /// Whether stores of this process with the same servers, user and session timeout share a session.
    public var sharesSession: Bool

    /// The port of ZooKeeper.
    public static let defaultPort = 2181
    /// The session timeout unless set otherwise: five ticks of a server with defaults.
    public static let defaultSessionTimeout: Duration = .seconds(10)
    /// The tick of servers that are set up as ZooKeeper's documentation shows it.
    public static let usualTick: Duration = .seconds(2)
    /// The range of ``sessionTimeout``.
    ///
    /// It must be three ticks or longer. Servers have limits of their own: 2 to 20 of their ticks unless set otherwise.
    public static let sessionTimeouts: ClosedRange<Duration> = .milliseconds(400) ... .seconds(600)
    /// How long a call may take unless set otherwise.
    public static let defaultTimeout: Duration = .seconds(5)
    /// The range of ``timeout``.
    public static let timeouts: ClosedRange<Duration> = .milliseconds(10) ... .seconds(60)
    /// The most servers: ensembles have three to seven voters, and observers beside them.
    public static let maximumServers = 64

    /// Makes a configuration with defaults.
    ///
    /// - Parameter servers: The servers, each as `host:port`.
    public init(servers: [String] = ["127.0.0.1:\(ZooKeeperConfiguration.defaultPort)"]) {
        self.servers = servers
        self.root = ""
        self.user = nil
        self.password = nil
        self.access = .open
        self.sessionTimeout = Self.defaultSessionTimeout
        self.tick = nil
        self.timeout = Self.defaultTimeout
        self.layout = .curator
        self.release = .background
        self.sharesSession = true
    }

    /// Checks what a URL or a program has set.
    ///
    /// - Throws: ``LockError`` with code ``LockError/Code/invalidArgument``.
    package func check() throws(LockError) {
        guard (1...Self.maximumServers).contains(self.servers.count) else {
            throw Self.invalid("it names \(self.servers.count) servers, not 1 to \(Self.maximumServers)")
        }
        for server in self.servers {
            // The library takes these apart at commas and slashes, and the port at the last colon.
            let isPlain = server.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F && $0 != UInt8(ascii: ",") }
            guard isPlain, !server.contains("/"), let colon = server.lastIndex(of: ":"), colon > server.startIndex,
                let port = Int(server[server.index(after: colon)...]), (1...65_535).contains(port)
            else { throw Self.invalid("a server is not host:port") }
        }
        guard Self.sessionTimeouts.contains(self.sessionTimeout) else {
            throw Self.invalid(
                "a session of \(self.sessionTimeout.brief) is outside \(Self.sessionTimeouts.lowerBound.brief) to "
                    + "\(Self.sessionTimeouts.upperBound.brief)"
            )
        }
        if let tick = self.tick, tick <= .zero || tick > Self.sessionTimeouts.upperBound {
            throw Self.invalid("a tick of \(tick.brief) is not above 0 and below a session")
        }
        let shortest = self.slowestTick * LeaderContact.fewestTicks
        guard self.sessionTimeout >= shortest else {
            let milliseconds = shortest.millisecondsRoundedUp
            let works = milliseconds % 1000 == 0 ? "\(milliseconds / 1000)s" : "\(milliseconds)ms"
            let tick = self.tick == nil ? "say the servers' tick, as in ?tick=500ms, if it is shorter, or " : ""
            throw Self.invalid(
                "a session of \(self.sessionTimeout.brief) is too short for servers with a tick of "
                    + "\(self.slowestTick.brief), since a leader that is cut off may answer for two ticks; \(tick)use "
                    + "session=\(works)"
            )
        }
        guard Self.timeouts.contains(self.timeout) else {
            throw Self.invalid("a timeout of \(self.timeout.brief) is outside 10 ms to 60 s")
        }
        if let problem = LockPath.problem(withRoot: self.root) { throw Self.invalid(problem) }
        if let user = self.user {
            guard !user.isEmpty, !user.contains(":"), self.password != nil else {
                throw Self.invalid("a user needs a password, and has no colon")
            }
        } else {
            guard self.password == nil else { throw Self.invalid("it has a password without a user") }
            guard self.access == .open else { throw Self.invalid("access=creator needs user:password@") }
        }
    }

    /// The servers' tick, or more.
    var slowestTick: Duration { self.tick ?? max(Self.usualTick, self.sessionTimeout / 5) }

    static func invalid(_ reason: String) -> LockError {
        LockError(
            .invalidArgument,
            "this ZooKeeper address cannot be used: \(reason); write "
                + "zookeeper://[user:password@]host[:port][,host[:port]…][/path]"
        )
    }

    /// What the session is shared by.
    var sessionSettings: SessionSettings {
        var generator = SystemRandomNumberGenerator()
        let credentials = self.user.flatMap { user in self.password.map { Secret(text: "\(user):\($0)") } }
        return SessionSettings(
            servers: self.servers,
            sessionTimeout: self.sessionTimeout,
            tick: self.slowestTick,
            credentials: credentials,
            usesCreatorACL: self.access == .creator,
            room: self.sharesSession ? 0 : generator.next()
        )
    }
}

extension ZooKeeperConfiguration: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    /// `zookeeper://host:port,host:port/path`, without user and password.
    public var description: String { "zookeeper://\(self.servers.joined(separator: ","))\(self.root)" }

    /// The same as ``description``.
    public var debugDescription: String { self.description }

    /// Shows nothing but the description, so that `dump` shows no password.
    public var customMirror: Mirror { Mirror(self, children: ["address": self.description]) }
}
