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

    /// Our own variables and those that describe the locks.
    ///
    /// The grant is not among them: the command must not be able to give the lock away.
    ///
    /// - Parameters:
    ///   - leases: The locks, in the order in which they were named.
    ///   - inherited: What the owner holds besides.
    /// - Returns: The variables, as `NAME=value`.
    package static func variables(for leases: [Lease], besides inherited: InheritedOwner?) -> [CText] {
        guard let first = leases.first else { return Self.inherited() }
        let holding = leases.map(\.grant.id.reference) + (inherited?.holding ?? [])
        let end = leases.map(\.validUntil).min() ?? first.validUntil
        return Self.variables([
            "HOLDFAST_RESOURCE": first.resource.name,
            "HOLDFAST_FENCING_TOKEN": first.fencingToken.description,
            "HOLDFAST_FENCING_TOKENS": leases.map { "\($0.fencingToken) \($0.resource)\n" }.joined(),
            "HOLDFAST_VALID_UNTIL": BootTime.seconds(BootTime.of(end)),
            Inheritance.ownerVariable: first.owner.id,
            Inheritance.holdingVariable: holding.prefix(Limits.maximumHolding).joined(separator: ","),
        ])
    }

    /// Our own variables, and those that describe a lock that an outer command holds.
    package static func variables(for holder: Holder, of resource: Resource) -> [CText] {
        // What another process wrote may be any number.
        let (end, isTooLong) = BootTime.now.addingReportingOverflow(holder.remaining?.nanoseconds ?? 0)
        return Self.variables([
            "HOLDFAST_RESOURCE": resource.name,
            "HOLDFAST_FENCING_TOKEN": holder.fencingToken?.description ?? "",
            "HOLDFAST_VALID_UNTIL": BootTime.seconds(isTooLong ? .max : end),
        ])
    }

    private static func variables(_ own: [String: String]) -> [CText] {
        let others = Self.inherited().filter { own[$0.name] == nil }
        return others + own.map { "\($0.key)=\($0.value)" }.sorted().map { CText($0) }
    }
}
