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
    /// How many commands may be unanswered before new ones are refused.
    public var maximumPending: Int
    /// Whether to ask, with each new connection, since when the server has been up.
    package var asksUptime = false

    /// The port of Redis.
    public static let defaultPort = 6379
    /// How long a call may take unless set otherwise.
    public static let defaultTimeout: Duration = .seconds(1)
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
        guard !self.host.isEmpty else { throw Self.invalid("it has no host") }
        guard (1...65_535).contains(self.port) else { throw Self.invalid("port \(self.port) is outside 1 to 65535") }
        guard (0...65_535).contains(self.database) else {
            throw Self.invalid("the database must be a number from 0, as in redis://host/2")
        }
        guard Self.timeouts.contains(self.timeout) else {
            throw Self.invalid("a timeout of \(self.timeout) is outside \(Self.timeouts)")
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
    /// `redis://host:port/database`, without user and password.
    public var description: String { "redis://\(self.place)/\(self.database)" }

    /// `host:port`.
    var place: String { self.host.contains(":") ? "[\(self.host)]:\(self.port)" : "\(self.host):\(self.port)" }

    /// The same as ``description``.
    public var debugDescription: String { self.description }

    /// Shows nothing but the description, so that `dump` shows no password.
    public var customMirror: Mirror { Mirror(self, children: ["address": self.description]) }
}
