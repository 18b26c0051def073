// SPDX-License-Identifier: Apache-2.0

import Foundation
import HoldfastCore
import HoldfastSQLite
import Testing

@Suite(.timeLimit(.minutes(5)))
struct ProcessSuite {
    let sandbox: Sandbox
    let store: SQLiteLockStore

    init() throws {
        self.sandbox = try Sandbox()
        self.store = self.sandbox.store()
    }

    /// Makes rows of a request belong to another process.
    private func give(_ request: LockRequest, to sleeper: Sleeper) throws {
        for table in ["grants", "waiters"] {
            try self.sandbox.sql(
                """
                UPDATE \(table) SET pid = \(sleeper.pid), started = \(sleeper.started)
                WHERE low = \(Int64(bitPattern: request.id.low))
                """
            )
        }
    }

    @Test func `an upgrader is exclusive soon after the reader in its way is killed`() async throws {
        let sleeper = try Sleeper()
        let (reader, upgrader) = (request("a", mode: .shared), request("a", mode: .update))
        let inbox = Inbox(self.store)
        try await withThrowingTaskGroup(of: Void.self) { group in
            defer { group.cancelAll() }
            group.addTask { try await self.store.run() }
            _ = try await self.store.acquire(reader)
            try self.give(reader, to: sleeper)
            let old = try #require(try await self.store.acquire(upgrader).token)
            let wish = Conversion(upgrader.key, to: .exclusive, contention: .queue)
            guard case .waiting = try await self.store.convert(wish) else {
                Issue.record("an upgrade beside a reader did not wait")
                return
            }
            sleeper.signal(SIGKILL)
            await inbox.granted(upgrader.id)
            guard case .converted(let new) = try await self.store.convert(wish) else {
                Issue.record("a dead reader holds an upgrade up")
                return
            }
            #expect(new > old)
        }
    }

    @Test func `the lock of a killed process is free at once`() async throws {
        let sleeper = try Sleeper()
        let held = request("a")
        _ = try await self.store.acquire(held)
        try self.give(held, to: sleeper)
        #expect(try await self.store.acquire(request("a", contention: .fail)).isBusy)
        sleeper.signal(SIGKILL)
        try await eventually { try await self.store.acquire(request("a", contention: .fail)).token != nil }
    }

    @Test func `a stopped process keeps its lease`() async throws {
        let sleeper = try Sleeper()
        let held = request("a")
        _ = try await self.store.acquire(held)
        try self.give(held, to: sleeper)
        sleeper.signal(SIGSTOP)
        try await Task.sleep(for: .milliseconds(100))
        #expect(try await self.store.acquire(request("a", contention: .fail)).isBusy)
    }

    @Test func `a pid that was given to a later process does not keep a lock`() async throws {
        let sleeper = try Sleeper()
        let held = request("a")
        _ = try await self.store.acquire(held)
        try self.give(held, to: sleeper)
        try self.sandbox.sql("UPDATE grants SET started = started - 1")
        #expect(try await self.store.acquire(request("a", contention: .fail)).token != nil)
    }

    @Test func `a process of another pid namespace is judged by its lease only`() async throws {
        let held = request("a")
        _ = try await self.store.acquire(held)
        try self.sandbox.sql("UPDATE grants SET namespace = 'pid:[1]', pid = 999999999, started = 1")
        #expect(try await self.store.acquire(request("a", contention: .fail)).isBusy)
    }

    @Test func `a detached grant outlives its process`() async throws {
        let sleeper = try Sleeper()
        let held = request("a")
        _ = try await self.store.acquire(held)
        try self.give(held, to: sleeper)
        try await self.store.detach(held.key)
        sleeper.signal(SIGKILL)
        try await Task.sleep(for: .milliseconds(100))
        #expect(try await self.store.acquire(request("a", contention: .fail)).isBusy)
        #expect(
            try await self.store.renew([Renewal(key: held.key, lease: .seconds(9))])
                == [.renewed(revokeRequested: false)]
        )
        #expect(try self.sandbox.sql("SELECT 1 FROM grants WHERE namespace = ''").count == 1)
    }

    @Test func `a dead process' lock delay counts from when its death is seen`() async throws {
        let sleeper = try Sleeper()
        let held = request("a", lockDelay: .seconds(60))
        _ = try await self.store.acquire(held)
        try self.give(held, to: sleeper)
        sleeper.signal(SIGKILL)
        try await eventually { try await self.store.status(of: "a").holders.isEmpty }
        #expect(try await self.store.acquire(request("a", contention: .fail)).isBusy)
        #expect(try await self.store.status(of: "a").restingFor ?? .zero > .seconds(50))
    }

    @Test func `a waiter hears of its holder's death soon`() async throws {
        var times: [Duration] = []
        let inbox = Inbox(self.store)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await self.store.run() }
            for _ in 0..<5 {
                let sleeper = try Sleeper()
                let held = request("a")
                let waiter = request("a", acceptance: .seconds(20))
                _ = try await self.store.acquire(held)
                try self.give(held, to: sleeper)
                #expect(try await self.store.acquire(waiter).place != nil)
                let start = ContinuousClock.now
                sleeper.signal(SIGKILL)
                await inbox.granted(waiter.id)
                times.append(start.duration(to: .now))
                #expect(try await self.store.withdraw(waiter.key) == .released)
            }
            group.cancelAll()
        }
        print("death of a holder noticed after: \(times.sorted()[2]) (median of 5)")
        #expect(times.sorted()[2] < .seconds(1))
    }

    @Test func `a dead waiter is passed over`() async throws {
        let sleeper = try Sleeper()
        let held = request("a")
        let dead = request("a")
        let third = request("a")
        _ = try await self.store.acquire(held)
        _ = try await self.store.acquire(dead)
        _ = try await self.store.acquire(third)
        try self.give(dead, to: sleeper)
        sleeper.signal(SIGKILL)
        try await eventually { try await self.store.status(of: "a").waiters.count == 1 }
        #expect(try await self.store.release(held.key) == .released)
        #expect(try await self.store.acquire(third).token != nil)
    }

    @Test func `a waiter of another store object wakes soon after a release`() async throws {
        let other = self.sandbox.store()
        let inbox = Inbox(other)
        var times: [Duration] = []
        for _ in 0..<51 {
            let held = request("a")
            let waiter = request("a")
            _ = try await self.store.acquire(held)
            _ = try await other.acquire(waiter)
            let start = ContinuousClock.now
            _ = try await self.store.release(held.key)
            await inbox.granted(waiter.id)
            times.append(start.duration(to: .now))
            _ = try await other.withdraw(waiter.key)
        }
        print("wake-up across store objects: \(times.sorted()[25]) (median of 51)")
        #expect(times.sorted()[25] < .seconds(1))
    }

    @Test func `a lost hand-over signal is made up for`() async throws {
        let other = self.sandbox.store()
        let inbox = Inbox(other)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await other.run() }
            let held = request("a")
            let waiter = request("a", acceptance: .seconds(20))
            _ = try await self.store.acquire(held)
            _ = try await other.acquire(waiter)
            let directory = self.sandbox.file + "-signals"
            for name in try FileManager.default.contentsOfDirectory(atPath: directory) {
                try FileManager.default.removeItem(atPath: directory + "/" + name)
            }
            _ = try await self.store.release(held.key)
            await inbox.granted(waiter.id)
            group.cancelAll()
        }
    }
}

/// Tries again until a condition holds; the suite's time limit ends it.
func eventually(_ condition: () async throws -> Bool) async throws {
    while try await !condition() { try await Task.sleep(for: .milliseconds(5)) }
}
