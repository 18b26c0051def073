// SPDX-License-Identifier: Apache-2.0

import CHoldfastProcess
package import Holdfast
import HoldfastCore

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
    package static func variables(for lease: Lease) -> [CText] {
        let own = [
            "HOLDFAST_RESOURCE": lease.resource.name,
            "HOLDFAST_FENCING_TOKEN": lease.fencingToken.description,
            "HOLDFAST_VALID_UNTIL": BootTime.seconds(BootTime.of(lease.validUntil)),
            "HOLDFAST_OWNER": lease.owner.id,
        ]
        let others = Self.inherited().filter { own[$0.name] == nil }
        return others + own.map { "\($0.key)=\($0.value)" }.sorted().map { CText($0) }
    }
}
