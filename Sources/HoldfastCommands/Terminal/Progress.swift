// SPDX-License-Identifier: Apache-2.0

import Glibc

/// How far something is, on stderr, on one line that is written over; nothing at all unless that is a terminal.
package struct Progress: ~Copyable {
    /// How often it is written.
    private static let interval: Int64 = 200_000_000

    private let isShown = isatty(STDERR_FILENO) == 1
    private var last = BootTime.now
    private var isThere = false

    /// Shows nothing yet.
    package init() {}

    /// Says how far it is, if it was not said a moment ago.
    ///
    /// - Parameter text: How far; safe for a terminal, and short.
    package mutating func show(_ text: @autoclosure () -> String) {
        let now = BootTime.now
        guard self.isShown, now - self.last >= Self.interval else { return }
        self.last = now
        self.isThere = true
        try? Output.write("\r\u{1B}[K\(text())", to: STDERR_FILENO)
    }

    /// Takes the line away.
    package mutating func clear() {
        if self.isThere { try? Output.write("\r\u{1B}[K", to: STDERR_FILENO) }
        self.isThere = false
    }

    deinit { if self.isThere { try? Output.write("\r\u{1B}[K", to: STDERR_FILENO) } }
}
