// SPDX-License-Identifier: Apache-2.0

package import ArgumentParser
import Holdfast
import HoldfastCore

/// `holdfast doctor`.
package struct DoctorCommand: AsyncParsableCommand {
    /// What `--help` says.
    package static let configuration = CommandConfiguration(
        commandName: "doctor",
        abstract: "Look the store over: reachable, fast enough, safe settings.",
        discussion: """
            holdfast doctor
            holdfast doctor --store redis://localhost --format json

            Exits 0 when nothing is wrong (warnings are allowed), 69 when there is a problem, 78 when the store's URL \
            is wrong.
            """
    )

    @OptionGroup var storage: StoreOptions
    @OptionGroup var output: FormatOptions

    /// Makes the command, for the parser.
    package init() {}

    /// Looks the store over.
    package func run() async throws {
        let url = try self.storage.url()
        var findings = [Finding(name: "store", value: StoreFactory.name(of: url))]
        let store = try StoreFactory.make(url)
        do {
            findings += try await withLockService(store: store) { service in
                let own = if let store = store as? any DiagnosableStore { await store.diagnose() } else { [Finding]() }
                let latency = await Self.latency(of: service)
                // What is known not to work needs no second line that says so.
                let isKnown = latency.severity == .problem && own.contains { $0.severity == .problem }
                return own + (isKnown ? [] : [latency])
            }
        } catch let error as LockError {
            let failure = CommandFailure(error)
            findings.append(
                Finding(name: "reachable", value: "no", severity: .problem, advice: failure.message ?? error.message)
            )
        }
        findings.append(Finding(name: "holdfast", value: HoldfastProgram.version))
        findings += StoreFactory.libraries.map { Finding(name: $0.name, value: $0.version) }
        try self.write(findings)
        if findings.contains(where: { $0.severity == .problem }) { throw CommandFailure(ExitStatus.unavailable) }
    }

    /// The median of a few looks at a lock that nobody holds.
    private static func latency(of service: LockService) async -> Finding {
        let probe: Resource = "holdfast-doctor-probe"
        var times: [Duration] = []
        for _ in 0..<21 {
            let start = ContinuousClock.now
            guard (try? await service.status(of: probe)) != nil else {
                return Finding(
                    name: "answers",
                    value: "no",
                    severity: .problem,
                    advice: "the store took the connection but not the question"
                )
            }
            times.append(start.duration(to: .now))
        }
        let median = times.sorted()[times.count / 2]
        // A renewal must get through well within a third of the shortest lease in use.
        let isSlow = median > .milliseconds(100)
        return Finding(
            name: "round trip",
            value: "\(JSONValue.decimal(median.inSeconds * 1000, places: 2).text) ms at the median",
            severity: isSlow ? .warning : .ok,
            advice: isSlow ? "use leases of 10s or more, or a store that is nearer" : nil
        )
    }

    private func write(_ findings: [Finding]) throws {
        guard self.output.format == .table else {
            return try self.output.writeJSON(findings.map(Self.json))
        }
        let style = TerminalStyle.forOutput()
        for finding in findings {
            let value = TerminalText.escaped(finding.value)
            try Output.line("\(Self.mark(finding.severity, style))  \(TerminalText.escaped(finding.name)): \(value)")
            if let advice = finding.advice { try Output.line("         -> \(TerminalText.escaped(advice))") }
        }
    }

    private static func mark(_ severity: Finding.Severity, _ style: TerminalStyle) -> String {
        switch severity {
        case .ok: style.green("ok     ")
        case .warning: style.yellow("warning")
        case .problem: style.red("problem")
        }
    }

    private static func json(_ finding: Finding) -> JSONValue {
        .object([
            .init("name", .string(finding.name)),
            .init("value", .string(finding.value)),
            .init("severity", .string(finding.severity.rawValue)),
            .init("advice", .optional(finding.advice)),
        ])
    }
}
