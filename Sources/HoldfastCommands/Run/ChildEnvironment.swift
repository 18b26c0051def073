// SPDX-License-Identifier: Apache-2.0

import CHoldfastProcess
package import Holdfast
package import HoldfastCore

/// What a command run under a lock finds in its environment.
package enum ChildEnvironment {
    /// Our own variables, as `NAME=value`, byte by byte: not all that others put there is UTF-8.
    package static func inherited() -> [CText] {
        var variables: [CText] = []
        guard var next = hf_environment() else { return [] }
        while let variable = next.pointee {
            variables.append(CText(variable))
            next += 1
        }
        return variables
    }

    /// Our own variables and those that describe a lock.
    ///
    /// The grant is not among them: the command must not be able to give the lock away.
    ///
    /// - Parameters:
    ///   - lease: The lock.
    ///   - inherited: What the owner holds besides.
    /// - Returns: The variables, as `NAME=value`.
    package static func variables(for lease: Lease, besides inherited: InheritedOwner?) -> [CText] {
        let holding = [lease.grant.id.reference] + (inherited?.holding ?? [])
        return Self.variables([
            "HOLDFAST_RESOURCE": lease.resource.name,
            "HOLDFAST_FENCING_TOKEN": lease.fencingToken.description,
            "HOLDFAST_VALID_UNTIL": BootTime.seconds(BootTime.of(lease.validUntil)),
            Inheritance.ownerVariable: lease.owner.id,
            Inheritance.holdingVariable: holding.prefix(Limits.maximumHolding).joined(separator: ","),
        ])
    }

    /// Our own variables, and those that describe a lock that an outer command holds.
    package static func variables(for holder: Holder, of resource: Resource) -> [CText] {
        let end = holder.remaining.map { BootTime.now + $0.nanoseconds } ?? BootTime.now
        return Self.variables([
            "HOLDFAST_RESOURCE": resource.name,
            "HOLDFAST_FENCING_TOKEN": holder.fencingToken?.description ?? "",
            "HOLDFAST_VALID_UNTIL": BootTime.seconds(end),
        ])
    }

    private static func variables(_ own: [String: String]) -> [CText] {
        let others = Self.inherited().filter { own[$0.name] == nil }
        return others + own.map { "\($0.key)=\($0.value)" }.sorted().map { CText($0) }
    }
}
