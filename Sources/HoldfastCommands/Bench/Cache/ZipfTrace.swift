// SPDX-License-Identifier: Apache-2.0

import Glibc
import HoldfastCore

/// Requests for keys, some much more often than others: rank r with weight 1 / r^exponent.
package enum ZipfTrace {
    /// Makes a trace.
    ///
    /// - Parameters:
    ///   - count: How many requests.
    ///   - keys: How many different keys, scattered over 0 ..< keys.
    ///   - exponent: How uneven.
    ///   - seed: The same seed gives the same trace.
    /// - Returns: The keys.
    package static func make(count: Int, keys: Int, exponent: Double, seed: UInt64) -> [UInt32] {
        var generator = SplitMix64(seed: seed)
        var sums: [Double] = []
        sums.reserveCapacity(keys)
        var sum = 0.0
        for rank in 1...keys {
            sum += 1 / pow(Double(rank), exponent)
            sums.append(sum)
        }
        var names = Array(0..<UInt32(keys))
        names.shuffle(using: &generator)
        return (0..<count).map { _ in
            let draw = Double.random(in: 0..<sum, using: &generator)
            var (low, high) = (0, keys - 1)
            while low < high {
                let middle = (low + high) / 2
                if sums[middle] > draw { high = middle } else { low = middle + 1 }
            }
            return names[low]
        }
    }
}
