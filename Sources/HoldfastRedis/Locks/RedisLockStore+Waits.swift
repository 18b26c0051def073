// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// Who waits for whom, where one server does not know it all.
extension RedisLockStore {
    /// What ``LockScripts/waits`` does in one step, with a call for each owner and lock: on a cluster they are on different
    /// servers.
    ///
    /// What is read may be older than what is read later. Whoever looks for deadlocks looks twice.
    func followWaits(of owner: OwnerID, for resource: Resource) async throws(LockError) -> [ResourceStatus] {
        let prefix = self.configuration.prefix
        let first = WaitIndex(of: owner.id)
        _ = try await self.client.run(["SADD", first.key, prefix + resource.name], on: first.place)
        _ = try await self.client.run(["PEXPIRE", first.key, WaitIndex.lifetime], on: first.place)
        var statuses: [Resource: ResourceStatus] = [:]
        var owners: Set = [owner.id]
        var next = [owner.id]
        while let who = next.popLast(), statuses.count < Limits.maximumWaitGraph {
            let index = WaitIndex(of: who)
            let names = try ScriptReplies.elements(try await self.client.run(["SMEMBERS", index.key], on: index.place))
            let resources = names.compactMap(\.text).filter { $0.hasPrefix(prefix) }
                .compactMap { try? Resource(String($0.dropFirst(prefix.count))) }
                .filter { statuses[$0] == nil }.prefix(Limits.maximumWaitGraph - statuses.count)
            guard !resources.isEmpty else { continue }
            for status in try await self.perSlot(Array(resources), \.self, { self.commands.statuses($0) }) {
                guard status.waiters.contains(where: { $0.owner?.id == who }) else {
                    _ = try await self.client.run(["SREM", index.key, prefix + status.resource.name], on: index.place)
                    continue
                }
                statuses[status.resource] = status
                for one in status.holders.map(\.owner?.id) + status.waiters.map(\.owner?.id) {
                    if let one, owners.insert(one).inserted { next.append(one) }
                }
            }
        }
        return Array(statuses.values)
    }
}

/// Where it is remembered what an owner waits for.
private struct WaitIndex {
    static let lifetime = String(LockScripts.waitMemory)

    let key: String

    init(of owner: String) { self.key = "hf:o:{\(owner)}" }

    var place: RedisClient.Place { .slot(RedisSlot(of: self.key)) }
}
