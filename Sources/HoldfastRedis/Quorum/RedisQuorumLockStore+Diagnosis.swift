// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore

extension RedisQuorumLockStore: DiagnosableStore {
    /// See ``DiagnosableStore/diagnose()``.
    ///
    /// A dozen round trips to each server, all servers at once.
    ///
    /// - Returns: What was found: of the whole first, then of each server.
    public func diagnose() async -> [Finding] {
        let errors = await self.readClocks()
        var findings = [self.majority(errors), self.skew(), self.restarts()]
        let stores = self.configuration.servers.compactMap { try? RedisLockStore(configuration: $0) }
        let each = await withTaskGroup(of: (Int, [Finding]).self) { group in
            for (number, store) in stores.enumerated() { group.addTask { (number, await store.diagnose()) } }
            var each = Array(repeating: [Finding](), count: stores.count)
            for await (number, found) in group { each[number] = found }
            return each
        }
        for (server, found) in zip(self.configuration.servers, each) {
            findings += found.map { finding in
                var finding = finding
                finding.name = "\(server.place) \(finding.name)"
                return finding
            }
        }
        return findings
    }

    private func majority(_ errors: [LockError?]) -> Finding {
        let count = errors.count
        let answering = errors.count { $0 == nil }
        let spare = answering - self.needed
        return Finding(
            name: "majority",
            value: "\(answering) of \(count) servers answer, \(self.needed) are needed",
            severity: spare < 0 ? .problem : answering < count ? .warning : .ok,
            advice: spare < 0
                ? "no lock can be granted; bring servers back"
                : answering < count
                    ? "bring the others back: \(spare == 0 ? "one more failure stops all locks" : "\(spare) more may fail")"
                    : count.isMultiple(of: 2) ? "\(count - 1) servers stand as many failures as \(count)" : nil
        )
    }

    private func skew() -> Finding {
        let skew = self.clockSkew
        let isFar = skew > ClockWatch.tolerance
        return Finding(
            name: "clock skew",
            value: Diagnosis.milliseconds(skew),
            severity: isFar ? .warning : .ok,
            advice: isFar ? "a clock that runs or jumps ahead ends leases early on its server; check NTP there" : nil
        )
    }

    private func restarts() -> Finding {
        guard let time = self.configuration.restartGuard else {
            return Finding(
                name: "restart guard",
                value: "off",
                severity: .warning,
                advice: "one server that restarts without its data can let two hold a lock; set guard=60s unless all "
                    + "servers use appendfsync always"
            )
        }
        let young = self.nodes.indices.filter { !self.counts($0) }.map { self.nodes[$0] }
        return Finding(
            name: "restart guard",
            value: young.isEmpty ? time.brief : "\(time.brief); \(young.count) servers do not count yet",
            severity: young.isEmpty ? .ok : self.nodes.count - young.count < self.needed ? .problem : .warning,
            advice: young.isEmpty
                ? nil : "wait until they have been up for \(time.brief): \(young.map(\.place).joined(separator: ", "))"
        )
    }
}
