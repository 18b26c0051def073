// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import HoldfastTesting
import Testing

@Suite("SimulatedStore keeps the contract", .timeLimit(.minutes(5)))
struct SimulatedStoreContractTests {
    @Test(arguments: StoreContract.cases)
    func keeps(_ promise: StoreContract.Case) async throws {
        let clock = ManualClock()
        let server = SimulatedServer(clock: clock)
        try await promise.check(
            StoreContract.Subject(namePrefix: "contract/", pass: clock.pass) { server.connect() }
        )
    }

    @Test("A store that grants only exclusive locks keeps the contract too", arguments: StoreContract.cases)
    func exclusiveOnly(_ promise: StoreContract.Case) async throws {
        let clock = ManualClock()
        let server = SimulatedServer(clock: clock, modes: [.exclusive])
        try await promise.check(
            StoreContract.Subject(namePrefix: "contract/", pass: clock.pass) { server.connect() }
        )
    }

    @Test("A faulty store without faults keeps the contract", arguments: StoreContract.cases)
    func withoutFaults(_ promise: StoreContract.Case) async throws {
        let clock = ManualClock()
        let server = SimulatedServer(clock: clock)
        try await promise.check(
            StoreContract.Subject(namePrefix: "contract/", pass: clock.pass) {
                FaultyStore(server.connect(), plan: .none, seed: 1, clock: clock)
            }
        )
    }
}
