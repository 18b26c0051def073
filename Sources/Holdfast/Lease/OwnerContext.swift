// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// The owner that work under a scoped lock acts for, and what that owner holds.
///
/// Child tasks inherit it.
final class OwnerContext: Sendable {
    @TaskLocal static var current: OwnerContext?

    let owner: OwnerID
    private let core: LeaseCore
    private let engine: ObjectIdentifier
    private let outer: OwnerContext?

    init(core: LeaseCore, engine: Engine, outer: OwnerContext?) {
        self.owner = core.owner
        self.core = core
        self.engine = ObjectIdentifier(engine)
        self.outer = outer
    }

    /// The lock that this owner holds on a resource of an engine, if it does.
    ///
    /// Linear in the depth of nesting.
    func held(_ resource: Resource, of engine: Engine) -> LeaseCore? {
        var context: OwnerContext? = self
        while let next = context {
            if next.engine == ObjectIdentifier(engine), next.core.key.resource == resource, next.core.isHeld {
                return next.core
            }
            context = next.outer
        }
        return nil
    }

    /// The references of the grants that this work runs under, in any store, the innermost first.
    var holding: [String] {
        var references: [String] = []
        var context: OwnerContext? = self
        while let next = context {
            let reference = next.core.key.id.reference
            if next.core.isHeld, !references.contains(reference) { references.append(reference) }
            context = next.outer
        }
        return references
    }
}
