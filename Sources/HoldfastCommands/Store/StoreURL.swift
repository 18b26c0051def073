// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import HoldfastRedis
import HoldfastZooKeeper

/// Where locks live, as a user names it.
///
/// Forms: `memory:`, `sqlite:PATH`, `redis://[USER[:PASSWORD]@]HOST[:PORT][,HOST[:PORT]…][/DATABASE]`,
/// `zookeeper://[USER:PASSWORD@]HOST[:PORT],…[/PATH]`. ``description`` never shows the user-info.
package enum StoreURL: Sendable, Hashable {
    /// One process: for trying things out.
    case memory
    /// A SQLite file; `nil` is the default file of the user.
    case sqlite(path: String?)
    /// One Redis server, several of which a majority decides, or a cluster; the text is the whole URL with its credentials.
    case redis(url: String)
    /// A ZooKeeper ensemble; the text is the whole URL with its credentials.
    case zookeeper(url: String)

    /// What is wrong with a URL.
    ///
    /// Never repeats the URL, which may hold a password.
    package struct Problem: Error, CustomStringConvertible {
        /// One sentence for a person.
        package let description: String
    }

    /// What a user may write.
    package static let forms =
        "memory:, sqlite:PATH, redis://HOST:PORT/DATABASE, redis://HOST,HOST,HOST, redis+sentinel://HOST,HOST,HOST/NAME, redis+cluster://HOST,HOST or zookeeper://HOST,HOST,HOST/PATH"

    /// Reads a URL.
    ///
    /// - Parameter text: The URL.
    /// - Throws: ``Problem``.
    package init(_ text: String) throws(Problem) {
        guard let colon = text.firstIndex(of: ":") else {
            throw Problem(description: "the store has no scheme; use \(Self.forms)")
        }
        let scheme = text[..<colon].lowercased()
        let rest = text[text.index(after: colon)...]
        switch scheme {
        case "memory":
            guard rest.isEmpty else { throw Problem(description: "the memory store takes nothing after `memory:`") }
            self = .memory
        case "sqlite": self = .sqlite(path: try Self.path(String(rest)))
        case "redis+unix", "unix", "redis+sentinel", "redis-sentinel", "rediss+sentinel", "redis+cluster",
            "redis-cluster", "rediss+cluster":
            do throws(LockError) { _ = try RedisConfiguration(url: text) } catch {
                throw Problem(description: error.message)
            }
            self = .redis(url: text)
        case "redis", "rediss": self = .redis(url: try Self.server(text, after: rest))
        case "zookeeper", "zk", "zookeepers", "zks": self = .zookeeper(url: try Self.ensemble(text))
        default:
            // Anything else before the colon may be a password.
            let isScheme = scheme.count <= 32 && scheme.allSatisfy { $0.isASCII && ($0.isLetter || "+.-".contains($0)) }
            let shown = isScheme ? "the scheme '\(scheme)'" : "this"
            throw Problem(description: "this build has no store for \(shown); use \(Self.forms)")
        }
    }

    /// The kind of store.
    package var scheme: String {
        switch self {
        case .memory: "memory"
        case .sqlite: "sqlite"
        case .redis: "redis"
        case .zookeeper: "zookeeper"
        }
    }

    /// The URL with its credentials, for the environment of a worker; never for output.
    package var text: String {
        switch self {
        case .memory: "memory:"
        case .sqlite(let path): "sqlite:\(path ?? "")"
        case .redis(let url), .zookeeper(let url): url
        }
    }

    private static func path(_ text: String) throws(Problem) -> String? {
        var path = text
        if path.hasPrefix("//") {
            path.removeFirst(2)
            guard path.hasPrefix("/") else {
                throw Problem(description: "a sqlite store is sqlite:PATH or sqlite:///PATH, without a host")
            }
        }
        guard !path.hasPrefix("~") else {
            throw Problem(description: "the shell did not expand the ~ of the sqlite store; write the whole path")
        }
        guard path.isEmpty || path.hasPrefix("/") || path.hasPrefix("./") || path.hasPrefix("../") else {
            // Two jobs that mean the same lock must not miss each other because they started elsewhere.
            throw Problem(
                description: "the path of the sqlite store depends on the current directory; write it whole, or "
                    + "begin it with ./ if you mean that"
            )
        }
        guard !path.contains("\0") else { throw Problem(description: "the path of the sqlite store has a NUL") }
        return path.isEmpty ? nil : path
    }

    private static func server(_ url: String, after rest: Substring) throws(Problem) -> String {
        guard rest.hasPrefix("//") else { throw Problem(description: "a redis store is redis://HOST:PORT/DATABASE") }
        guard let authority = Self.authority(of: url), !authority.isEmpty else {
            throw Problem(description: "the redis store names no host; use redis://HOST:PORT/DATABASE")
        }
        if let user = url.lastIndex(of: "@"), user > authority.endIndex {
            throw Problem(
                description: "the redis store's URL has an @ after its host; in a user name or password, write @ as "
                    + "%40, / as %2F, ? as %3F, # as %23 and : as %3A"
            )
        }
        guard RedisQuorumConfiguration.names(severalIn: url) else { return url }
        do throws(LockError) {
            _ = try RedisQuorumConfiguration(url: url)
            return url
        } catch {
            throw Problem(description: error.message)
        }
    }

    /// What follows the host, up to the settings; empty where an unescaped password could show.
    private static func path(after url: String) -> Substring {
        guard let authority = Self.authority(of: url) else { return "" }
        let path = url[authority.endIndex...].prefix { $0 != "?" && $0 != "#" }
        return path.contains("@") ? "" : path
    }

    private static func ensemble(_ url: String) throws(Problem) -> String {
        do throws(LockError) {
            _ = try ZooKeeperConfiguration(url: url)
            return url
        } catch {
            throw Problem(description: error.message)
        }
    }

    /// Host and port, without the user-info.
    private static func authority(of url: String) -> Substring? {
        guard let start = url.firstRange(of: "//")?.upperBound else { return nil }
        let authority = url[start...].prefix { $0 != "/" && $0 != "?" && $0 != "#" }
        guard let at = authority.lastIndex(of: "@") else { return authority }
        return authority[authority.index(after: at)...]
    }
}

extension StoreURL: CustomStringConvertible {
    /// The URL without user-info, for output.
    package var description: String {
        switch self {
        case .memory, .sqlite: self.text
        case .redis(let url):
            if let known = try? RedisConfiguration(url: url),
                known.socketPath != nil || known.sentinels != nil || known.cluster != nil
            {
                known.description
            } else {
                "\(url.hasPrefix("rediss:") ? "rediss" : "redis")://\(Self.authority(of: url).map(String.init) ?? "")"
            }
        case .zookeeper(let url):
            "zookeeper://\(Self.authority(of: url).map(String.init) ?? "")\(Self.path(after: url))"
        }
    }
}
