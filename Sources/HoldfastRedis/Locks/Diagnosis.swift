// SPDX-License-Identifier: Apache-2.0

package import HoldfastCore

/// Reads what `INFO` says about a server's fitness for locks; pure.
package enum Diagnosis {
    /// The first version with all commands that the scripts use.
    private static let oldestVersion = (6, 2)

    /// Findings in a reply to `INFO`.
    package static func findings(info: String) -> [Finding] {
        [Self.version(info), Self.role(info), Self.memory(info), Self.persistence(info)]
    }

    /// A duration as milliseconds with two decimals.
    package static func milliseconds(_ duration: Duration) -> String {
        let hundredths = duration.nanoseconds / 10_000
        let fraction = abs(hundredths % 100)
        return "\(hundredths < 0 ? "-" : "")\(abs(hundredths / 100)).\(fraction < 10 ? "0" : "")\(fraction) ms"
    }

    private static func version(_ info: String) -> Finding {
        let version = Handshake.field("redis_version", of: info) ?? "unknown"
        let numbers = version.split(separator: ".").compactMap { Int($0) }
        let isOld = numbers.count >= 2 && (numbers[0], numbers[1]) < Self.oldestVersion
        return Finding(
            name: "version",
            value: version,
            severity: isOld ? .problem : .ok,
            advice: isOld ? "Holdfast needs Redis 6.2 or later" : nil
        )
    }

    private static func role(_ info: String) -> Finding {
        let replicas = Handshake.field("connected_slaves", of: info) ?? "0"
        guard Handshake.field("role", of: info) == "slave" else {
            return Finding(
                name: "role",
                value: "master with \(replicas) replicas",
                severity: replicas == "0" ? .ok : .warning,
                advice: replicas == "0" ? nil : "a failover may lose the newest locks; holders learn it when they renew"
            )
        }
        return Finding(name: "role", value: "replica", severity: .problem, advice: "connect to the master")
    }

    private static func memory(_ info: String) -> Finding {
        let policy = Handshake.field("maxmemory_policy", of: info) ?? "unknown"
        let limit = Handshake.field("maxmemory_human", of: info) ?? "unknown"
        let isSafe = policy == "noeviction"
        return Finding(
            name: "eviction",
            value: "\(policy), maxmemory \(limit)",
            severity: isSafe ? .ok : .warning,
            advice: isSafe ? nil : "the server may drop locks when memory is short; set maxmemory-policy noeviction"
        )
    }

    private static func persistence(_ info: String) -> Finding {
        let appends = Handshake.field("aof_enabled", of: info) == "1"
        return Finding(
            name: "persistence",
            value: appends ? "append-only file" : "snapshots at most",
            severity: appends ? .ok : .warning,
            advice: appends ? nil : "a restart frees locks that are held; holders learn it when they renew"
        )
    }
}
