// SPDX-License-Identifier: Apache-2.0

/// A store that ties grants to the life of the process that asked, and can untie one.
///
/// Such a store frees a lock at once when its process is gone. A grant that is handed on to another process, as
/// `holdfast acquire` does, must live by its lease alone.
public protocol DetachableStore: LockStore {
    /// Unties a grant from this process; its lease decides from now on.
    ///
    /// - Parameter grant: The grant.
    /// - Throws: ``LockError`` when the store fails; the grant may then end with this process.
    func detach(_ grant: GrantKey) async throws
}
