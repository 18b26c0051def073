// SPDX-License-Identifier: Apache-2.0

import Glibc

/// Whether output may use escape sequences.
package struct TerminalStyle: Sendable {
    /// Whether they are used.
    package let isStyled: Bool

    /// Makes a style.
    package init(isStyled: Bool) { self.isStyled = isStyled }

    /// No escape sequences.
    package static let plain = TerminalStyle(isStyled: false)

    /// The style for stdout: plain unless it is a terminal that can do it and `NO_COLOR` is not set (no-color.org).
    package static func forOutput(environment: Environment = .process) -> TerminalStyle {
        let refused = !(environment["NO_COLOR"] ?? "").isEmpty || environment["TERM"] == "dumb"
        return TerminalStyle(isStyled: isatty(STDOUT_FILENO) == 1 && !refused)
    }

    /// Bold text.
    package func bold(_ text: String) -> String { self.isStyled ? "\u{1B}[1m\(text)\u{1B}[0m" : text }
    /// Text that steps back.
    package func dim(_ text: String) -> String { self.isStyled ? "\u{1B}[2m\(text)\u{1B}[0m" : text }
    /// Good news.
    package func green(_ text: String) -> String { self.isStyled ? "\u{1B}[32m\(text)\u{1B}[0m" : text }
    /// Bad news.
    package func red(_ text: String) -> String { self.isStyled ? "\u{1B}[31m\(text)\u{1B}[0m" : text }
    /// News that may become bad.
    package func yellow(_ text: String) -> String { self.isStyled ? "\u{1B}[33m\(text)\u{1B}[0m" : text }
    /// Moves the cursor up and clears from there to the end of the screen.
    package func redraw(lines: Int) -> String { self.isStyled && lines > 0 ? "\u{1B}[\(lines)A\u{1B}[J" : "" }
}
