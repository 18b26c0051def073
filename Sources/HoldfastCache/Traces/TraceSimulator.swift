// SPDX-License-Identifier: Apache-2.0

/// Counts what a cache with a policy would hit and miss.
///
/// A missed key is inserted at once. What a key weighs is settled when it comes in; a hit does not change it.
public struct TraceSimulator<Policy: EvictionPolicy>: Sendable {
    /// What the capacity counts.
    public enum Unit: Sendable {
        /// Each entry weighs 1.
        case entries
        /// Each entry weighs its size.
        case bytes
    }

    /// Requests that found their key.
    public private(set) var hits = 0
    /// Requests that did not.
    public private(set) var misses = 0
    /// The policy.
    public private(set) var policy: Policy

    private let unit: Unit
    private let seed: UInt64
    private var slots: [UInt64: Int32] = [:]
    private var keys: ContiguousArray<UInt64> = []
    private var free: ContiguousArray<Int32> = []
    private var evicted: [Int32] = []

    /// Makes a simulator of an empty cache.
    public init(_ policy: Policy.Type, capacity: Int, unit: Unit = .entries, seed: UInt64 = 42) {
        self.init(Policy(capacity: capacity, seed: seed), unit: unit, seed: seed)
    }

    init(_ policy: Policy, unit: Unit = .entries, seed: UInt64 = 42) {
        self.policy = policy
        self.unit = unit
        self.seed = seed
    }

    /// The part of the requests that hit, 0 to 1.
    public var hitRatio: Double {
        self.hits + self.misses > 0 ? Double(self.hits) / Double(self.hits + self.misses) : 0
    }
    /// How many entries are in the cache.
    public var count: Int { self.slots.count }

    /// Makes one request.
    public mutating func access(_ request: TraceRequest) {
        if let slot = self.slots[request.key] {
            self.hits += 1
            self.policy.hit(slot)
            return
        }
        self.misses += 1
        let slot: Int32
        if let last = self.free.popLast() {
            slot = last
            self.keys[Int(slot)] = request.key
        } else {
            slot = Int32(self.keys.count)
            self.keys.append(request.key)
        }
        self.slots[request.key] = slot
        // 0 would be pinned.
        let weight = self.unit == .bytes ? max(1, request.size) : 1
        let hash = Self.mix(request.key &+ self.seed &* 0x9E37_79B9_7F4A_7C15)
        self.policy.insert(EvictionEntry(slot: slot, hash: hash, weight: weight), evicted: &self.evicted)
        for slot in self.evicted {
            self.slots[self.keys[Int(slot)]] = nil
            self.free.append(slot)
        }
        self.evicted.removeAll(keepingCapacity: true)
    }

    /// Makes all requests of a trace.
    public mutating func run(_ reader: inout TraceReader) throws(TraceError) {
        while let request = try reader.next() { self.access(request) }
    }

    /// The finaliser of SplitMix64.
    private static func mix(_ key: UInt64) -> UInt64 {
        var mixed = (key ^ (key >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}
