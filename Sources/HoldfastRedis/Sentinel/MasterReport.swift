// SPDX-License-Identifier: Apache-2.0

/// What a Sentinel says of a master: pure.
package struct MasterReport: Sendable, Hashable {
    /// Where it believes the master to be.
    package let address: RedisAddress
    /// How many failovers it knows of: who knows of more is right.
    package let epoch: Int64

    /// Makes a report.
    package init(address: RedisAddress, epoch: Int64) {
        self.address = address
        self.epoch = epoch
    }

    /// Reads a reply to `SENTINEL MASTER`: names and values in turn.
    package init?(_ reply: RedisReply) {
        guard let parts = reply.elements, parts.count.isMultiple(of: 2) else { return nil }
        var fields: [String: String] = [:]
        for index in stride(from: 0, to: parts.count, by: 2) {
            if let name = parts[index].text, let value = parts[index + 1].text { fields[name] = value }
        }
        guard let host = fields["ip"], !host.isEmpty, let port = fields["port"].flatMap({ Int($0) }),
            (1...65_535).contains(port)
        else { return nil }
        self.init(
            address: RedisAddress(host: host, port: port),
            epoch: fields["config-epoch"].flatMap { Int64($0) } ?? 0
        )
    }

    /// Whom to believe: of those who answered, who knows of most failovers.
    ///
    /// In the moment of a switch the old and the new master are reported with the same count, by one that has not finished
    /// it and by those that have heard of it; then the one that was announced counts. Who heard no announcement believes
    /// those that name another than was the master before, and then most.
    ///
    /// - Parameters:
    ///   - reports: The report of each Sentinel, `nil` inside for no answer, and outside while it is awaited.
    ///   - announced: What a Sentinel announced last, if any did.
    /// - Returns: The report, `nil` inside when nobody knows, and outside while that may change: until most have answered,
    ///   or all when nobody confirms what was announced, or they do not agree.
    package static func choice(_ reports: [MasterReport??], _ announced: RedisAddress? = nil) -> MasterReport?? {
        let known = reports.compactMap { $0 ?? nil }
        let isComplete = !reports.contains { $0 == nil }
        let latest = known.map(\.epoch).max()
        let best = known.filter { $0.epoch == latest }
        let confirmed = best.first { $0.address == announced }
        let isSettled = announced == nil ? best.allSatisfy { $0.address == best.first?.address } : confirmed != nil
        guard isComplete || (known.count > reports.count / 2 && isSettled) else { return nil }
        if let confirmed { return .some(confirmed) }
        let former = Set(known.filter { $0.epoch != latest }.map(\.address))
        let others = best.filter { !former.contains($0.address) }
        let candidates = others.isEmpty ? best : others
        return .some(
            candidates.max { one, other in
                candidates.count { $0.address == one.address } < candidates.count { $0.address == other.address }
            }
        )
    }
}
