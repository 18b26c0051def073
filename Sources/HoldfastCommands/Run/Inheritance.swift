// SPDX-License-Identifier: Apache-2.0

package import Holdfast
import HoldfastCore

/// How a command under a lock passes its owner on to the `holdfast` commands that it starts.
///
/// Two variables: `HOLDFAST_OWNER`, the owner's short id, and `HOLDFAST_HOLDING`, the references of the grants that it
/// holds, the innermost first, separated by commas. Neither is a secret, and neither gives any right: whoever makes them
/// up only misleads the search for deadlocks about himself.
package enum Inheritance {
    /// The variable with the owner.
    package static let ownerVariable = "HOLDFAST_OWNER"
    /// The variable with what it holds.
    package static let holdingVariable = "HOLDFAST_HOLDING"

    /// The owner that this process was started by, if it was.
    ///
    /// - Parameters:
    ///   - environment: Where the variables are; what cannot be read counts as nothing.
    ///   - label: A name for this process' part of the work.
    /// - Returns: The owner, described as this process, since that is what waits.
    package static func read(_ environment: Environment = .process, label: String?) -> InheritedOwner? {
        guard let holding = environment[Self.holdingVariable],
            let (instance, serial) = environment[Self.ownerVariable].flatMap(OwnerID.parse(id:))
        else {
            return nil
        }
        let references = holding.split(separator: ",").map(String.init)
        guard !references.isEmpty, references.count <= Limits.maximumHolding, references.allSatisfy(Self.isReference)
        else {
            return nil
        }
        let process = ProcessIdentity.current(instance: instance, program: nil)
        return InheritedOwner(owner: OwnerID(process: process, serial: serial, label: label), holding: references)
    }

    private static func isReference(_ text: String) -> Bool {
        text.utf8.count == 8 && text.allSatisfy { $0.isHexDigit }
    }
}
