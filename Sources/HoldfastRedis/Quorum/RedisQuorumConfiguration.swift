// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore

/// How to reach several independent Redis masters of which a majority decides (Redlock).
public struct RedisQuorumConfiguration: Sendable, Hashable {
    /// The servers.
    ///
    /// All with the same prefix; the timeout is that of a call to one server.
    public var servers: [RedisConfiguration]
    /// How long a server must have been up before its word counts, and the longest lease; `nil` for no such guard.
    ///
    /// A server that restarts without its data has forgotten who holds. Once it has been up for longer than any lease,
    /// nobody it forgot can still hold. Without the guard, one restart can let two hold the same lock.
    public var restartGuard: Duration?
    /// Whether calls wait for all servers that are up instead of a majority, for tests that compare them.
    package var waitsForAll = false

    /// How long a server must have been up unless set otherwise.
    public static let defaultRestartGuard: Duration = .seconds(60)
    /// The range of ``restartGuard``.
    public static let restartGuards: ClosedRange<Duration> = .seconds(1) ... .seconds(86_400)
    /// How many servers there may be.
    public static let serverCounts = 3...15

    /// Makes a configuration with defaults for some servers.
    ///
    /// - Parameter servers: The servers, an odd number: four stand no more failures than three.
    public init(servers: [RedisConfiguration]) {
        self.servers = servers
        self.restartGuard = Self.defaultRestartGuard
    }

    /// Reads a URL: `redis://[user:password@]host[:port],host[:port],host[:port][/database][?setting=value&…]`.
    ///
    /// What stands before the hosts and after them is for all of them. Settings are those of one server, and `guard`: how
    /// long a server must have been up before it counts, which is also the longest lease (seconds, or with a unit;
    /// `off` for none).
    ///
    /// - Parameter url: The URL. Errors never quote it, since it may hold a password.
    /// - Throws: ``LockError`` with code ``LockError/Code/invalidArgument`` or ``LockError/Code/unsupported``.
    public init(url: String) throws(LockError) {
        var (hosts, before, after) = try Self.split(url)
        var guardText: String?
        if let mark = after.firstIndex(of: "?") {
            let settings = after[after.index(after: mark)...].split(separator: "&")
            let kept = settings.filter { !$0.hasPrefix("guard=") }
            if let last = settings.last(where: { $0.hasPrefix("guard=") }) { guardText = String(last.dropFirst(6)) }
            after = after[..<mark] + (kept.isEmpty ? "" : "?\(kept.joined(separator: "&"))")
        }
        if hosts.last?.isEmpty == true { hosts.removeLast() }
        var servers: [RedisConfiguration] = []
        for host in hosts {
            guard !host.isEmpty else { throw RedisConfiguration.invalid("there is nothing between two commas") }
            servers.append(try RedisConfiguration(url: "\(before)\(host)\(after)"))
        }
        self.init(servers: servers)
        switch guardText {
        case nil: break
        case "off": self.restartGuard = nil
        case let text?:
            guard let duration = URLText.duration(text) else {
                throw RedisConfiguration.invalid("guard must be like 60s or 5m, or off")
            }
            self.restartGuard = duration
        }
        try self.check()
    }

    /// Whether a URL names several masters.
    package static func names(severalIn url: String) -> Bool {
        // Sentinels and the nodes of a cluster are several too, but of one store.
        guard let parts = try? Self.split(url), ["redis", "rediss"].contains(url.prefix { $0 != ":" }.lowercased())
        else {
            return false
        }
        return parts.hosts.count > 1
    }

    /// The hosts of a URL, and what stands before and after them.
    private static func split(
        _ url: String
    ) throws(LockError) -> (hosts: [Substring], before: Substring, after: Substring) {
        guard let scheme = url.firstRange(of: "://") else { throw RedisConfiguration.invalid("it has no scheme") }
        let rest = url[scheme.upperBound...]
        let end = rest.firstIndex { $0 == "/" || $0 == "?" } ?? rest.endIndex
        let authority = rest[..<end]
        let start = authority.lastIndex(of: "@").map(authority.index(after:)) ?? authority.startIndex
        let hosts = url[start..<end].split(separator: ",", omittingEmptySubsequences: false)
        return (hosts, url[..<start], url[end...])
    }

    /// Checks what a URL or a program has set.
    package func check() throws(LockError) {
        for server in self.servers { try server.check() }
        guard Self.serverCounts.contains(self.servers.count) else {
            throw RedisConfiguration.invalid(
                "a majority needs \(Self.serverCounts.lowerBound) to \(Self.serverCounts.upperBound) servers, not "
                    + "\(self.servers.count)"
            )
        }
        guard self.servers.allSatisfy({ !$0.offersExecutor }) else {
            throw RedisConfiguration.invalid(
                "executor=loop is for one server: a majority answers on several connections"
            )
        }
        let places = self.servers.map(\.place)
        guard Set(places).count == places.count else {
            throw RedisConfiguration.invalid("a server is named twice, and would vote twice")
        }
        guard Set(self.servers.map(\.prefix)).count == 1 else {
            throw RedisConfiguration.invalid("all servers of a majority must have the same prefix")
        }
        if let time = self.restartGuard, !Self.restartGuards.contains(time) {
            throw RedisConfiguration.invalid("a guard of \(time) is outside \(Self.restartGuards)")
        }
    }
}

extension RedisQuorumConfiguration: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    /// `redis://host:port,host:port,host:port/database`, without user and password.
    public var description: String {
        let scheme = self.servers.contains { $0.tls == nil } ? "redis" : "rediss"
        return "\(scheme)://\(self.servers.map(\.place).joined(separator: ","))/\(self.servers.first?.database ?? 0)"
    }

    /// The same as ``description``.
    public var debugDescription: String { self.description }

    /// Shows nothing but the description, so that `dump` shows no password.
    public var customMirror: Mirror { Mirror(self, children: ["address": self.description]) }
}
