// SPDX-License-Identifier: Apache-2.0

package import ArgumentParser
import HoldfastCache

/// `holdfast bench hit-ratio`.
package struct HitRatioCommand: AsyncParsableCommand {
    /// What `--help` says.
    package static let configuration = CommandConfiguration(
        commandName: "hit-ratio",
        abstract: "Play a trace of requests against an eviction policy.",
        discussion: """
            Prints a line of JSON for each capacity. Formats: lirs (a key on each line), arc (start and count on each \
            line), b32 and b64 (big-endian keys), u32 (little-endian keys), oracle (libCacheSim's oracleGeneral, with \
            sizes). Files may be packed with gzip or xz.

            holdfast bench hit-ratio --trace oltp.gz --format arc --capacity 1000,2000,5000
            holdfast bench hit-ratio --trace io.oracleGeneral.bin.xz --format oracle --capacity 134217728 --bytes --policy lru
            """
    )

    @Option(name: .long, help: ArgumentHelp("The trace.", valueName: "file"))
    var trace: String
    @Option(name: .long, help: "lirs, arc, b32, b64, u32 or oracle.", transform: Self.format)
    var format: TraceFormat
    @Option(name: .long, help: ArgumentHelp("How much fits, or several numbers with commas.", valueName: "n"))
    var capacity: String
    @Option(name: .long, help: "adaptive, lru, lfu, fifo, sieve, s3fifo, size or expiry.", transform: Self.policy)
    var policy = TracePolicy.adaptive
    @Flag(name: .long, help: "The capacity is in bytes; only oracle traces have sizes.")
    var bytes = false
    @Option(name: .long, help: ArgumentHelp("What chance is made from.", valueName: "n"))
    var seed: UInt64 = 42

    /// Makes the command, for the parser.
    package init() {}

    /// Plays the trace.
    package func run() async throws {
        let capacities = self.capacity.split(separator: ",").map { Int($0) }
        guard !capacities.isEmpty, capacities.allSatisfy({ $0 ?? 0 > 0 }) else {
            throw CommandFailure(
                ExitStatus.configuration,
                "--capacity must be numbers above 0, with commas between them"
            )
        }
        guard !self.bytes || self.format == .oracle else {
            throw CommandFailure(ExitStatus.configuration, "--bytes needs a trace with sizes: --format oracle")
        }
        let requests = try self.requests()
        for case let capacity? in capacities {
            let hits = self.policy.hits(requests, capacity: capacity, isInBytes: self.bytes, seed: self.seed)
            let figures = JSONValue.object([
                .init("trace", .string(self.trace.split(separator: "/").last.map(String.init) ?? self.trace)),
                .init("policy", .string(self.policy.rawValue)),
                .init("capacity", .integer(Int64(capacity))),
                .init("requests", .integer(Int64(requests.count))),
                .init("misses", .integer(Int64(requests.count - hits))),
                .init("hit_ratio", .decimal(Double(hits) / Double(max(1, requests.count)) * 100, places: 2)),
            ])
            try Output.line(figures.text)
        }
    }

    private static func format(_ name: String) throws -> TraceFormat {
        guard let format = TraceFormat(rawValue: name) else {
            throw ValidationError(
                "'\(name)' is none of \(TraceFormat.allCases.map(\.rawValue).joined(separator: ", "))"
            )
        }
        return format
    }

    private static func policy(_ name: String) throws -> TracePolicy {
        guard let policy = TracePolicy(rawValue: name) else {
            throw ValidationError(
                "'\(name)' is none of \(TracePolicy.allCases.map(\.rawValue).joined(separator: ", "))"
            )
        }
        return policy
    }

    private func requests() throws -> [TraceRequest] {
        let unpacker = try Unpacker(path: self.trace)
        var reader = TraceReader(format: self.format) { () throws(TraceError) -> [UInt8]? in
            do {
                return try unpacker.next()
            } catch {
                throw .source((error as? CommandFailure)?.message ?? "\(error)")
            }
        }
        var requests: [TraceRequest] = []
        do {
            while let request = try reader.next() { requests.append(request) }
        } catch {
            throw CommandFailure(ExitStatus.configuration, error.sentence(about: self.trace))
        }
        guard !requests.isEmpty else { throw CommandFailure(ExitStatus.configuration, "\(self.trace) has no requests") }
        return requests
    }
}

extension TraceError {
    /// What is wrong, for people.
    fileprivate func sentence(about file: String) -> String {
        switch self {
        case .malformedLine(let line): "\(file): line \(line) is not a request of this format"
        case .truncated(let place): "\(file): ends within a request, at byte \(place)"
        case .unreadable(let code): "\(file): cannot be read, error \(code)"
        case .source(let sentence): sentence
        }
    }
}
