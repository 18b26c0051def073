// SPDX-License-Identifier: Apache-2.0

/// The figures of one workload.
package struct BenchReport: Sendable {
    private let workload: BenchWorkload
    private let logs: [BenchLog]
    private let started: Int64
    private let cpu: Int64

    /// Makes a report.
    ///
    /// - Parameters:
    ///   - workload: What was measured.
    ///   - logs: What each worker wrote.
    ///   - started: When the workers started.
    ///   - cpu: The processor time of all client processes.
    package init(_ workload: BenchWorkload, logs: [BenchLog], started: Int64, cpu: Int64) {
        self.workload = workload
        self.logs = logs
        self.started = started
        self.cpu = cpu
    }

    /// The changes of owner in the order of the owners, and the times that more held the lock at once than may.
    package var handovers: (count: Int, overlaps: Int) {
        var stays: [(entered: Int64, left: Int64, limit: Int64, worker: Int)] = []
        for log in self.logs {
            for index in 0..<log.count {
                stays.append((log.entered[index], log.left[index], log.limits[index], log.worker))
            }
        }
        stays.sort { $0.entered < $1.entered }
        var (count, overlaps) = (0, 0)
        var present: [(left: Int64, limit: Int64)] = []
        var last: Int?
        for stay in stays {
            if let last, last != stay.worker { count += 1 }
            last = stay.worker
            present.removeAll { $0.left <= stay.entered }
            present.append((stay.left, stay.limit))
            if let limit = present.map(\.limit).min(), Int64(present.count) > limit { overlaps += 1 }
        }
        return (count, overlaps)
    }

    /// Jain's index over the workers' shares: 1 when all have the same, 1/n when one has all (Jain, Chiu, Hawe 1984).
    package var jain: Double? {
        let shares = self.logs.map { Double($0.count) }
        let total = shares.reduce(0, +)
        guard total > 0 else { return nil }
        return total * total / (Double(shares.count) * shares.reduce(0) { $0 + $1 * $1 })
    }

    /// The value below which a part of sorted values lies.
    package static func quantile(_ part: Double, of sorted: [Int64]) -> Int64? {
        guard !sorted.isEmpty else { return nil }
        return sorted[min(sorted.count - 1, Int(part * Double(sorted.count)))]
    }

    /// The report on one line of JSON, in the shape that the scripts of other lock libraries print.
    ///
    /// - Parameters:
    ///   - peer: Who was measured.
    ///   - version: Which version of it.
    ///   - processes: How many processes the workers were spread over.
    /// - Returns: An object.
    package func json(peer: String, version: String, processes: Int) -> JSONValue {
        let cycles = self.logs.flatMap { log in zip(log.asked, log.ended).map { $1 - $0 } }.sorted()
        let last = self.logs.compactMap(\.ended.last).max() ?? self.started
        let seconds = max(Double(last - self.started) / 1e9, 1e-9)
        let cpuSeconds = Double(self.cpu) / 1e9
        var members: [JSONValue.Member] = [
            .init("peer", .string(peer)),
            .init("version", .string(version)),
            .init("workload", .string(self.workload.rawValue)),
            .init("ops_per_s", .decimal(Double(cycles.count) / seconds, places: 1)),
            .init("p50_us", Self.micros(Self.quantile(0.5, of: cycles))),
            .init("p99_us", Self.micros(Self.quantile(0.99, of: cycles))),
            .init("cpu_s", .decimal(cpuSeconds, places: 3)),
            .init("secs", .decimal(seconds, places: 3)),
            .init(
                "client_cpu_us_per_op",
                cycles.isEmpty ? .null : .decimal(cpuSeconds * 1e6 / Double(cycles.count), places: 1)
            ),
            .init("processes", .integer(Int64(processes))),
        ]
        if self.workload.isContended { members += self.contention(seconds: seconds) }
        let failed = self.logs.reduce(0) { $0 + $1.failed }
        if failed > 0 {
            members.append(.init("failed", .integer(failed)))
            members.append(.init("error", .optional(self.logs.compactMap(\.firstError).first)))
        }
        return .object(members)
    }

    private func contention(seconds: Double) -> [JSONValue.Member] {
        let (count, overlaps) = self.handovers
        let shares = self.logs.map(\.count)
        let longestWait = self.logs.flatMap { log in zip(log.asked, log.entered).map { $1 - $0 } }.max()
        return [
            .init("handoffs_per_s", .decimal(Double(count) / seconds, places: 1)),
            .init("jain", self.jain.map { .decimal($0, places: 3) } ?? .null),
            .init("min_share", .integer(Int64(shares.min() ?? 0))),
            .init("max_share", .integer(Int64(shares.max() ?? 0))),
            .init("wait_max_ms", longestWait.map { .decimal(Double($0) / 1e6, places: 1) } ?? .null),
            .init("overlaps", .integer(Int64(overlaps))),
        ]
    }

    private static func micros(_ nanoseconds: Int64?) -> JSONValue {
        nanoseconds.map { .decimal(Double($0) / 1000, places: 1) } ?? .null
    }
}
