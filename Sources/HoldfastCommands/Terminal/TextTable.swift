// SPDX-License-Identifier: Apache-2.0

/// Rows in aligned columns, for people.
package struct TextTable: Sendable {
    /// How a column is aligned.
    package enum Alignment: Sendable {
        /// To the left.
        case left
        /// To the right, for numbers.
        case right
    }

    private let columns: [(title: String, alignment: Alignment)]
    private var rows: [[String]] = []
    /// How wide the columns have become, in a table that is shown in parts.
    private var widths: [Int]?

    /// Makes an empty table.
    package init(_ columns: [(title: String, alignment: Alignment)]) { self.columns = columns }

    /// Whether there are no rows.
    package var isEmpty: Bool { self.rows.isEmpty }

    /// Adds a row; cells are made safe for a terminal here.
    package mutating func append(_ cells: [String]) {
        self.rows.append(cells.map(TerminalText.escaped))
    }

    /// The lines: a header and the rows, two spaces between columns, none at the end.
    ///
    /// - Parameter style: How to mark the header.
    /// - Returns: At least the header.
    package func lines(style: TerminalStyle) -> [String] {
        let titles = self.columns.map(\.title)
        let widths = self.columns.indices.map { column in
            ([titles] + self.rows).map { TerminalText.width(of: $0[column]) }.max() ?? 0
        }
        let body = self.rows.map { self.line($0, widths: widths) }
        return [style.bold(self.line(titles, widths: widths))] + body
    }

    /// The lines of the rows so far, which are then forgotten: for a table of any length.
    ///
    /// The header comes with the first part. Columns become wider where a later part needs it.
    ///
    /// - Parameter style: How to mark the header.
    /// - Returns: The lines.
    package mutating func takeLines(style: TerminalStyle) -> [String] {
        let titles = self.columns.map(\.title)
        let isFirst = self.widths == nil
        let before = self.widths ?? titles.map { TerminalText.width(of: $0) }
        let widths = self.columns.indices.map { column in
            self.rows.reduce(before[column]) { max($0, TerminalText.width(of: $1[column])) }
        }
        let lines = self.rows.map { self.line($0, widths: widths) }
        self.widths = widths
        self.rows = []
        return isFirst ? [style.bold(self.line(titles, widths: widths))] + lines : lines
    }

    private func line(_ cells: [String], widths: [Int]) -> String {
        var line = ""
        for (column, cell) in cells.enumerated() {
            let space = String(repeating: " ", count: widths[column] - TerminalText.width(of: cell))
            switch self.columns[column].alignment {
            case .left: line += column == cells.count - 1 ? cell : cell + space
            case .right: line += space + cell
            }
            if column < cells.count - 1 { line += "  " }
        }
        return line
    }
}
