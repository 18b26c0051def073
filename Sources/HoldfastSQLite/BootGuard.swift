// SPDX-License-Identifier: Apache-2.0

import Foundation
import HoldfastCore

/// Says that somebody uses the lock file, by a shared `flock(2)` on `PATH-boot` for as long as it is open.
///
/// What another boot left may be voided only when nobody uses the file: a container may be shown another boot id than
/// the rest of the machine.
final class BootGuard: Sendable {
    private let descriptor: Int32
    private let path: String

    init(database: String) throws(LockError) {
        self.path = database + "-boot"
        self.descriptor = open(self.path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard self.descriptor >= 0 else { throw StoreFailure.systemError(errno, path: self.path) }
    }

    deinit { close(self.descriptor) }

    /// Says that the file is in use from now on.
    ///
    /// - Returns: Whether nobody is voiding it right now.
    func share() -> Bool { flock(self.descriptor, LOCK_SH | LOCK_NB) == 0 }

    /// Makes sure that nobody uses the file.
    ///
    /// - Returns: Whether that is so; it stays so until ``share()``.
    func claim() -> Bool { flock(self.descriptor, LOCK_EX | LOCK_NB) == 0 }
}
