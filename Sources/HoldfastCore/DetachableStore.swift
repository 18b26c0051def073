// SPDX-License-Identifier: Apache-2.0

/// A store that frees the locks of dead processes at once, and can be told not to.
public protocol DetachableStore: LockStore {
    /// Unties a grant from the life of the process that asked for it: only its lease ends it from now on.
    ///
    /// For a process that takes a lock on behalf of another and exits. Renewing by any process keeps the grant untied.
    /// May be called again; a grant that does not exist any more is left alone.
    ///
    /// - Parameter grant: The grant.
    /// - Throws: ``LockError``; the grant may then still be tied to its process.
    func detach(_ grant: GrantKey) async throws
}
