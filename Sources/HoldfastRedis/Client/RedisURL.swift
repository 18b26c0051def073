// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore

extension RedisConfiguration {
    /// Reads a URL: `redis://[user[:password]@]host[:port][/database][?setting=value&…]`, `rediss://…` for TLS, or
    /// `redis+unix://[user[:password]@]/path/of/socket[?setting=value&…]`, or
    /// `redis+sentinel://[user[:password]@]host[:port][,host[:port]…]/NAME[/database][?setting=value&…]` (and
    /// `rediss+sentinel://`), or `redis+cluster://[user[:password]@]host[:port][,host[:port]…][?setting=value&…]` (and
    /// `rediss+cluster://`).
    ///
    /// Parts are percent-decoded. As in redis-cli, `redis://:password@host` gives a password without a user. Settings:
    /// `prefix`, `timeout` (seconds, or with a unit as `500ms`, `2s`), `name`, `eviction=allow`, `executor` (`pool` or `loop`),
    /// `db` (as the path), `replicas` and `replica-timeout`; with Sentinels and clusters `lone-master=refuse`
    /// (``refusesLoneMaster``); with Sentinels `sentinel-user` and `sentinel-password`; with TLS `ca`, `cert` and `key` (PEM files), `sni` (the name to ask for) and `verify` (`full` or `none`).
    ///
    /// - Parameter url: The URL. Errors never quote it, since it may hold a password.
    /// - Throws: ``LockError`` with code ``LockError/Code/invalidArgument`` for a URL that cannot be read, and
    ///   ``LockError/Code/unsupported`` for several hosts.
    public init(url: String) throws(LockError) {
        guard let schemeEnd = url.firstRange(of: "://") else { throw Self.invalid("it has no scheme") }
        let scheme = url[..<schemeEnd.lowerBound].lowercased()
        try Self.check(scheme: scheme)
        let isSocket = Self.socketSchemes.contains(scheme)
        var rest = url[schemeEnd.upperBound...]
        guard !rest.contains("#") else { throw Self.invalid("a # must be written as %23") }

        var query: Substring = ""
        if let mark = rest.firstIndex(of: "?") {
            query = rest[rest.index(after: mark)...]
            rest = rest[..<mark]
        }
        var path: Substring = ""
        // A slash in a password must be escaped, so the first one starts the path.
        if let slash = rest.firstIndex(of: "/") {
            path = rest[rest.index(after: slash)...]
            rest = rest[..<slash]
        }
        self.init()
        if scheme.hasPrefix("rediss") { self.tls = RedisTLS() }
        if let at = rest.lastIndex(of: "@") {
            try self.read(user: rest[..<at])
            rest = rest[rest.index(after: at)...]
        }
        if isSocket {
            guard rest.isEmpty else { throw Self.invalid("a Unix socket has no host; write redis+unix:///path") }
            self.socketPath = try "/" + Self.decoded(path, "the path")
        } else if scheme.contains("sentinel") {
            try self.read(sentinels: rest, path)
        } else if scheme.contains("cluster") {
            self.cluster = try Self.addresses(rest, defaultPort: Self.defaultPort)
            if !path.isEmpty { self.database = try Self.database(path) }
        } else {
            try self.read(address: rest)
            if !path.isEmpty { self.database = try Self.database(path) }
        }
        for setting in query.split(separator: "&") { try self.read(setting: setting) }
        // A short time for a call, or none that will do, is not one for replicas that nobody has set.
        if !Self.sets("replica-timeout", in: url), self.timeout >= Self.timeouts.lowerBound {
            self.replicaTimeout = min(self.replicaTimeout, self.timeout)
        }
        try self.check()
    }

    /// Whether a URL has a setting, whatever its value.
    package static func sets(_ name: String, in url: String) -> Bool {
        guard let mark = url.firstIndex(of: "?") else { return false }
        return url[url.index(after: mark)...].split(separator: "&").contains { $0.prefix { $0 != "=" } == name }
    }

    private static let socketSchemes = ["redis+unix", "unix"]

    private static func check(scheme: String) throws(LockError) {
        switch scheme {
        case "redis", "rediss", "redis+unix", "unix", "redis+sentinel", "redis-sentinel", "rediss+sentinel": return
        case "redis+cluster", "redis-cluster", "rediss+cluster": return
        default: throw Self.invalid("its scheme is not redis://, rediss:// or redis+unix://")
        }
    }

    private static func database(_ text: some StringProtocol) throws(LockError) -> Int {
        guard let database = Int(text) else {
            throw Self.invalid("the database must be a number from 0, as in redis://host/2")
        }
        return database
    }

    private mutating func read(user info: Substring) throws(LockError) {
        let parts = info.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        let user = try Self.decoded(parts[0], "the user name")
        self.user = user.isEmpty ? nil : user
        if parts.count == 2 { self.password = try Self.decoded(parts[1], "the password") }
        if self.user != nil, self.password == nil {
            throw Self.invalid("it has a user without a password; a password alone is written :password@")
        }
    }

    private mutating func read(address: Substring) throws(LockError) {
        guard !address.contains(",") else {
            throw LockError(.unsupported, "several hosts are for RedisQuorumLockStore; give one")
        }
        let address = try Self.address(address, defaultPort: Self.defaultPort)
        self.host = address.host
        self.port = address.port
    }

    private mutating func read(sentinels hosts: Substring, _ path: Substring) throws(LockError) {
        let parts = path.split(separator: "/", omittingEmptySubsequences: false)
        guard let name = parts.first, parts.count <= 2 else {
            throw Self.invalid("it does not name the master; write redis+sentinel://host,host,host/NAME")
        }
        let addresses = try Self.addresses(hosts, defaultPort: RedisSentinels.defaultPort)
        self.sentinels = RedisSentinels(addresses: addresses, name: try Self.decoded(name, "the master's name"))
        if parts.count == 2 { self.database = try Self.database(parts[1]) }
    }

    private static func addresses(_ hosts: Substring, defaultPort: Int) throws(LockError) -> [RedisAddress] {
        var addresses: [RedisAddress] = []
        for host in hosts.split(separator: ",", omittingEmptySubsequences: false) {
            addresses.append(try Self.address(host, defaultPort: defaultPort))
        }
        return addresses
    }

    private static func address(_ text: Substring, defaultPort: Int) throws(LockError) -> RedisAddress {
        var host = text
        var port: Substring?
        if text.first == "[" {
            guard let end = text.firstIndex(of: "]") else { throw Self.invalid("an IPv6 address lacks its ]") }
            host = text[text.index(after: text.startIndex)..<end]
            let tail = text[text.index(after: end)...]
            guard tail.isEmpty || tail.first == ":" else { throw Self.invalid("text follows the IPv6 address") }
            port = tail.isEmpty ? nil : tail.dropFirst()
        } else if let colon = text.lastIndex(of: ":") {
            host = text[..<colon]
            port = text[text.index(after: colon)...]
            guard !host.contains(":") else { throw Self.invalid("an IPv6 address must be in brackets") }
        }
        var address = RedisAddress(host: try Self.decoded(host, "the host"), port: defaultPort)
        if address.host.isEmpty { address.host = "127.0.0.1" }
        guard let port else { return address }
        guard let number = Int(port), port.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else {
            throw Self.invalid("the port is not a number")
        }
        address.port = number
        return address
    }

    private mutating func read(setting: Substring) throws(LockError) {
        let parts = setting.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        let name = String(parts[0])
        let value = try parts.count == 2 ? Self.decoded(parts[1], name) : ""
        switch name {
        case "prefix": self.prefix = value
        case "name": self.clientName = value
        case "timeout": self.timeout = try Self.duration(value)
        case "eviction":
            guard value == "allow" || value == "refuse" else {
                throw Self.invalid("eviction is either allow or refuse")
            }
            self.allowsEviction = value == "allow"
        case "lone-master":
            guard self.sentinels != nil || self.cluster != nil else {
                throw Self.invalid("lone-master= is for redis+sentinel:// and redis+cluster://")
            }
            guard value == "allow" || value == "refuse" else {
                throw Self.invalid("lone-master is either allow or refuse")
            }
            self.refusesLoneMaster = value == "refuse"
        case "replicas":
            guard let count = Int(value) else { throw Self.invalid("replicas must be a number") }
            self.replicas = count
        case "executor":
            guard value == "loop" || value == "pool" else { throw Self.invalid("executor is either pool or loop") }
            self.offersExecutor = value == "loop"
        case "replica-timeout": self.replicaTimeout = try Self.duration(value)
        case "sentinel-user", "sentinel-password":
            guard self.sentinels != nil else { throw Self.invalid("\(name)= is for redis+sentinel://") }
            if name == "sentinel-user" { self.sentinels?.user = value } else { self.sentinels?.password = value }
        case "db": self.database = try Self.database(value)
        case "ca", "cert", "key", "sni", "verify":
            guard let tls = self.tls else { throw Self.invalid("\(name)= is for TLS; write rediss://") }
            self.tls = try Self.changed(tls, name, value)
        default:
            throw Self.invalid(
                "it has an unknown setting; known are prefix, timeout, name, eviction, executor, db, replicas, "
                    + "replica-timeout, with rediss:// ca, cert, key, sni and verify, with redis+sentinel:// "
                    + "sentinel-user and sentinel-password, and with that or redis+cluster:// lone-master"
            )
        }
    }

    private static func changed(_ tls: RedisTLS, _ name: String, _ value: String) throws(LockError) -> RedisTLS {
        guard !value.isEmpty else { throw Self.invalid("\(name)= is empty") }
        var tls = tls
        switch name {
        case "ca": tls.authorityFile = value
        case "cert": tls.certificateFile = value
        case "key": tls.keyFile = value
        case "sni": tls.serverName = value
        default:
            guard let verification = RedisTLS.Verification(rawValue: value) else {
                throw Self.invalid("verify is either full or none")
            }
            tls.verification = verification
        }
        return tls
    }

    private static func duration(_ text: String) throws(LockError) -> Duration {
        guard let duration = URLText.duration(text) else { throw Self.invalid("the timeout must be like 500ms or 2s") }
        return duration
    }

    private static func decoded(_ text: Substring, _ what: String) throws(LockError) -> String {
        guard let decoded = URLText.decoded(text) else {
            throw Self.invalid("\(what) is not percent-encoded UTF-8 text")
        }
        return decoded
    }
}
