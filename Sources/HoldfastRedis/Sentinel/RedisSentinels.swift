// SPDX-License-Identifier: Apache-2.0

/// Where a server listens.
public struct RedisAddress: Sendable, Hashable, CustomStringConvertible {
    /// The host name or address.
    public var host: String
    /// The port.
    public var port: Int

    /// Makes an address.
    public init(host: String, port: Int) {
        self.host = host
        self.port = port
    }

    /// `host:port`.
    public var description: String {
        self.host.contains(":") ? "[\(self.host)]:\(self.port)" : "\(self.host):\(self.port)"
    }
}

/// The Sentinels that know which server is the master.
///
/// The description never shows the password.
public struct RedisSentinels: Sendable, Hashable {
    /// The Sentinels; more of them are not looked for.
    public var addresses: [RedisAddress]
    /// What they call the master.
    public var name: String
    /// The user for `AUTH` with the Sentinels, or `nil` for the default user.
    public var user: String?
    /// The password for `AUTH` with the Sentinels, or `nil` for none.
    public var password: String?

    /// The port of Sentinel.
    public static let defaultPort = 26_379
    /// How many there may be.
    public static let counts = 1...15

    /// Names Sentinels.
    ///
    /// - Parameters:
    ///   - addresses: The Sentinels.
    ///   - name: What they call the master.
    public init(addresses: [RedisAddress], name: String) {
        self.addresses = addresses
        self.name = name
    }
}

extension RedisSentinels: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    /// `host:port,…/NAME`, without user and password.
    public var description: String { "\(self.addresses.map(\.description).joined(separator: ","))/\(self.name)" }

    /// The same as ``description``.
    public var debugDescription: String { self.description }

    /// Shows nothing but the description, so that `dump` shows no password.
    public var customMirror: Mirror { Mirror(self, children: ["sentinels": self.description]) }
}
