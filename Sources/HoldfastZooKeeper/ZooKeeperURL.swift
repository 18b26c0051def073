// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore

extension ZooKeeperConfiguration {
    /// Reads a URL: `zookeeper://[user:password@]host[:port][,host[:port]…][/path][?setting=value&…]`.
    ///
    /// User, password and path are percent-decoded. Settings: `session`, `tick` and `timeout` (seconds, or with a
    /// unit as `500ms`, `2s`), `layout=curator|curator-rw|kazoo`, `access=open|creator` (with a user, `creator` unless said
    /// otherwise), `release=background|confirmed`, `sharing=yes|no`.
    ///
    /// - Parameter url: The URL. Errors never quote it, since it may hold a password.
    /// - Throws: ``LockError`` with code ``LockError/Code/invalidArgument`` for a URL that cannot be read, and
    ///   ``LockError/Code/unsupported`` for TLS.
    public init(url: String) throws(LockError) {
        guard let schemeEnd = url.firstRange(of: "://") else { throw Self.invalid("it has no scheme") }
        switch url[..<schemeEnd.lowerBound].lowercased() {
        case "zookeeper", "zk": break
        case "zookeepers", "zks":
            throw LockError(
                .unsupported,
                "Holdfast does not encrypt what it says to ZooKeeper (Debian builds the client library without TLS); put a "
                    + "TLS proxy such as stunnel between, and give zookeeper:// with the proxy's address"
            )
        default: throw Self.invalid("its scheme is not zookeeper://")
        }
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
            path = rest[slash...]
            rest = rest[..<slash]
        }
        guard !path.contains("@"), !query.contains("@") else {
            throw Self.invalid(
                "it has an @ after its host; in a user name or password, write @ as %40, / as %2F and ? as %3F"
            )
        }
        self.init()
        if let at = rest.lastIndex(of: "@") {
            try self.read(user: rest[..<at])
            rest = rest[rest.index(after: at)...]
        }
        self.servers = try rest.split(separator: ",", omittingEmptySubsequences: false).map(Self.server)
        while path.hasSuffix("/") { path.removeLast() }
        self.root = try Self.decoded(path, "the path")
        for setting in query.split(separator: "&") { try self.read(setting: setting) }
        try self.check()
    }

    private mutating func read(user info: Substring) throws(LockError) {
        guard let colon = info.firstIndex(of: ":") else {
            throw Self.invalid("it has a user without a password; write user:password@")
        }
        self.user = try Self.decoded(info[..<colon], "the user name")
        self.password = try Self.decoded(info[info.index(after: colon)...], "the password")
        self.access = .creator
    }

    private static func server(_ text: Substring) throws(LockError) -> String {
        guard !text.isEmpty else { throw Self.invalid("it names no host, or ends with a comma") }
        if text.first == "[" {
            guard let end = text.firstIndex(of: "]") else { throw Self.invalid("an IPv6 address lacks its ]") }
            let tail = text[text.index(after: end)...]
            guard tail.isEmpty || tail.first == ":" else { throw Self.invalid("text follows an IPv6 address") }
            return tail.isEmpty ? "\(text):\(Self.defaultPort)" : String(text)
        }
        guard let colon = text.lastIndex(of: ":") else { return "\(text):\(Self.defaultPort)" }
        guard !text[..<colon].contains(":") else { throw Self.invalid("an IPv6 address must be in brackets") }
        let port = text[text.index(after: colon)...]
        guard Int(port) != nil, port.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else {
            throw Self.invalid("a port is not a number")
        }
        return String(text)
    }

    private mutating func read(setting: Substring) throws(LockError) {
        let parts = setting.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        let value = try parts.count == 2 ? Self.decoded(parts[1], "a setting") : ""
        switch parts[0] {
        case "session": self.sessionTimeout = try Self.duration(value, "the session")
        case "tick": self.tick = try Self.duration(value, "the tick")
        case "timeout": self.timeout = try Self.duration(value, "the timeout")
        case "layout": self.layout = try Self.choice(value, "layout")
        case "access": self.access = try Self.choice(value, "access")
        case "release": self.release = try Self.choice(value, "release")
        case "sharing":
            guard value == "yes" || value == "no" else { throw Self.invalid("sharing is either yes or no") }
            self.sharesSession = value == "yes"
        default:
            throw Self.invalid(
                "it has an unknown setting; known are session, tick, timeout, layout, access, release and sharing"
            )
        }
    }

    private static func choice<Choice: RawRepresentable & CaseIterable>(
        _ text: String,
        _ what: String
    ) throws(LockError) -> Choice where Choice.RawValue == String {
        guard let choice = Choice(rawValue: text) else {
            throw Self.invalid("\(what) is one of \(Choice.allCases.map(\.rawValue).joined(separator: ", "))")
        }
        return choice
    }

    private static func duration(_ text: String, _ what: String) throws(LockError) -> Duration {
        guard let duration = URLText.duration(text) else { throw Self.invalid("\(what) must be like 500ms or 10s") }
        return duration
    }

    private static func decoded(_ text: Substring, _ what: String) throws(LockError) -> String {
        guard let decoded = URLText.decoded(text) else {
            throw Self.invalid("\(what) is not percent-encoded UTF-8 text")
        }
        return decoded
    }
}
