// SPDX-License-Identifier: Apache-2.0

import CHoldfastProcess
import Holdfast
package import HoldfastCore

/// What it costs to keep locks: the processor time of renewing their leases while nobody does anything else.
package struct BenchHeld: Sendable {
    /// How many tasks take the locks, and give them back.
    private static let lanes = 64
    /// How many locks may be asked for: each costs about a kilobyte here.
    package static let counts = 1...1_000_000

    private let count: Int
    private let seconds: Double

    /// Makes a measurement.
    ///
    /// - Parameters:
    ///   - count: How many locks to hold.
    ///   - seconds: How long.
    package init(count: Int, seconds: Double) {
        self.count = count
        self.seconds = seconds
    }

    /// Takes the locks, waits, and gives them back.
    ///
    /// - Parameters:
    ///   - store: Where the locks live.
    ///   - run: What tells this run from others.
    ///   - version: The version of this program.
    /// - Returns: The figures.
    /// - Throws: `LockError` when the store cannot work, or `CancellationError`.
    package func measure(on store: any LockStore, run: String, version: String) async throws -> JSONValue {
        let service = try LockService(store: store)
        return try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await service.run() }
            defer { group.cancelAll() }
            let leases = try await self.take(service, run)
            let (start, cpu) = (BootTime.now, hf_cpu_time())
            try await Task.sleep(for: .nanoseconds(Int64(self.seconds * 1e9)), clock: .continuous)
            let seconds = Double(BootTime.now - start) / 1e9
            let spent = Double(hf_cpu_time() - cpu) / 1e9
            let lost = leases.count { (try? $0.checkValid()) == nil }
            await self.giveBack(leases)
            return .object([
                .init("peer", .string("holdfast \(store.capabilities.name)")),
                .init("version", .string(version)),
                .init("workload", .string("held")),
                .init("leases", .integer(Int64(self.count))),
                .init("lease_s", .integer(Int64(LockServiceConfiguration().lease.components.seconds))),
                .init("lost", .integer(Int64(lost))),
                .init("cpu_s", .decimal(spent, places: 3)),
                .init("secs", .decimal(seconds, places: 3)),
                .init("core_share", .decimal(spent / seconds, places: 4)),
            ])
        }
    }

    private func take(_ service: LockService, _ run: String) async throws -> [Lease] {
        try await withThrowingTaskGroup(of: [Lease].self) { group in
            for lane in 0..<Self.lanes {
                group.addTask {
                    var leases: [Lease] = []
                    for number in stride(from: lane, to: self.count, by: Self.lanes) {
                        leases.append(try await service.acquire(try Resource("holdfast-bench/\(run)/\(number)")))
                    }
                    return leases
                }
            }
            return try await group.reduce(into: []) { $0 += $1 }
        }
    }

    private func giveBack(_ leases: [Lease]) async {
        await withTaskGroup(of: Void.self) { group in
            for lane in 0..<Self.lanes {
                group.addTask {
                    for number in stride(from: lane, to: leases.count, by: Self.lanes) {
                        _ = await leases[number].release()
                    }
                }
            }
        }
    }
}
