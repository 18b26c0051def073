// SPDX-License-Identifier: Apache-2.0

/// The policies by name.
package enum TracePolicy: String, Sendable, CaseIterable {
    case lru
    case fifo
    case sieve
    case lfu
    case s3fifo
    case expiry
    case size
    case adaptive

    /// Counts the hits and misses of requests; here, so that the compiler makes a version for each policy.
    ///
    /// - Parameters:
    ///   - requests: The requests, in order.
    ///   - capacity: The capacity.
    ///   - isInBytes: Whether it counts bytes instead of entries.
    ///   - seed: What hashes and the policy's random choices are made from.
    /// - Returns: How many requests hit.
    package func hits(_ requests: [TraceRequest], capacity: Int, isInBytes: Bool = false, seed: UInt64 = 42) -> Int {
        switch self {
        case .lru: Self.run(LRUPolicy.self, requests, capacity, isInBytes, seed)
        case .fifo: Self.run(FIFOPolicy.self, requests, capacity, isInBytes, seed)
        case .sieve: Self.run(SIEVEPolicy.self, requests, capacity, isInBytes, seed)
        case .lfu: Self.run(LFUPolicy.self, requests, capacity, isInBytes, seed)
        case .s3fifo: Self.run(S3FIFOPolicy.self, requests, capacity, isInBytes, seed)
        case .expiry: Self.run(ExpiryPolicy.self, requests, capacity, isInBytes, seed)
        case .size: Self.run(SizeAwarePolicy.self, requests, capacity, isInBytes, seed)
        case .adaptive: Self.run(TinyLFUPolicy.self, requests, capacity, isInBytes, seed)
        }
    }

    private static func run<Policy: EvictionPolicy>(
        _ policy: Policy.Type,
        _ requests: [TraceRequest],
        _ capacity: Int,
        _ isInBytes: Bool,
        _ seed: UInt64
    ) -> Int {
        var simulator = TraceSimulator(policy, capacity: capacity, unit: isInBytes ? .bytes : .entries, seed: seed)
        for request in requests { simulator.access(request) }
        return simulator.hits
    }
}
