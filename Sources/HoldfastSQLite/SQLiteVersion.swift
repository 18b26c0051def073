// SPDX-License-Identifier: Apache-2.0

import GRDB

/// The SQLite that this process is linked to.
package enum SQLiteVersion {
    /// Its version, such as `3.40.1`.
    package static var text: String {
        // One number: major, and three digits each for minor and patch.
        let number = Database.sqliteLibVersionNumber
        return "\(number / 1_000_000).\(number / 1000 % 1000).\(number % 1000)"
    }
}
