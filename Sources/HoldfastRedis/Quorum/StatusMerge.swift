// SPDX-License-Identifier: Apache-2.0

package import HoldfastCore

/// What several servers say of one resource, as one: pure.
package enum StatusMerge {
    /// Merges descriptions of one resource.
    ///
    /// Whoever holds on a majority holds. Whoever waits anywhere and does not hold waits.
    ///
    /// - Parameters:
    ///   - resource: The resource.
    ///   - statuses: What those said that answered.
    ///   - count: How many servers there are.
    /// - Returns: The description.
    package static func status(
        of resource: Resource,
        _ statuses: [ResourceStatus],
        of count: Int
    ) -> ResourceStatus {
        let needed = AcquireTally.majority(of: count)
        let holders = Self.holders(statuses.map(\.holders), needed: needed)
        let held = Set(holders.compactMap(\.reference))
        var waiters: [String: Waiter] = [:]
        // A holder is in both lists when it waits to become exclusive, and where its place in the queue was left.
        for waiter in statuses.flatMap(\.waiters)
        where !held.contains(waiter.reference) || waiter.holding.contains(waiter.reference) {
            let known = waiters[waiter.reference]?.waitingFor ?? .zero
            if waiters[waiter.reference] == nil || waiter.waitingFor ?? .zero > known {
                waiters[waiter.reference] = waiter
            }
        }
        let rests = statuses.map { $0.restingFor ?? .zero }.sorted(by: >)
        // While so many rest, no majority is left.
        let blocking = count - needed
        let resting = blocking < rests.count ? rests[blocking] : .zero
        return ResourceStatus(
            resource: resource,
            holders: holders,
            waiters: waiters.values.sorted {
                ($0.waitingFor ?? .zero, $1.reference) > ($1.waitingFor ?? .zero, $0.reference)
            },
            restingFor: resting > .zero ? resting : nil
        )
    }

    /// Those of several lists that are in a majority of them, the one that has held longest first.
    package static func holders(_ lists: [[Holder]], needed: Int) -> [Holder] {
        var groups: [String: [Holder]] = [:]
        for holder in lists.joined() { groups[holder.reference ?? "foreign", default: []].append(holder) }
        let merged = groups.values.filter { $0.count >= needed }.map { Self.merge($0, needed: needed) }
        return merged.sorted { ($0.heldFor ?? .zero, $1.reference ?? "") > ($1.heldFor ?? .zero, $0.reference ?? "") }
    }

    private static func merge(_ holders: [Holder], needed: Int) -> Holder {
        var result = holders[0]
        for holder in holders.dropFirst() {
            if holder.heldFor ?? .zero > result.heldFor ?? .zero { result.heldFor = holder.heldFor }
            // An exclusive holder that still is something less elsewhere is on its way.
            if holder.mode != .exclusive { result.mode = holder.mode }
        }
        // A majority knows the token; a server that was late gave a higher one to nobody.
        let tokens = holders.compactMap(\.fencingToken).sorted(by: >)
        result.fencingToken = tokens.isEmpty ? nil : tokens[min(needed, tokens.count) - 1]
        result.isAccepting = holders.count(where: \.isAccepting) > holders.count - needed
        // It holds for as long as it does on a majority; one without an end holds for ever.
        let ends = holders.map { $0.remaining ?? .seconds(Int64.max / 2) }.sorted(by: >)
        let end = ends[min(needed, ends.count) - 1]
        result.remaining = end >= .seconds(Int64.max / 2) ? nil : end
        return result
    }
}
