// SPDX-License-Identifier: Apache-2.0

package import HoldfastCore

/// What changed between two looks at a store.
package struct SurveyChange: Sendable, Hashable {
    /// A kind of change.
    package enum Kind: String, Sendable, Hashable {
        /// Somebody holds the resource who did not before.
        case acquired
        /// Somebody holds it no more, for whatever reason.
        case ended
        /// Somebody waits who did not before.
        case waiting
        /// Somebody who waited does so no more and does not hold it either.
        case left
        /// The resource rests since its holder vanished.
        case resting
    }

    /// The resource.
    package let resource: Resource
    /// What happened.
    package let kind: Kind
    /// Who it happened to; `nil` for a foreign holder and for resting.
    package let owner: OwnerID?
    /// The details as JSON.
    package let details: JSONValue

    /// Compares two looks: ends first, then beginnings, resources in order.
    ///
    /// What came and went between the looks is not seen.
    package static func between(
        _ before: [Resource: ResourceStatus],
        _ after: [Resource: ResourceStatus]
    ) -> [SurveyChange] {
        Set(before.keys).union(after.keys).sorted().flatMap { resource in
            let empty = ResourceStatus(resource: resource, holders: [], waiters: [])
            return Self.between(before[resource] ?? empty, after[resource] ?? empty)
        }
    }

    private static func between(_ before: ResourceStatus, _ after: ResourceStatus) -> [SurveyChange] {
        let held = Set(before.holders.map(Self.key))
        let holds = Set(after.holders.map(Self.key))
        let waited = Set(before.waiters.map(\.reference))
        let waits = Set(after.waiters.map(\.reference))
        func change(_ kind: Kind, _ owner: OwnerID?, _ details: JSONValue) -> SurveyChange {
            SurveyChange(resource: after.resource, kind: kind, owner: owner, details: details)
        }
        var changes: [SurveyChange] = []
        for holder in before.holders where !holds.contains(Self.key(holder)) {
            changes.append(change(.ended, holder.owner, StatusView.json(holder)))
        }
        for waiter in before.waiters where !waits.contains(waiter.reference) && !holds.contains(waiter.reference) {
            changes.append(change(.left, waiter.owner, StatusView.json(waiter)))
        }
        for holder in after.holders where !held.contains(Self.key(holder)) {
            changes.append(change(.acquired, holder.owner, StatusView.json(holder)))
        }
        for waiter in after.waiters where !waited.contains(waiter.reference) {
            changes.append(change(.waiting, waiter.owner, StatusView.json(waiter)))
        }
        if before.restingFor == nil, after.restingFor != nil { changes.append(change(.resting, nil, .null)) }
        return changes
    }

    /// What tells holders apart; a foreign one is only told by its mode and its token, if it has one.
    private static func key(_ holder: Holder) -> String {
        holder.reference ?? "foreign \(holder.mode) \(holder.fencingToken?.description ?? "")"
    }
}
