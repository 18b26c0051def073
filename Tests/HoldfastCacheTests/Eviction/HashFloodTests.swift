// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import HoldfastCache

@Suite("Keys that share counters with the victims cannot keep others out")
struct HashFloodTests {
    private static let sketchSeed: UInt64 = 7

    /// Where the four counters of a hash are in the smallest sketch, as an attacker who knew its seed would find out.
    private static func counters(of hash: UInt32) -> [UInt64] {
        var mixed = (UInt64(hash) ^ (self.sketchSeed &* 0x9E37_79B9_7F4A_7C15 | 1)) &* 0xBF58_476D_1CE4_E5B9
        mixed ^= mixed >> 32
        mixed = mixed &* 0x94D0_49BB_1331_11EB
        mixed ^= mixed >> 29
        let block = mixed & 504
        return (0..<4).map { row in (block << 8) | UInt64(row) << 5 | (mixed >> 40) >> UInt64(row * 5) & 31 }
    }

    @Test("popular keys get in, though all entries look as popular as can be")
    func flood() {
        let victims = Array(UInt32(1)...20)
        // One key for each counter of each victim.
        let wanted = Set(victims.flatMap { Self.counters(of: $0) })
        var attackers: [UInt64: UInt32] = [:]
        var next: UInt32 = 1 << 20
        while attackers.count < wanted.count {
            for counter in Self.counters(of: next) where wanted.contains(counter) { attackers[counter] = next }
            next += 1
        }
        var sketch = FrequencySketch(entries: 0, seed: Self.sketchSeed)
        func attack(_ sketch: inout FrequencySketch) {
            for _ in 0..<FrequencySketch.limit { for key in attackers.values { sketch.add(key) } }
        }
        // Without readmission, of which the sketch is no judge.
        var core = TinyLFUCore(capacity: 20, shape: .init(window: 0.01, readmits: false), seed: 1)
        var (slots, hashes, hits) = ([UInt32: Int32](), [Int32: UInt32](), 0)
        func access(_ hash: UInt32) {
            sketch.add(hash)
            if let slot = slots[hash] {
                core.hit(slot)
                hits += 1
                return
            }
            let slot = (0...Int32(40)).first { hashes[$0] == nil } ?? 0
            (slots[hash], hashes[slot]) = (slot, hash)
            var evicted: [Int32] = []
            core.insert(EvictionEntry(slot: slot, hash: 0, weight: 1), hash: hash, sketch: sketch, evicted: &evicted)
            for slot in evicted { if let hash = hashes.removeValue(forKey: slot) { slots[hash] = nil } }
        }
        for victim in victims { access(victim) }
        attack(&sketch)
        // They really share counters: nobody asked for the victims more than once.
        #expect(victims.allSatisfy { sketch.frequency(of: $0) == FrequencySketch.limit })
        hits = 0
        for _ in 0..<600 {
            attack(&sketch)
            for key: UInt32 in 10_001...10_010 { access(key) }
        }
        // By a lead of two in the sketch nobody would get in: all have the largest estimate there is.
        #expect(hits > 600 * 10 / 3, "\(hits)")
    }
}
