// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import HoldfastTesting
import Testing

@Suite("The gate of one process")
struct LocalGateTests {
    private let owner = OwnerID(
        process: ProcessIdentity(instance: 1, host: "h", pid: 1, started: 0, program: "p"),
        serial: 1
    )

    private func request(_ number: UInt64, _ mode: LockMode = .exclusive, priority: Int = 0) -> LockRequest {
        LockRequest(
            id: RequestID(high: 0, low: number),
            resource: "a",
            mode: mode,
            owner: self.owner,
            lease: .seconds(1),
            priority: priority
        )
    }

    @Test("One writer at a time, in order, and nothing is left at the end")
    func writers() {
        var gate = LocalGate()
        #expect(gate.enter(self.request(1), at: .zero) == .admitted)
        #expect(gate.enter(self.request(2), at: .zero) == .queued)
        #expect(gate.enter(self.request(3), at: .zero) == .queued)
        #expect(gate.leave(RequestID(high: 0, low: 2), "a").isEmpty)
        #expect(gate.leave(RequestID(high: 0, low: 1), "a") == [RequestID(high: 0, low: 3)])
        #expect(gate.leave(RequestID(high: 0, low: 3), "a").isEmpty)
        #expect(gate.leave(RequestID(high: 0, low: 3), "a").isEmpty)
        #expect(gate.count == 0)
    }

    @Test("Readers come in together; a waiting writer stops newcomers and goes first")
    func readers() {
        var gate = LocalGate()
        #expect(gate.enter(self.request(1, .shared), at: .zero) == .admitted)
        #expect(gate.enter(self.request(2, .shared), at: .zero) == .admitted)
        #expect(gate.enter(self.request(3), at: .zero) == .queued)
        #expect(gate.enter(self.request(4, .shared), at: .zero) == .queued)
        #expect(gate.enter(self.request(5, .shared), at: .zero) == .queued)
        #expect(gate.leave(RequestID(high: 0, low: 1), "a").isEmpty)
        #expect(gate.leave(RequestID(high: 0, low: 2), "a") == [RequestID(high: 0, low: 3)])
        #expect(gate.leave(RequestID(high: 0, low: 3), "a").map(\.low) == [4, 5])
    }

    @Test("A priority is a head start of a second a step")
    func priority() {
        var gate = LocalGate()
        let second = Timestamp(nanoseconds: 1_000_000_000)
        #expect(gate.enter(self.request(1), at: .zero) == .admitted)
        #expect(gate.enter(self.request(2), at: .zero) == .queued)
        #expect(gate.enter(self.request(3, priority: 2), at: second) == .queued)
        #expect(gate.enter(self.request(4, priority: 1), at: second) == .queued)
        #expect(gate.leave(RequestID(high: 0, low: 1), "a").map(\.low) == [3])
        #expect(gate.leave(RequestID(high: 0, low: 3), "a").map(\.low) == [2])
        #expect(gate.leave(RequestID(high: 0, low: 2), "a").map(\.low) == [4])
    }

    @Test("A request that does not wait is refused while anybody is inside or waits")
    func refusal() {
        var gate = LocalGate()
        var hasty = self.request(2)
        hasty.contention = .fail
        #expect(gate.enter(self.request(1), at: .zero) == .admitted)
        #expect(gate.enter(hasty, at: .zero) == .refused)
        _ = gate.leave(RequestID(high: 0, low: 1), "a")
        #expect(gate.enter(hasty, at: .zero) == .admitted)
    }
}
