// SPDX-License-Identifier: Apache-2.0

/// Which entries leave a full memory.
public struct Eviction: Sendable {
    /// What people call it: `adaptive`.
    public let name: String
    private let makePolicies: @Sendable (_ capacities: [Int], _ seed: () -> UInt64) -> [any EvictionPolicy]

    /// A rule of one's own.
    ///
    /// - Parameters:
    ///   - name: What people call it.
    ///   - makePolicy: Makes a policy for a part of the memory, from its capacity and a seed for chance.
    public init(
        name: String,
        makePolicy: @escaping @Sendable (_ capacity: Int, _ seed: UInt64) -> any EvictionPolicy
    ) {
        self.name = name
        self.makePolicies = { capacities, seed in capacities.map { makePolicy($0, seed()) } }
    }

    private init(
        name: String,
        makePolicies: @escaping @Sendable (_ capacities: [Int], _ seed: () -> UInt64) -> [any EvictionPolicy]
    ) {
        self.name = name
        self.makePolicies = makePolicies
    }

    /// W-TinyLFU with a window that adapts: good wherever it was measured, and the default.
    public static let adaptive = Eviction(name: "adaptive", makePolicies: TinyLFUPolicy.parts)
    /// Least recently used.
    public static let lru = Eviction(name: "lru") { LRUPolicy(capacity: $0, seed: $1) }
    /// Least frequently used, with frequencies that age.
    public static let lfu = Eviction(name: "lfu") { LFUPolicy(capacity: $0, seed: $1) }
    /// First in, first out.
    public static let fifo = Eviction(name: "fifo") { FIFOPolicy(capacity: $0, seed: $1) }
    /// SIEVE.
    public static let sieve = Eviction(name: "sieve") { SIEVEPolicy(capacity: $0, seed: $1) }
    /// S3-FIFO.
    public static let s3fifo = Eviction(name: "s3fifo") { S3FIFOPolicy(capacity: $0, seed: $1) }
    /// What expires soonest.
    public static let expiry = Eviction(name: "expiry") { ExpiryPolicy(capacity: $0, seed: $1) }
    /// By what an entry weighs and how often it is read.
    public static let sizeAware = Eviction(name: "size") { SizeAwarePolicy(capacity: $0, seed: $1) }

    /// All that come with the library.
    public static let all: [Eviction] = [.adaptive, .lru, .lfu, .fifo, .sieve, .s3fifo, .expiry, .sizeAware]

    /// Makes the policies of the parts of one memory.
    ///
    /// - Parameters:
    ///   - capacities: What fits into each.
    ///   - seed: Gives a seed for each.
    /// - Returns: The policies, in the same order.
    func policies(_ capacities: [Int], seed: () -> UInt64) -> [any EvictionPolicy] {
        self.makePolicies(capacities, seed)
    }
}
