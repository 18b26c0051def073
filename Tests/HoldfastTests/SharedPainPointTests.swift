// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import HoldfastTesting
import Testing

@Suite("Bugs of others with several holders that must not be ours", .timeLimit(.minutes(5)))
struct SharedPainPointTests {
    @Test(
        "8: a dead reader of three blocks a writer for its own lease, not as long as the others renew (redisson PR#7098)"
    )
    func deadReader() throws {
        try Bench.run { bench in
            let other = try bench.distantNeighbour()
            try await other.whileRunning {
                var living: [Lease] = []
                for _ in 0..<2 {
                    living.append(try await bench.locks.acquire("a", mode: .shared, lease: .seconds(4)))
                }
                let doomed = bench.start {
                    try await other.locks.withLock("a", mode: .shared, lease: .seconds(4)) { _ in
                        try await bench.sleep(.seconds(600))
                    }
                }
                try await bench.sleep(.seconds(20))
                other.store.cutOff()
                let died = bench.clock.now
                let writer = bench.start {
                    let lease = try await bench.locks.acquire("a")
                    return (lease, bench.clock.now)
                }
                // The living renew at 4/3 s, so all of them are renewed again after the death.
                try await bench.sleep(.seconds(3))
                for lease in living {
                    try lease.checkValid()
                    await lease.release()
                }
                let (lease, entered) = try await writer.value
                #expect(died.duration(to: entered) < .seconds(4.2))
                await lease.release()
                #expect(await lockErrorCode { try await doomed.value } == .lost)
            }
        }
    }

    @Test(
        "9: a queued writer does not come in beside a downgraded reader, over many leases (curator#796, redisson#4217)"
    )
    func downgradedReader() throws {
        try Bench.run { bench in
            let other = try bench.neighbour()
            try await other.whileRunning {
                let lease = try await bench.locks.acquire("a", lease: .seconds(4))
                let writer = bench.start {
                    let lease = try await other.locks.acquire("a")
                    return (lease, bench.clock.now)
                }
                try await bench.sleep(.seconds(1))
                #expect(try await bench.store.status(of: "a").waiters.count == 1)
                try await lease.downgrade()
                for _ in 0..<20 {
                    try await bench.sleep(.seconds(1))
                    try lease.checkValid()
                    let status = try await bench.store.status(of: "a")
                    #expect(status.holders.map(\.mode) == [.shared])
                    #expect(status.waiters.count == 1)
                }
                let released = bench.clock.now
                await lease.release()
                let (next, entered) = try await writer.value
                #expect(entered == released)
                #expect(next.fencingToken > lease.fencingToken)
                await next.release()
            }
        }
    }
}
