// SPDX-License-Identifier: Apache-2.0

import CHiredisReader

/// The hiredis that this build parses replies with.
package enum HiredisVersion {
    /// Its version, such as `0.14.1`.
    package static var text: String { unsafe String(cString: holdfast_reader_version()) }
}
