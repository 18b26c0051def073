// SPDX-License-Identifier: Apache-2.0

import HoldfastTesting
import Testing

@testable import HoldfastCache

@Suite("The models that the default policy learns from")
struct TinyLFUModelTests {
    /// What a model does, with a dictionary for an index.
    private struct Reference {
        var core: TinyLFUCore
        var slots: [UInt32: Int32] = [:]
        var hashes: [Int32: UInt32] = [:]
        var next: Int32 = 0
        var evicted: [Int32] = []

        mutating func access(_ hash: UInt32, weight: Int, sketch: FrequencySketch) -> Bool {
            if let slot = self.slots[hash] {
                self.core.hit(slot)
                return true
            }
            self.slots[hash] = self.next
            self.hashes[self.next] = hash
            let entry = EvictionEntry(slot: self.next, hash: 0, weight: weight)
            self.core.insert(entry, hash: hash, sketch: sketch, evicted: &self.evicted)
            self.next += 1
            self.drain()
            return false
        }

        mutating func drain() {
            for slot in self.evicted { if let hash = self.hashes.removeValue(forKey: slot) { self.slots[hash] = nil } }
            self.evicted = []
        }
    }

    @Test(arguments: ShapeJudge.shapes.indices)
    func aModelHitsExactlyWhatItsShapeHits(number: Int) {
        let shape = ShapeJudge.shapes[number]
        var generator = SeededGenerator(seed: UInt64(number))
        let zipf = ZipfSampler(count: 3000, exponent: 1)
        var sketch = FrequencySketch(entries: 512, seed: 1)
        var model = ShadowCache(capacity: 500, shape: shape, seed: 3)
        var reference = Reference(core: TinyLFUCore(capacity: 500, shape: shape, seed: 3))
        for step in 0..<20_000 {
            let hash = UInt32(zipf.sample(&generator)) &* 2_654_435_761
            let weight = Int(hash >> 8 % 7) + 1
            sketch.add(hash)
            let isHit = model.hit(hash)
            if !isHit { model.insert(hash, weight: weight % 9 + 1, sketch: sketch) }
            #expect(isHit == reference.access(hash, weight: weight % 9 + 1, sketch: sketch))
            if step % 50 == 0, let slot = reference.slots[hash] {
                model.change(hash, weight: 0, sketch: sketch)
                reference.core.remove(slot)
                reference.evicted.append(slot)
                reference.drain()
            }
            #expect(model.core.weight == reference.core.weight && model.core.weight <= 500)
        }
        model.thin(to: 250, sketch: sketch) { $0 % 2 == 0 }
        #expect(model.core.weight <= 250)
        for (hash, _) in reference.slots where hash % 2 != 0 {
            let isHit = model.hit(hash)
            #expect(!isHit)
        }
    }

    @Test
    func thePartsOfAMemoryTakeTheShapeThatOneOfThemFindsBest() throws {
        var seed: UInt64 = 0
        let capacities = [Int](repeating: 512, count: 16)
        let made = TinyLFUPolicy.parts(capacities) {
            seed += 1
            return seed
        }
        let policies = try made.map { try #require($0 as? TinyLFUPolicy) }
        #expect(policies.map(\.judges) == (0..<16).map { $0 % 8 == 0 })
        #expect(policies.allSatisfy { $0.capacity == 512 && $0.number == ShapeJudge.first })
        // A loop that is longer than the cache: nothing but frequency helps.
        let loop = (0..<100_000).map { TraceRequest(key: UInt64($0 % 800), size: 1) }
        var parts = policies.map { TraceSimulator($0) }
        for part in [0, 1, 7, 8] { for request in loop { parts[part].access(request) } }
        let number = parts[0].policy.number
        #expect(number < ShapeJudge.first)
        #expect(parts[1].policy.number == number && parts[7].policy.number == number)
        #expect(parts[1].hits > loop.count / 3)
        // Those of the other judge have not seen it.
        for request in loop.prefix(1000) { parts[9].access(request) }
        #expect(parts[9].policy.number == parts[8].policy.number)
        // Nor does an only part follow anybody.
        let only = try #require(TinyLFUPolicy.parts([512]) { 1 }.first as? TinyLFUPolicy)
        #expect(only.judges)
    }

    @Test(arguments: [10, 100, 2000])
    func theSameSeedMakesTheSameChoicesAndACopyIsIndependent(capacity: Int) {
        let requests = MadeTrace.shiftingZipf(20_000, keys: 5000, every: 5000, seed: 1)
        var first = TraceSimulator(TinyLFUPolicy.self, capacity: capacity)
        for request in requests.prefix(10_000) { first.access(request) }
        var second = first
        for request in requests.suffix(10_000) { first.access(request) }
        for request in requests.suffix(10_000) { second.access(request) }
        #expect(first.hits == second.hits)
        #expect(first.hits == TracePolicy.adaptive.hits(requests, capacity: capacity))
    }

    @Test
    func theSampleIsThinnedAsTheCacheGrows() {
        var judge = ShapeJudge(capacity: 100_000, seed: 1)
        let sketch = FrequencySketch(entries: 512, seed: 1)
        for entries in stride(from: 0, through: 100_000, by: 100) { judge.fit(entries: entries, sketch: sketch) }
        let sampled = (0..<UInt32(100_000)).filter { judge.samples($0 &* 2_654_435_761) }
        #expect(sampled.count > 500)
        #expect(sampled.count < 1100)
    }

    @Test
    func whatIsOfferedTwiceIsKeptByFrequencyAndAScanIsNot() {
        var core = TinyLFUCore(capacity: 100, shape: .init(window: 0.01, readmits: false), seed: 1)
        var sketch = FrequencySketch(entries: 512, seed: 1)
        var evicted: [Int32] = []
        for slot in Int32(0)..<100 {
            let hash = UInt32(slot) &* 2_654_435_761
            for _ in 0..<3 { sketch.add(hash) }
            core.insert(EvictionEntry(slot: slot, hash: 0, weight: 1), hash: hash, sketch: sketch, evicted: &evicted)
        }
        for slot in Int32(100)..<1000 {
            let hash = UInt32(slot) &* 2_654_435_761
            sketch.add(hash)
            core.insert(EvictionEntry(slot: slot, hash: 0, weight: 1), hash: hash, sketch: sketch, evicted: &evicted)
        }
        #expect(evicted.filter { $0 < 100 }.count <= 1)
        #expect(core.count == 100)
    }
}
