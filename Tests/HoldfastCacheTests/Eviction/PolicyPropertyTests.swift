// SPDX-License-Identifier: Apache-2.0

import HoldfastTesting
import Testing

@testable import HoldfastCache

/// Random operations on a policy, against what must be true of every policy.
private struct PolicyHarness<Policy: EvictionPolicy> {
    var policy: Policy
    var generator: SeededGenerator
    let capacity: Int
    /// Weights of the entries that the policy must know.
    var known: [Int32: Int] = [:]
    var free: [Int32] = (0..<400).reversed()
    var evicted: [Int32] = []

    init(capacity: Int, seed: UInt64) {
        self.policy = Policy(capacity: capacity, seed: seed)
        self.generator = SeededGenerator(seed: seed)
        self.capacity = capacity
    }

    mutating func entry(_ slot: Int32) -> EvictionEntry {
        let weight: Int
        switch Int.random(in: 0..<20, using: &self.generator) {
        case 0: weight = 0
        case 1: weight = self.capacity + Int.random(in: 1..<100, using: &self.generator)
        case 2: weight = self.capacity
        case 3: weight = max(1, self.capacity / 3)
        default: weight = Int.random(in: 1...max(1, self.capacity / 20), using: &self.generator)
        }
        // Few hashes, so that keys come back.
        let hash = UInt64.random(in: 0..<600, using: &self.generator) &* 0x9E37_79B9_7F4A_7C15
        let deadline = Bool.random(using: &self.generator) ? .max : Int64.random(in: 0..<1000, using: &self.generator)
        return EvictionEntry(slot: slot, hash: hash, weight: weight, deadline: deadline)
    }

    mutating func step() {
        let slot = self.known.keys.sorted().randomElement(using: &self.generator)
        switch (Int.random(in: 0..<10, using: &self.generator), slot) {
        case (0..<5, _), (_, nil):
            guard let new = self.free.popLast() else { return }
            let entry = self.entry(new)
            self.known[new] = entry.weight
            self.policy.insert(entry, evicted: &self.evicted)
            if entry.weight > self.capacity { #expect(self.evicted == [new]) }
            if entry.weight == 0 { #expect(!self.evicted.contains(new)) }
        case (5..<8, let slot?): self.policy.hit(slot)
        case (8, let slot?):
            let entry = self.entry(slot)
            self.known[slot] = entry.weight
            self.policy.update(entry, evicted: &self.evicted)
            if entry.weight > self.capacity { #expect(self.evicted.contains(slot)) }
        case (_, let slot?):
            self.policy.remove(slot)
            self.known[slot] = nil
            self.free.insert(slot, at: 0)
        }
        self.check()
    }

    mutating func check() {
        #expect(Set(self.evicted).count == self.evicted.count, "Reported twice")
        for slot in self.evicted {
            let weight = self.known.removeValue(forKey: slot)
            #expect(weight != nil, "Reported, but not known")
            #expect(weight != 0, "Pinned")
            self.free.insert(slot, at: 0)
        }
        self.evicted.removeAll()
        #expect(self.policy.weight == self.known.values.reduce(0, +))
        #expect(self.policy.weight <= self.capacity)
    }

    /// Whatever the policy still knows can be pushed out by others, except what is pinned.
    mutating func flush() {
        for slot in self.known.keys.sorted() where self.known[slot] != 0 {
            if Bool.random(using: &self.generator) { self.policy.hit(slot) }
        }
        let before = self.known
        var rounds = 0
        while before.contains(where: { $0.value != 0 && self.known[$0.key] != nil }), rounds < 20_000 {
            rounds += 1
            // Slots must not be reused here, or an old entry could not be told from a new one.
            let slot = Int32(400 + rounds)
            // Each hash twice in turn, so that those that need to be known get in.
            let hash = UInt64(rounds / 40 * 20 + rounds % 20 + 1000) &* 0x9E37_79B9_7F4A_7C15
            self.known[slot] = max(1, self.capacity / 20)
            self.policy.insert(
                EvictionEntry(slot: slot, hash: hash, weight: max(1, self.capacity / 20), deadline: 2000),
                evicted: &self.evicted
            )
            if self.known[slot] != nil, !self.evicted.contains(slot) {
                self.policy.hit(slot)
                self.policy.hit(slot)
            }
            self.check()
        }
        #expect(rounds < 20_000, "Something never leaves")
        for slot in self.known.keys.sorted() { self.policy.remove(slot) }
        #expect(self.policy.weight == 0)
    }
}

private func exercise<Policy: EvictionPolicy>(_ type: Policy.Type, capacity: Int, seed: UInt64, flushes: Bool = true) {
    var harness = PolicyHarness<Policy>(capacity: capacity, seed: seed)
    for _ in 0..<3000 { harness.step() }
    if flushes { harness.flush() }
}

@Suite("What is true of every policy")
struct PolicyPropertyTests {
    static let cases: [(Int, UInt64)] = [(1, 1), (7, 2), (40, 3), (100, 4), (1000, 5), (1_000_000, 6)]

    @Test(arguments: PolicyPropertyTests.cases)
    func lruKeepsItsBounds(capacity: Int, seed: UInt64) {
        exercise(LRUPolicy.self, capacity: capacity, seed: seed)
    }

    @Test(arguments: PolicyPropertyTests.cases)
    func fifoKeepsItsBounds(capacity: Int, seed: UInt64) {
        exercise(FIFOPolicy.self, capacity: capacity, seed: seed)
    }

    @Test(arguments: PolicyPropertyTests.cases)
    func sieveKeepsItsBounds(capacity: Int, seed: UInt64) {
        exercise(SIEVEPolicy.self, capacity: capacity, seed: seed)
    }

    @Test(arguments: PolicyPropertyTests.cases)
    func lfuKeepsItsBounds(capacity: Int, seed: UInt64) {
        exercise(LFUPolicy.self, capacity: capacity, seed: seed)
    }

    @Test(arguments: PolicyPropertyTests.cases)
    func s3FIFOKeepsItsBounds(capacity: Int, seed: UInt64) {
        exercise(S3FIFOPolicy.self, capacity: capacity, seed: seed)
    }

    @Test(arguments: PolicyPropertyTests.cases)
    func expiryKeepsItsBounds(capacity: Int, seed: UInt64) {
        // What never expires leaves only when nothing else is left, so it cannot be pushed out by what does.
        exercise(ExpiryPolicy.self, capacity: capacity, seed: seed, flushes: false)
    }

    @Test(arguments: PolicyPropertyTests.cases)
    func sizeAwareKeepsItsBounds(capacity: Int, seed: UInt64) {
        exercise(SizeAwarePolicy.self, capacity: capacity, seed: seed)
    }

    @Test(arguments: PolicyPropertyTests.cases)
    func tinyLFUKeepsItsBounds(capacity: Int, seed: UInt64) {
        exercise(TinyLFUPolicy.self, capacity: capacity, seed: seed)
    }

    @Test
    func aHitOrRemovalOfAnUnknownSlotIsIgnored() {
        func check<Policy: EvictionPolicy>(_ type: Policy.Type) {
            var policy = Policy(capacity: 3, seed: 1)
            var evicted: [Int32] = []
            policy.hit(5)
            policy.remove(5)
            policy.update(EvictionEntry(slot: 5, hash: 1, weight: 1), evicted: &evicted)
            #expect(policy.weight == 0 && evicted.isEmpty)
        }
        check(LRUPolicy.self)
        check(FIFOPolicy.self)
        check(SIEVEPolicy.self)
        check(LFUPolicy.self)
        check(S3FIFOPolicy.self)
        check(ExpiryPolicy.self)
        check(SizeAwarePolicy.self)
        check(TinyLFUPolicy.self)
    }

    @Test
    func whatExpiresSoonestLeavesFirstAndWhatNeverExpiresLast() {
        var policy = ExpiryPolicy(capacity: 4, seed: 1)
        var evicted: [Int32] = []
        let deadlines: [Int64] = [.max, 300, 100, 200]
        for (slot, deadline) in deadlines.enumerated() {
            policy.insert(EvictionEntry(slot: Int32(slot), hash: 0, weight: 1, deadline: deadline), evicted: &evicted)
        }
        policy.update(EvictionEntry(slot: 1, hash: 0, weight: 1, deadline: 50), evicted: &evicted)
        for slot in Int32(4)..<8 {
            policy.insert(EvictionEntry(slot: slot, hash: 0, weight: 1), evicted: &evicted)
        }
        #expect(evicted == [1, 2, 3, 0])
    }

    @Test
    func smallEntriesPushOutALargeOneThatIsUsedNoMore() {
        var policy = SizeAwarePolicy(capacity: 100, seed: 1)
        var evicted: [Int32] = []
        policy.insert(EvictionEntry(slot: 0, hash: 0, weight: 60), evicted: &evicted)
        for slot in Int32(1)...50 { policy.insert(EvictionEntry(slot: slot, hash: 0, weight: 1), evicted: &evicted) }
        #expect(evicted == [0])
    }
}
