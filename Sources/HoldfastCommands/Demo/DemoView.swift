// SPDX-License-Identifier: Apache-2.0

package import HoldfastCore

/// What the demo shows while it runs: news scroll by, and on a terminal the holders and waiters stay below them.
package struct DemoView: Sendable {
    private let format: OutputFormat
    private let style: TerminalStyle
    private let start: Int64
    private var drawn = 0
    private var lastState = ""

    /// Makes a view.
    package init(format: OutputFormat, style: TerminalStyle, start: Int64) {
        self.format = format
        self.style = style
        self.start = start
    }

    /// Shows news.
    ///
    /// - Parameters:
    ///   - text: What happened.
    ///   - time: When, in boot time.
    /// - Throws: ``CommandFailure`` when nobody reads any more.
    package mutating func news(_ text: String, at time: Int64) throws {
        let seconds = JSONValue.decimal(Double(time - self.start) / 1e9, places: 2)
        switch self.format {
        case .json: return
        case .jsonl: try Output.line(JSONValue.object([.init("t_s", seconds), .init("news", .string(text))]).text)
        case .table:
            try self.clear()
            try Output.line("\(self.style.dim("\(seconds.text)s"))  \(text)")
        }
    }

    /// Shows who holds the lock and who waits for it.
    ///
    /// - Parameters:
    ///   - status: The lock.
    ///   - workers: The numbers of workers by their processes.
    ///   - requests: How many were served.
    /// - Throws: ``CommandFailure`` when nobody reads any more.
    package mutating func state(_ status: ResourceStatus, workers: [Int32: Int], requests: Int64) throws {
        func name(_ owner: OwnerID?) -> String { Self.name(owner, workers) }
        guard self.format == .table else { return }
        let holder = status.holders.first.map { holder in
            let left = holder.remaining.map(DurationText.short) ?? "-"
            let token = holder.fencingToken?.description ?? "-"
            return "\(name(holder.owner)), token \(token), lease left \(left)"
        }
        let waiters = status.waiters.map { name($0.owner) }
        let lines = [
            "   holder   \(holder ?? "nobody: the cache is fresh")",
            "   waiters  \(waiters.isEmpty ? "none" : waiters.joined(separator: ", "))",
            "   requests \(requests)",
        ]
        guard self.style.isStyled else {
            // Only what changed, and not the seconds that pass.
            let state = "\(name(status.holders.first?.owner)) \(waiters)"
            if state == self.lastState || status.holders.isEmpty { return }
            self.lastState = state
            let waiting = waiters.isEmpty ? "" : "; waiting: \(waiters.joined(separator: ", "))"
            return try self.news(
                "holds the lock: \(name(status.holders.first?.owner))\(waiting)",
                at: BootTime.now
            )
        }
        try Output.text(self.style.redraw(lines: self.drawn) + lines.joined(separator: "\n") + "\n")
        self.drawn = lines.count
    }

    /// Takes the lines about holders and waiters away.
    package mutating func clear() throws {
        if self.drawn > 0 { try Output.text(self.style.redraw(lines: self.drawn)) }
        self.drawn = 0
    }

    private static func name(_ owner: OwnerID?, _ workers: [Int32: Int]) -> String {
        if let number = owner.flatMap({ workers[$0.process.pid] }) { return "worker \(number)" }
        return TerminalText.escaped(owner?.description ?? "a foreign holder")
    }
}
