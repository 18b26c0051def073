// SPDX-License-Identifier: Apache-2.0

import Foundation
import Holdfast
import HoldfastCore
import HoldfastTesting
import Synchronization
import Testing

/// Leases are kept by threads that nobody else uses.
@Suite("Keeper", .timeLimit(.minutes(5)))
struct KeeperTests {
    /// Occupies every thread that Swift runs tasks on, until an instant.
    private func occupyThePool(until end: ContinuousClock.Instant) async {
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<(2 * ProcessInfo.processInfo.activeProcessorCount + 2) {
                group.addTask {
                    while ContinuousClock.now < end {}
                }
            }
        }
    }

    @Test
    func `leases are renewed while programs occupy all threads of the pool`()
        async throws
    {
        let store = MemoryStore()
        try await withLockService(store: store) { locks in
            let lease = try await locks.acquire("x", lease: .seconds(4))
            await self.occupyThePool(until: .now + .seconds(6))
            // Nobody looked at the lease meanwhile but the keeper.
            try lease.checkValid()
            let holders = try await locks.holders(of: "x")
            #expect(holders.first?.fencingToken == lease.fencingToken)
            #expect(await lease.release() == .released)
        }
    }

    @Test
    func `work is cancelled when its lease is lost though it occupies all threads of the pool`() async throws {
        let store = ScriptedStore(clock: ContinuousClock())
        store.script.withLock { $0.beforeRenew = { _ in throw LockError(.storeUnavailable, "cut off") } }
        try await withLockService(store: store) { locks in
            let ends = await withTaskGroup(of: Bool.self) { group in
                for number in 0..<(2 * ProcessInfo.processInfo.activeProcessorCount + 2) {
                    group.addTask {
                        let wasCancelled = Collector<Bool>()
                        // Never gives its thread back, and looks at its cancellation all the time.
                        try? await locks.withLock(Resource("x/\(number)"), lease: .milliseconds(500)) { _ in
                            let end = ContinuousClock.now.advanced(by: .seconds(8))
                            while !Task.isCancelled, ContinuousClock.now < end {}
                            wasCancelled.append(Task.isCancelled)
                        }
                        return wasCancelled.values != [false]
                    }
                }
                return await group.reduce(into: [Bool]()) { $0.append($1) }
            }
            #expect(ends.allSatisfy { $0 })
        }
    }
}
