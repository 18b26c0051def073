// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// Sends the same random commands to a store and to `LockTable`, and compares what comes back.
///
/// Three clients with requests of all kinds work on two resources. Fencing tokens are compared by their order, times
/// with a tolerance, signals at the end as a set. A run that diverges tells its seed and its commands, which repeat it.
public struct ModelRun: Sendable {
    /// A difference between a store and the model.
    public struct Divergence: Error, CustomStringConvertible {
        /// The seed, the commands up to the difference, and both replies.
        public let description: String
    }

    /// Decides about the commands.
    public var seed: UInt64
    /// How many commands.
    public var commands: Int
    /// Whether some leases are short and run out.
    ///
    /// With a store that runs on real time each such step takes real time.
    public var passesTime: Bool
    /// How much the times of a reply may differ.
    public var tolerance: Duration

    /// Describes a run.
    ///
    /// - Parameters:
    ///   - seed: Decides about the commands.
    ///   - commands: How many commands.
    ///   - passesTime: Whether some leases are short and run out.
    ///   - tolerance: How much the times of a reply may differ.
    public init(seed: UInt64 = 0, commands: Int = 30, passesTime: Bool = false, tolerance: Duration = .seconds(5)) {
        self.seed = seed
        self.commands = commands
        self.passesTime = passesTime
        self.tolerance = tolerance
    }

    /// Runs against a fresh pair of clients of a store.
    ///
    /// - Parameter subject: The store; ``StoreContract/Subject/namePrefix`` must be fresh.
    /// - Throws: ``Divergence``, or what the store throws.
    public func check(_ subject: StoreContract.Subject) async throws {
        let bench = ContractBench(subject, a: try await subject.makeStore(), b: try await subject.makeStore())
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await bench.a.store.run() }
            group.addTask { try await bench.b.store.run() }
            group.addTask {
                var session = try ModelSession(self, bench, seed: self.seed, prefix: "")
                try await session.run()
            }
            defer { group.cancelAll() }
            try await group.next()
        }
    }

    /// Runs many seeds one after the other against one pair of clients, for stores that are slow to connect to.
    ///
    /// - Parameters:
    ///   - subject: The store.
    ///   - seeds: The seeds; each works on names of its own.
    /// - Throws: ``Divergence``, or what the store throws.
    public func check(_ subject: StoreContract.Subject, seeds: Range<UInt64>) async throws {
        let bench = ContractBench(subject, a: try await subject.makeStore(), b: try await subject.makeStore())
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await bench.a.store.run() }
            group.addTask { try await bench.b.store.run() }
            group.addTask {
                for seed in seeds {
                    var session = try ModelSession(self, bench, seed: seed, prefix: "\(seed)/")
                    try await session.run()
                }
            }
            defer { group.cancelAll() }
            try await group.next()
        }
    }
}
