// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import HoldfastTesting
import Synchronization
import Testing

@Suite("Cancellation at every step", .timeLimit(.minutes(5)))
struct CancellationTests {
    /// More yields than any of the calls below has suspension points.
    private static let steps = 60

    /// Cancels a task after a number of executor steps and says whether anything of it is left.
    private func cancelled(
        after step: Int,
        seed: UInt64,
        contended: Bool,
        _ work: @escaping @Sendable (Bench) async throws -> Void
    ) throws {
        try Bench.run(seed: seed) { bench in
            bench.store.script.withLock { script in
                script.beforeAcquire = { _ in try? await bench.sleep(.milliseconds(1)) }
                script.afterAcquire = { _ in try? await bench.sleep(.milliseconds(1)) }
                script.beforeRelease = { _ in try? await bench.sleep(.milliseconds(1)) }
            }
            let other = try bench.neighbour()
            try await other.whileRunning {
                let blocker = contended ? try await other.locks.acquire("a") : nil
                let task = bench.start { try await work(bench) }
                for _ in 0..<step { await Task.yield() }
                if step % 3 == 1 { try await bench.sleep(.microseconds(500 * step)) }
                if step % 2 == 0 {
                    await blocker?.release()
                    task.cancel()
                } else {
                    task.cancel()
                    await blocker?.release()
                }
                _ = await task.result
                #expect(try await bench.isFree("a"), "step \(step), seed \(seed)")
                let next = try await other.locks.tryAcquire("a")
                #expect(next != nil, "step \(step), seed \(seed)")
                await next?.release()
            }
        }
    }

    @Test("A cancelled scoped lock leaves nothing behind, free or contended", arguments: [false, true])
    func scoped(contended: Bool) throws {
        for step in 0..<Self.steps {
            for seed in 1...5 as ClosedRange<UInt64> {
                try self.cancelled(after: step, seed: seed, contended: contended) { bench in
                    try await bench.locks.withLock("a") { _ in try await bench.sleep(.milliseconds(5)) }
                }
            }
        }
    }

    @Test("A cancelled acquire either holds the lock or leaves nothing behind", arguments: [false, true])
    func unscoped(contended: Bool) throws {
        for step in 0..<Self.steps {
            for seed in 1...5 as ClosedRange<UInt64> {
                try self.cancelled(after: step, seed: seed, contended: contended) { bench in
                    let lease = try await bench.locks.acquire("a", waitingAtMost: .milliseconds(8))
                    try? await lease.renew()
                    await lease.release()
                }
            }
        }
    }

    @Test("A thousand acquires with short limits on a held lock leave no waiter")
    func timeouts() throws {
        try Bench.run { bench in
            let other = try bench.neighbour()
            try await other.whileRunning {
                let held = try await bench.locks.acquire("a")
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for index in 0..<1000 {
                        group.addTask {
                            _ = try? await other.locks.acquire("a", waitingAtMost: .milliseconds(index % 51))
                        }
                    }
                    try await group.waitForAll()
                }
                #expect(try await bench.store.status(of: "a").waiters.isEmpty)
                await held.release()
                #expect(try await bench.isFree("a"))
            }
        }
    }
}
