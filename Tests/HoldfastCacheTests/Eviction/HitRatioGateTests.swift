// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
import Testing

/// A trace, and at 1 %, 5 % and 20 % of its keys the best that LRU, ARC, S3-FIFO, W-TinyLFU, LIRS and Caffeine reach.
struct GateRow: Sendable, CustomTestStringConvertible {
    let file: String
    let format: TraceFormat
    let best: [Double]

    var testDescription: String { self.file }
}

@Suite("The default policy is never far from the best of the others")
struct HitRatioGateTests {
    /// Only the traces that are quick in a debug build.
    static let rows = [
        GateRow(file: "lirs-gli.trace.gz", format: .lirs, best: [1.4, 7.9, 33.5]),
        GateRow(file: "corda-vaultservice.gz", format: .b64, best: [33.3, 33.3, 33.3]),
        GateRow(file: "cache2k-web12.trace.xz", format: .b32, best: [41.0, 64.8, 78.1]),
        GateRow(
            file: "libcachesim-cloudphysics.oracleGeneral.bin.xz",
            format: .oracle,
            best: [17.2, 18.9, 34.4]
        ),
    ]

    @Test(.enabled(if: PublicTrace.directory != nil, PublicTrace.hint), arguments: HitRatioGateTests.rows)
    func hitRatioIsWithinAPointOfTheBest(row: GateRow) throws {
        let requests = try PublicTrace.read(row.file, row.format)
        let distinct = Double(Set(requests.map(\.key)).count)
        for (part, best) in zip([0.01, 0.05, 0.2], row.best) {
            let capacity = Int(distinct * part)
            #expect(hitRatio(.adaptive, requests, capacity: capacity) >= best - 1, "at \(capacity)")
        }
    }
}
