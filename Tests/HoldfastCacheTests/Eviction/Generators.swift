// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
import HoldfastTesting

/// Ranks by Zipf's law, by the inverse of the distribution's sum.
struct ZipfSampler {
    private let sums: [Double]

    init(count: Int, exponent: Double) {
        // Without Foundation there is no power: exponents are 1 here, or n times a square root.
        var sums: [Double] = []
        var sum = 0.0
        for rank in 1...count {
            sum += exponent == 1 ? 1 / Double(rank) : 1 / (Double(rank) * Double(rank)).squareRoot().squareRoot()
            sums.append(sum)
        }
        self.sums = sums
    }

    func sample(_ generator: inout SeededGenerator) -> Int {
        let wanted = Double.random(in: 0..<(self.sums.last ?? 1), using: &generator)
        var (low, high) = (0, self.sums.count - 1)
        while low < high {
            let middle = (low + high) / 2
            if self.sums[middle] <= wanted { low = middle + 1 } else { high = middle }
        }
        return low
    }
}

/// Traces made up in the tests.
enum MadeTrace {
    /// Each key comes three times, close together, and never again: as a message log is read.
    static func recency(_ count: Int, from first: UInt64 = 1 << 40) -> [TraceRequest] {
        var requests: [TraceRequest] = []
        var next = first
        while requests.count < count {
            for key in next..<next + 50 { requests.append(TraceRequest(key: key)) }
            for key in next..<next + 50 { requests.append(TraceRequest(key: key)) }
            next += 50
        }
        return requests
    }

    /// The same keys over and over.
    static func loop(_ keys: Int, rounds: Int) -> [TraceRequest] {
        (0..<rounds).flatMap { _ in (0..<keys).map { TraceRequest(key: UInt64($0)) } }
    }

    /// Popular keys; what is popular moves by half every so often.
    static func shiftingZipf(_ count: Int, keys: Int, every period: Int, seed: UInt64) -> [TraceRequest] {
        var generator = SeededGenerator(seed: seed)
        let zipf = ZipfSampler(count: keys, exponent: 1)
        return (0..<count).map { number in
            TraceRequest(key: UInt64(zipf.sample(&generator) + number / period * keys / 2))
        }
    }

    /// Popular keys, and now and then a scan of keys that never come back.
    static func zipfWithScans(_ count: Int, keys: Int, scan: Int, seed: UInt64) -> [TraceRequest] {
        var generator = SeededGenerator(seed: seed)
        let zipf = ZipfSampler(count: keys, exponent: 1)
        var requests: [TraceRequest] = []
        var fresh: UInt64 = 1 << 41
        while requests.count < count {
            for _ in 0..<scan { requests.append(TraceRequest(key: UInt64(zipf.sample(&generator)))) }
            for _ in 0..<scan {
                requests.append(TraceRequest(key: fresh))
                fresh += 1
            }
        }
        return requests
    }

    /// Popular keys of sizes that have nothing to do with it.
    static func sized(_ count: Int, keys: Int, seed: UInt64) -> [TraceRequest] {
        var generator = SeededGenerator(seed: seed)
        let zipf = ZipfSampler(count: keys, exponent: 1)
        let sizes = (0..<keys).map { _ in 1 << Int.random(in: 0..<11, using: &generator) }
        return (0..<count).map { _ in
            let key = zipf.sample(&generator)
            return TraceRequest(key: UInt64(key), size: sizes[key] + key % 3)
        }
    }
}

/// What a policy hits of a trace, in percent.
func hitRatio(
    _ policy: TracePolicy,
    _ requests: [TraceRequest],
    capacity: Int,
    isInBytes: Bool = false,
    seed: UInt64 = 42
) -> Double {
    let hits = policy.hits(requests, capacity: capacity, isInBytes: isInBytes, seed: seed)
    return Double(hits) * 100 / Double(max(1, requests.count))
}
