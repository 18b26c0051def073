// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import HoldfastTesting
import Testing

@Suite("MemoryStore keeps the contract", .timeLimit(.minutes(5)))
struct MemoryStoreContractTests {
    @Test(arguments: StoreContract.cases)
    func keeps(_ promise: StoreContract.Case) async throws {
        let clock = ManualClock()
        let store = MemoryStore(clock: clock)
        try await promise.check(
            StoreContract.Subject(namePrefix: "contract/", pass: clock.pass) { store }
        )
    }

    @Test("Random commands get the replies of LockTable", arguments: 0..<20 as Range<UInt64>)
    func model(block: UInt64) async throws {
        for seed in block * 125..<(block + 1) * 125 {
            let clock = ManualClock()
            let store = MemoryStore(clock: clock)
            let subject = StoreContract.Subject(namePrefix: "model/", pass: clock.pass) { store }
            try await ModelRun(seed: seed, commands: 60, passesTime: true).check(subject)
        }
    }
}

extension ManualClock {
    /// Lets time pass, and everybody who was woken by it or by something else run before.
    @Sendable func pass(_ duration: Duration) async {
        await Task.yield()
        self.advance(by: duration)
        await Task.yield()
    }
}
