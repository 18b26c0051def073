// SPDX-License-Identifier: Apache-2.0

import Glibc
import Holdfast
import HoldfastCore
import HoldfastSQLite
import Testing

/// Callers on the store's own thread.
@Suite(.timeLimit(.minutes(5)))
struct ExecutorSuite {
    let sandbox: Sandbox

    init() throws { self.sandbox = try Sandbox() }

    private func store() -> SQLiteLockStore { SQLiteLockStore(path: self.sandbox.file, offersExecutor: true) }

    @Test func `there is none unless it is asked for`() {
        #expect(self.sandbox.store().executor == nil)
        #expect(self.store().executor != nil)
    }

    @Test func `tasks there lock and wait as anywhere, beside those of another store`() async throws {
        let store = self.store()
        let others = self.sandbox.store()
        let inside = Counter()
        @Sendable func work(_ locks: LockService) async throws {
            for _ in 0..<25 {
                try await locks.withLock("x") { _ in
                    inside.enter()
                    await Task.yield()
                    inside.leave()
                }
            }
        }
        try await withLockService(store: store) { locks in
            try await withLockService(store: others) { distant in
                try await withThrowingTaskGroup(of: Void.self) { group in
                    group.addTask { try await work(distant) }
                    group.addTask {
                        try await withTaskExecutorPreference(store.executor) {
                            try await withThrowingTaskGroup(of: Void.self) { group in
                                for _ in 0..<4 { group.addTask { try await work(locks) } }
                                try await group.waitForAll()
                            }
                        }
                    }
                    try await group.waitForAll()
                }
            }
        }
        #expect(inside.total == 125 && inside.most == 1)
    }

    @Test func `whoever occupies the thread of the store loses no lease, and is told of a revocation`() async throws {
        let store = self.store()
        let others = self.sandbox.store()
        try await withLockService(store: store) { locks in
            let lease = try await locks.acquire("x", lease: .seconds(4))
            await withTaskExecutorPreference(store.executor) {
                await withTaskGroup(of: Void.self) { group in
                    group.addTask {
                        // Past the lease. It blocks, as busy work would, and leaves the processor to others.
                        let end = ContinuousClock.now + .seconds(8)
                        while ContinuousClock.now < end { usleep(10_000) }
                    }
                }
            }
            try lease.checkValid()
            // Others still find who renewed it.
            #expect(try await others.revoke("x").reached == 1)
            for await event in lease.events where event == .revokeRequested { break }
            #expect(await lease.release() == .released)
        }
    }
}
