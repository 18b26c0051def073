// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import HoldfastTesting
import Synchronization
import Testing

/// Locks that a store hands over to who waits, with nothing left to ask.
@Suite("Locks handed over unasked", .timeLimit(.minutes(5)))
struct UnaskedHandOverTests {
    private static let token = FencingToken(rawValue: 1 << 40)

    /// A store whose own signals are lost, with a lock that somebody else holds, and who comes to wait for it.
    private final class Stage: Sendable {
        let store = ScriptedStore(clock: ContinuousClock())
        let waiter = Mutex<RequestID?>(nil)
        let holder: LockRequest

        /// Nobody asks again by himself, however slow the machine is.
        static var settings: LockServiceConfiguration {
            var settings = LockServiceConfiguration()
            settings.acceptance = .seconds(600)
            return settings
        }

        init() async throws {
            var generator = SystemRandomNumberGenerator()
            let process = ProcessIdentity(instance: 1, host: "h", pid: 1, started: 1, program: "p")
            self.holder = LockRequest(
                id: RequestID(using: &generator),
                resource: "x",
                owner: OwnerID(process: process, serial: 1),
                lease: .seconds(600)
            )
            _ = try await self.store.base.acquire(self.holder)
            self.store.script.withLock { script in
                script.losesSignals = true
                script.afterAcquire = { [weak self] request in self?.waiter.withLock { $0 = request.id } }
            }
        }

        /// Hands the lock over.
        func handOver(since: ContinuousClock.Instant) async throws {
            _ = await self.store.base.release(self.holder.key)
            let id = try #require(self.waiter.withLock { $0 })
            self.store.tell(.handedOver(id, UnaskedHandOverTests.token, since: since))
        }

        func waitForWaiter() async throws {
            while await self.store.base.status(of: "x").waiters.isEmpty || self.waiter.withLock({ $0 }) == nil {
                try await Task.sleep(for: .milliseconds(1))
            }
        }
    }

    @Test
    func `what is handed over is held without another call, and its lease counts from when it says`() async throws {
        let stage = try await Stage()
        let observer = EventLog()
        try await withLockService(store: stage.store, configuration: Stage.settings, observer: observer) { locks in
            async let acquired = locks.acquire("x", lease: .seconds(600))
            try await stage.waitForWaiter()
            let since = ContinuousClock.now.advanced(by: .seconds(-20))
            try await stage.handOver(since: since)
            let lease = try await acquired
            #expect(stage.store.count("acquire") == 1)
            #expect(lease.fencingToken == Self.token)
            #expect(lease.validUntil <= since.advanced(by: .seconds(600)))
            #expect(lease.validUntil > since.advanced(by: .seconds(590)))
            #expect(await lease.release() == .released)
        }
        #expect(observer.count("acquired waited") == 1)
    }

    @Test
    func `what was handed over before the answer that said to wait is held as well`() async throws {
        let stage = try await Stage()
        stage.store.script.withLock { script in
            let remember = script.afterAcquire
            script.afterAcquire = { [weak stage] request in
                try await remember?(request)
                try await stage?.handOver(since: .now)
            }
        }
        try await withLockService(store: stage.store, configuration: Stage.settings) { locks in
            let lease = try await locks.acquire("x", lease: .seconds(600))
            #expect(stage.store.count("acquire") == 1)
            #expect(lease.fencingToken == Self.token)
            #expect(await lease.release() == .released)
        }
    }

    @Test
    func `what was handed over too long ago is given back, and asked for anew`() async throws {
        let stage = try await Stage()
        try await withLockService(store: stage.store, configuration: Stage.settings) { locks in
            async let acquired = locks.acquire("x", lease: .seconds(600))
            try await stage.waitForWaiter()
            let first = stage.waiter.withLock { $0 }
            try await stage.handOver(since: .now.advanced(by: .seconds(-601)))
            let lease = try await acquired
            #expect(stage.waiter.withLock { $0 } != first, "the same request was used again")
            #expect(lease.fencingToken != Self.token)
            #expect(stage.store.count("withdraw") == 1)
            #expect(await lease.release() == .released)
            #expect(await stage.store.base.status(of: "x").isFree)
        }
    }

    @Test
    func `what is handed over to a waiter that is cancelled is given back`() async throws {
        let stage = try await Stage()
        try await withLockService(store: stage.store, configuration: Stage.settings) { locks in
            let task = Task { try await locks.acquire("x", lease: .seconds(600)) }
            try await stage.waitForWaiter()
            try await stage.handOver(since: .now)
            task.cancel()
            // Both came: it has the lock, or has given it back.
            if let lease = try? await task.value { #expect(await lease.release() == .released) }
            #expect(await stage.store.base.status(of: "x").isFree)
            // Nobody takes what comes after the end.
            let late = try #require(stage.waiter.withLock { $0 })
            stage.store.tell(.handedOver(late, Self.token, since: .now))
            #expect(try await locks.tryAcquire("x")?.release() == .released)
        }
    }

    @Test
    func `a service on another clock asks when its lease began`() throws {
        try Bench.run { bench in
            let other = try bench.neighbour()
            try await other.whileRunning {
                let held = try await other.locks.acquire("x")
                let waiter = Mutex<LockRequest?>(nil)
                bench.store.script.withLock { script in
                    script.losesSignals = true
                    script.afterAcquire = { request in waiter.withLock { $0 = request } }
                }
                let task = bench.start { try await bench.locks.acquire("x") }
                try await bench.sleep(.milliseconds(10))
                let request = try #require(waiter.withLock { $0 })
                #expect(!request.acceptsUnasked)
                await held.release()
                let asked = bench.store.count("acquire")
                bench.store.tell(.handedOver(request.id, Self.token, since: .now))
                let lease = try await task.value
                #expect(bench.store.count("acquire") == asked + 1)
                #expect(lease.fencingToken != Self.token)
                await lease.release()
            }
        }
    }
}
