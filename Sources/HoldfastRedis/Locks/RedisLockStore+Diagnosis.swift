// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore
import NIOCore

#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

extension RedisLockStore: DiagnosableStore {
    /// How many times the round trip is measured.
    private static var pings: Int { 5 }
    /// A slower round trip is worth a word: with it, a lease of a second has little room for a renewal.
    private static var slowRoundTrip: Duration { .milliseconds(20) }
    /// How far the clocks may differ before somebody should look.
    ///
    /// Nothing depends on it but tokens after a failover.
    private static var largestClockOffset: Duration { .seconds(1) }

    private static var leastPermissions: String { "least permissions" }

    /// See ``DiagnosableStore/diagnose()``.
    ///
    /// About ten round trips, to each master of a cluster. What the server does not permit to look at is said so and is
    /// no problem.
    ///
    /// - Returns: What was found, the most basic things first.
    public func diagnose() async -> [Finding] {
        switch self.servers {
        case .one(let master): await self.diagnose(master)
        case .cluster(let cluster): await self.diagnose(cluster)
        }
    }

    private func diagnose(_ master: RedisMaster) async -> [Finding] {
        let server = Finding(name: "server", value: self.configuration.description)
        let latency: Duration
        do {
            latency = try await self.medianRoundTrip()
        } catch {
            return [
                Finding(
                    name: "server",
                    value: self.configuration.description,
                    severity: .problem,
                    advice: (error as? LockError)?.message ?? "the server does not answer"
                )
            ]
        }
        var findings = [server, Self.latency(latency)]
        findings.append(await self.clockOffset(roundTrip: latency))
        do {
            let reply = try await self.client.run(["INFO"])
            findings += Diagnosis.findings(info: reply.text ?? "")
        } catch {
            findings.append(Self.unseen("settings", error, permission: "+info"))
        }
        findings.append(await self.minimumReplicas())
        findings.append(self.permissions())
        findings.append(await self.messages(master))
        return findings
    }

    /// Of the whole first, then of each master.
    private func diagnose(_ cluster: RedisCluster) async -> [Finding] {
        let masters: [RedisMaster]
        do {
            masters = try await cluster.masters()
        } catch {
            return [
                Finding(
                    name: "cluster",
                    value: self.configuration.description,
                    severity: .problem,
                    advice: error.message
                )
            ]
        }
        let isWhole = cluster.covered == RedisSlot.count
        var findings = [
            Finding(
                name: "cluster",
                value: "\(masters.count) masters, \(cluster.covered) of \(RedisSlot.count) slots",
                severity: isWhole ? .ok : .problem,
                advice: isWhole ? nil : "locks of the other slots fail; see redis-cli --cluster check"
            )
        ]
        findings.append(self.permissions())
        for master in masters {
            guard let store = try? RedisLockStore(configuration: master.configuration) else { continue }
            findings += await store.diagnose().filter { $0.name != Self.leastPermissions }.map { finding in
                var finding = finding
                finding.name = "\(master.address) \(finding.name)"
                return finding
            }
        }
        return findings
    }

    private func medianRoundTrip() async throws -> Duration {
        _ = try await self.client.run(["PING"])
        var times: [Duration] = []
        for _ in 0..<Self.pings {
            let start = ContinuousClock.now
            _ = try await self.client.run(["PING"])
            times.append(start.duration(to: .now))
        }
        return times.sorted()[Self.pings / 2]
    }

    private static func latency(_ latency: Duration) -> Finding {
        let isSlow = latency > Self.slowRoundTrip
        return Finding(
            name: "round trip",
            value: Diagnosis.milliseconds(latency),
            severity: isSlow ? .warning : .ok,
            advice: isSlow ? "use leases of many times this, or a server that is nearer" : nil
        )
    }

    private func clockOffset(roundTrip: Duration) async -> Finding {
        do {
            let parts = try ScriptReplies.elements(try await self.client.run(["TIME"]), atLeast: 2)
            var now = timespec()
            unsafe clock_gettime(CLOCK_REALTIME, &now)
            let seconds = try ScriptReplies.number(parts[0])
            let micros = try ScriptReplies.number(parts[1])
            let server = Duration.seconds(seconds) + .microseconds(micros) + roundTrip / 2
            let own = Duration.seconds(Int64(now.tv_sec)) + .nanoseconds(Int64(now.tv_nsec))
            let offset = server - own
            let isFar = offset > Self.largestClockOffset || offset < .zero - Self.largestClockOffset
            return Finding(
                name: "clock of the server",
                value: "\(Diagnosis.milliseconds(offset)) from ours",
                severity: isFar ? .warning : .ok,
                advice: isFar
                    ? "leases do not mind, but let NTP set both clocks, or tokens may stop after a failover" : nil
            )
        } catch {
            return Self.unseen("clock of the server", error, permission: "+time")
        }
    }

    /// What a user for Holdfast alone needs; nothing to do for who has it.
    private func permissions() -> Finding {
        let rules = RedisPermissions.rules(
            prefix: self.configuration.prefix,
            isCluster: self.configuration.cluster != nil,
            database: self.configuration.database
        )
        return Finding(
            name: Self.leastPermissions,
            value: "ACL SETUSER \(self.configuration.user ?? "NAME") \(rules.joined(separator: " "))"
        )
    }

    private func minimumReplicas() async -> Finding {
        do {
            let reply = try await self.client.run(["CONFIG", "GET", "min-replicas-to-write"])
            let parts = try ScriptReplies.elements(reply)
            let count = parts.count == 2 ? parts[1].text ?? "0" : "0"
            // A server that nobody takes over from has no replicas to write to.
            let isLone = count == "0" && (self.configuration.sentinels != nil || self.configuration.isClusterNode)
            return Finding(
                name: "min-replicas-to-write",
                value: count,
                severity: isLone ? .warning : .ok,
                advice: isLone
                    ? "a master that is cut off grants what its successor grants too; set it to 1 or more" : nil
            )
        } catch {
            return Self.unseen("min-replicas-to-write", error, permission: "+config|get")
        }
    }

    /// Whether the user may also send: who releases a lock tells the next one.
    private func publishing() async -> Finding {
        do {
            _ = try await self.client.run(["PUBLISH", self.channel, ""])
            return Finding(name: "messages", value: "listening")
        } catch {
            return Finding(
                name: "messages",
                value: "listening, not sending",
                severity: .warning,
                advice:
                    "waiters find out late that it is their turn; let the user publish to hf:c:* channels (+publish)"
            )
        }
    }

    private func messages(_ master: RedisMaster) async -> Finding {
        switch await self.standing(master) {
        case .listening: await self.publishing()
        case .forbidden:
            Finding(
                name: "messages",
                value: "not permitted",
                severity: .warning,
                advice: "waiters poll ten times a second; let the user subscribe and publish to hf:c:* channels"
            )
        case .late, .refused:
            Finding(
                name: "messages",
                value: "no second connection",
                severity: .warning,
                advice: "waiters cannot be told of a release; check the server's maxclients"
            )
        }
    }

    private static func unseen(_ name: String, _ error: any Error, permission: String) -> Finding {
        let error = error as? LockError
        return Finding(
            name: name,
            value: "not known: \(error?.message ?? "no answer")",
            severity: .ok,
            advice: error?.code == .storeRefused ? "give the user \(permission) to see it" : nil
        )
    }
}
