// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore

extension ZooKeeperLockStore: DiagnosableStore {
    /// How many times the round trip is measured.
    private static var trips: Int { 5 }
    /// A slower round trip to the leader is worth a word: each lock costs one.
    private static var slowRoundTrip: Duration { .milliseconds(50) }

    /// See ``DiagnosableStore/diagnose()``.
    ///
    /// About nine round trips.
    ///
    /// - Returns: What was found, the most basic things first.
    public func diagnose() async -> [Finding] {
        do {
            let wire = try await self.wire()
            return [
                Finding(name: "ensemble", value: self.configuration.description), try await self.roundTrip(wire),
                self.sessionTimeout(wire), try await self.root(wire), self.access(),
                Finding(name: "layout", value: self.configuration.layout.rawValue), await self.deadlocks(wire),
            ]
        } catch {
            let advice = (error as? LockError)?.message ?? "the servers do not answer"
            return [
                Finding(
                    name: "ensemble",
                    value: self.configuration.description,
                    severity: .problem,
                    advice: advice
                )
            ]
        }
    }

    private func roundTrip(_ wire: Wire) async throws -> Finding {
        var times: [Duration] = []
        for _ in 0..<Self.trips {
            let start = ContinuousClock.now
            let reply = await wire.sync("/")
            guard reply.code.isAnswer else { throw reply.code.error("reach the leader", at: self.place) }
            times.append(start.duration(to: .now))
        }
        let median = times.sorted()[times.count / 2]
        return Finding(
            name: "round trip to the leader",
            value: "\(Double(median.nanoseconds / 10_000) / 100) ms",
            severity: median > Self.slowRoundTrip ? .warning : .ok,
            advice: median > Self.slowRoundTrip ? "each lock costs one round trip; look for servers nearer by" : nil
        )
    }

    private func sessionTimeout(_ wire: Wire) -> Finding {
        let negotiated = wire.link.handle.session.map { Duration.milliseconds(Int64($0.timeout)) } ?? .zero
        let isLonger = negotiated > self.configuration.sessionTimeout
        return Finding(
            name: "session timeout",
            value: negotiated.brief,
            severity: isLonger ? .warning : .ok,
            advice: isLonger
                ? "longer than the \(self.configuration.sessionTimeout.brief) that were asked for: a dead holder blocks "
                    + "others for so long; lower the servers' minSessionTimeout" : nil
        )
    }

    private func root(_ wire: Wire) async throws -> Finding {
        let root = self.rootNode
        let reply = await wire.children(of: root)
        switch reply.code {
        case .ok: return Finding(name: "root", value: root)
        case .noNode: return Finding(name: "root", value: "\(root), which is made with the first lock")
        default: throw reply.code.error("list \(root)", at: self.place)
        }
    }

    /// Whether it can be known who waits for whom.
    private func deadlocks(_ wire: Wire) async -> Finding {
        let isHidden = await wire.children(of: self.waitsRoom).code == .noPermission
        return Finding(
            name: "deadlocks",
            value: isHidden ? "not found: no right to read \(self.waitsRoom)" : "found",
            severity: isHidden ? .warning : .ok,
            advice: isHidden
                ? "whoever waits in a circle waits until its limit; permit this user to list that node and to create below "
                    + "it, or give the URL another path" : nil
        )
    }

    private func access() -> Finding {
        if let parent = self.remover.denied.first {
            return Finding(
                name: "access",
                value: "no right to delete below \(parent)",
                severity: .problem,
                advice: "locks there stay until their session ends; permit this user to delete nodes, or give the URL "
                    + "another user"
            )
        }
        let isOpen = self.configuration.access == .open
        return Finding(
            name: "access",
            value: isOpen ? "open" : "creator",
            severity: isOpen ? .warning : .ok,
            advice: isOpen
                ? "whoever reaches the servers can take locks away; give the URL a user: zookeeper://user:password@…"
                : nil
        )
    }
}
