// SPDX-License-Identifier: Apache-2.0

import HoldfastTesting
import Testing

@testable import HoldfastCache

@Suite("The frequency sketch")
struct FrequencySketchTests {
    @Test(arguments: [1, 2, 3])
    func estimateIsNeverTooLowBelowSaturation(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var sketch = FrequencySketch(entries: 512, seed: seed)
        var counts: [UInt32: Int] = [:]
        for _ in 0..<sketch.period - 1 {
            // A few popular hashes and many rare ones.
            let range: Range<UInt32> = Bool.random(using: &generator) ? 0..<50 : 0..<5000
            let hash = UInt32.random(in: range, using: &generator) &* 2_654_435_761
            sketch.add(hash)
            counts[hash, default: 0] += 1
        }
        for (hash, count) in counts {
            #expect(sketch.frequency(of: hash) >= min(count, FrequencySketch.limit))
        }
    }

    @Test
    func estimateIsExactForMostHashesOfAQuarterFullSketch() {
        var sketch = FrequencySketch(entries: 4096, seed: 9)
        for hash in 0..<UInt32(1024) { for _ in 0...hash % 8 { sketch.add(hash &* 2_654_435_761) } }
        let wrong = (0..<UInt32(1024)).filter { sketch.frequency(of: $0 &* 2_654_435_761) != Int($0 % 8) + 1 }
        #expect(wrong.count < 10)
    }

    @Test
    func countsAreHalvedAfterAPeriod() {
        var sketch = FrequencySketch(entries: 64, seed: 1)
        for _ in 0..<12 { sketch.add(7) }
        #expect(sketch.frequency(of: 7) == 12)
        // Saturated counters do not count as additions, so the rest of the period is spread.
        for number in 0..<UInt32(sketch.period) { sketch.add((number + 100) &* 2_654_435_761) }
        #expect(sketch.frequency(of: 7) <= 8)
        #expect(sketch.frequency(of: 7) >= 6)
    }

    @Test
    func estimateSurvivesGrowthAndThePeriodFollowsTheCapacityBothWays() {
        var sketch = FrequencySketch(entries: 64, seed: 5)
        for hash in 0..<UInt32(20) { for _ in 0...hash % 5 { sketch.add(hash &* 2_654_435_761) } }
        sketch.reserve(10_000)
        #expect(sketch.period == 100_000)
        for hash in 0..<UInt32(20) {
            #expect(sketch.frequency(of: hash &* 2_654_435_761) >= Int(hash % 5) + 1)
        }
        sketch.reserve(2000)
        #expect(sketch.period == 20_000)
    }

    @Test
    func hashesThatShareCountersDependOnTheSeed() {
        func neighbours(_ seed: UInt64) -> [UInt32] {
            var sketch = FrequencySketch(entries: 64, seed: seed)
            for hash in 0..<UInt32(1000) { for _ in 0..<4 { sketch.add(hash) } }
            return (1000..<UInt32(3000)).filter { sketch.frequency(of: $0) > 0 }
        }
        #expect(neighbours(1) != neighbours(2))
        #expect(neighbours(3) == neighbours(3))
    }
}
