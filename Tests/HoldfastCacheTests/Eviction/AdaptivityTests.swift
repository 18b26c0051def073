// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
import Testing

@Suite("The default policy follows the traffic")
struct AdaptivityTests {
    @Test(arguments: [1, 2, 3])
    func pureRecencyIsFollowed(seed: UInt64) {
        // Half of the requests can hit, and do with LRU.
        let requests = MadeTrace.recency(40_000)
        #expect(hitRatio(.adaptive, requests, capacity: 512, seed: seed) > 48)
    }

    @Test(arguments: [1, 2, 3])
    func aLoopTwiceAsLongAsTheCacheHitsNearlyHalf(seed: UInt64) {
        let requests = MadeTrace.loop(1011, rounds: 80)
        #expect(hitRatio(.adaptive, requests, capacity: 512, seed: seed) > 45)
        #expect(hitRatio(.lru, requests, capacity: 512, seed: seed) == 0)
    }

    @Test(arguments: [350, 600, 700, 900])
    func loopsALittleLongerThanTheCacheHitWhatFits(capacity: Int) {
        // Here readmission does harm, and a sample is easily taken for one that fits.
        let requests = MadeTrace.loop(1011, rounds: 80)
        let most = Double(capacity) * 100 / 1011
        #expect(hitRatio(.adaptive, requests, capacity: capacity) > most * 0.9)
    }

    @Test(arguments: [1, 2, 3])
    func aTinyCacheKeepsItsPartOfALoop(seed: UInt64) {
        let requests = MadeTrace.loop(1011, rounds: 80)
        #expect(hitRatio(.adaptive, requests, capacity: 10, seed: seed) > 0.7)
        #expect(hitRatio(.adaptive, requests, capacity: 50, seed: seed) > 4.2)
    }

    @Test(arguments: [1, 2, 3])
    func recencyThenALoopThenRecencyIsFollowed(seed: UInt64) {
        let recency = MadeTrace.recency(40_000)
        let loop = MadeTrace.loop(1011, rounds: 120)
        let again = MadeTrace.recency(40_000, from: 1 << 42)
        // Half of all can hit.
        let requests = recency + loop + again
        #expect(hitRatio(.adaptive, requests, capacity: 512, seed: seed) > 44)
        #expect(hitRatio(.lru, requests, capacity: 512, seed: seed) < 21)
    }

    @Test(arguments: [1, 2])
    func popularityThatMovesIsFollowed(seed: UInt64) {
        let requests = MadeTrace.shiftingZipf(120_000, keys: 10_000, every: 20_000, seed: seed)
        for capacity in [100, 1000] {
            let ours = hitRatio(.adaptive, requests, capacity: capacity)
            #expect(ours > hitRatio(.lru, requests, capacity: capacity) - 0.5)
            #expect(ours > hitRatio(.s3fifo, requests, capacity: capacity) - 1)
        }
    }

    @Test(arguments: [1, 2])
    func scansDoNotWashOutWhatIsPopular(seed: UInt64) {
        let requests = MadeTrace.zipfWithScans(120_000, keys: 10_000, scan: 1000, seed: seed)
        for capacity in [100, 1000] {
            let ours = hitRatio(.adaptive, requests, capacity: capacity)
            #expect(ours > hitRatio(.lru, requests, capacity: capacity) + 2)
            #expect(ours > hitRatio(.s3fifo, requests, capacity: capacity) - 1)
        }
    }

    @Test
    func sizesThatDifferAreCoped() {
        let requests = MadeTrace.sized(100_000, keys: 3000, seed: 4)
        let ours = hitRatio(.adaptive, requests, capacity: 30_000, isInBytes: true)
        #expect(ours > hitRatio(.lru, requests, capacity: 30_000, isInBytes: true))
        let sizeAware = hitRatio(.size, requests, capacity: 30_000, isInBytes: true)
        #expect(sizeAware > ours)
    }

    @Test
    func popularEntriesGiveWayToPopularNewcomers() {
        // Everything in the cache is popular, then everyone else comes.
        var requests: [TraceRequest] = []
        for _ in 0..<30 { for key in 0..<UInt64(500) { requests.append(TraceRequest(key: key)) } }
        let attack = requests.count
        for _ in 0..<100 { for key in 1000..<UInt64(1400) { requests.append(TraceRequest(key: key)) } }
        var simulator = TraceSimulator(TinyLFUPolicy.self, capacity: 500)
        for request in requests { simulator.access(request) }
        let before = requests.prefix(attack).count - 500
        #expect(simulator.hits - before > 100 * 400 * 9 / 10)
    }
}
