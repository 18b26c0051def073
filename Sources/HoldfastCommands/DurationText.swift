// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// Durations as people write them: `1.5s`, `500ms`, `2m`, `1h`, `1m30s`, `0`.
package enum DurationText {
    private static let units: [(name: String, nanoseconds: Int64)] = [
        ("ns", 1), ("us", 1000), ("ms", 1_000_000), ("s", 1_000_000_000), ("m", 60_000_000_000),
        ("h", 3_600_000_000_000), ("d", 86_400_000_000_000),
    ]

    /// What is wrong with a text that is no duration.
    package struct Problem: Error, CustomStringConvertible {
        /// One sentence for a person.
        package let description: String
    }

    /// Reads a duration.
    ///
    /// - Parameter text: Numbers with units, such as `1.5s` or `1m30s`; only `0` needs no unit.
    /// - Returns: The duration, never negative.
    /// - Throws: ``Problem`` for anything else, negative durations included.
    package static func parse(_ text: String) throws(Problem) -> Duration {
        if text == "0" { return .zero }
        var rest = Substring(text)
        var total: Int64 = 0
        guard !rest.isEmpty else { throw Problem(description: "a duration is empty; write 1.5s, 500ms, 2m or 0") }
        while !rest.isEmpty {
            let number = rest.prefix { ("0"..."9").contains($0) || $0 == "." }
            rest = rest.dropFirst(number.count)
            let name = rest.prefix { !("0"..."9").contains($0) && $0 != "." }
            rest = rest.dropFirst(name.count)
            let part = try Self.nanoseconds(number: number, unit: name, of: text)
            let (sum, overflow) = total.addingReportingOverflow(part)
            guard !overflow else { throw Self.tooLong(text) }
            total = sum
        }
        return .nanoseconds(total)
    }

    private static func nanoseconds(
        number: Substring,
        unit: Substring,
        of text: String
    ) throws(Problem) -> Int64 {
        let shown = TerminalText.escaped(text)
        let parts = number.split(separator: ".", maxSplits: 2, omittingEmptySubsequences: false)
        guard !number.isEmpty, number != ".", parts.count <= 2 else {
            throw Problem(description: "'\(shown)' is not a duration; write 1.5s, 500ms, 2m or 0")
        }
        guard !unit.isEmpty else {
            throw Problem(description: "the duration '\(shown)' has no unit; write \(shown)s or \(shown)ms")
        }
        guard let scale = Self.units.first(where: { $0.name == unit })?.nanoseconds else {
            let unit = TerminalText.escaped(String(unit))
            throw Problem(description: "'\(unit)' in '\(shown)' is not a unit; use ms, s, m, h or d")
        }
        let (whole, overflow) = (Int64(parts[0].isEmpty ? "0" : parts[0]) ?? .max).multipliedReportingOverflow(
            by: scale
        )
        guard !overflow else { throw Self.tooLong(text) }
        var fraction = 0.0
        if parts.count == 2, !parts[1].isEmpty { fraction = Double("0.\(parts[1])") ?? 0 }
        let (sum, carried) = whole.addingReportingOverflow(Int64((fraction * Double(scale)).rounded()))
        guard !carried else { throw Self.tooLong(text) }
        return sum
    }

    private static func tooLong(_ text: String) -> Problem {
        Problem(description: "the duration '\(TerminalText.escaped(text))' is too long; the limit is 292 years")
    }

    /// Shows a duration in a few characters: `0.35s`, `12s`, `3m05s`, `2h10m`, `4d3h`.
    package static func short(_ duration: Duration) -> String {
        let milliseconds = duration.nanoseconds / 1_000_000
        if milliseconds < 0 { return "-\(Self.short(.zero - duration))" }
        if milliseconds < 1000 { return "\(milliseconds)ms" }
        if milliseconds < 10_000 { return "\(milliseconds / 1000).\(milliseconds % 1000 / 100)s" }
        let seconds = milliseconds / 1000
        if seconds < 60 { return "\(seconds)s" }
        if seconds < 3600 { return "\(seconds / 60)m\(Self.twoDigits(seconds % 60))s" }
        if seconds < 86_400 { return "\(seconds / 3600)h\(Self.twoDigits(seconds % 3600 / 60))m" }
        return "\(seconds / 86_400)d\(seconds % 86_400 / 3600)h"
    }

    private static func twoDigits(_ number: Int64) -> String { number < 10 ? "0\(number)" : "\(number)" }
}
