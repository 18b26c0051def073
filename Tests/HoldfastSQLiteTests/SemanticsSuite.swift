// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import HoldfastSQLite
import Testing

@Suite(.timeLimit(.minutes(5)))
struct SemanticsSuite {
    let sandbox: Sandbox
    let store: SQLiteLockStore
    /// A second store object on the same file, as another process would have it.
    let other: SQLiteLockStore

    init() throws {
        self.sandbox = try Sandbox()
        self.store = self.sandbox.store()
        self.other = self.sandbox.store()
    }

    @Test func `a free lock is granted, a taken one is not, and a released one is free`() async throws {
        let first = request("a")
        let token = try #require(try await self.store.acquire(first).token)
        guard case .busy(let blockers) = try await self.other.acquire(request("a", contention: .fail)) else {
            Issue.record("not busy")
            return
        }
        #expect(blockers.map(\.fencingToken) == [token])
        #expect(blockers.first?.owner == first.owner)
        #expect(try await self.store.release(first.key) == .released)
        #expect(try await self.store.release(first.key) == .alreadyLost)
        let next = try #require(try await self.other.acquire(request("a", contention: .fail)).token)
        #expect(next > token)
    }

    @Test func `an acquire that comes twice is one grant, and a late copy after the end is finished`() async throws {
        let first = request("a")
        let token = try await self.store.acquire(first).token
        #expect(try await self.other.acquire(first).token == token)
        #expect(try await self.store.release(first.key) == .released)
        #expect(try await self.store.acquire(first) == .finished)
        #expect(try await self.other.acquire(first) == .finished)
        #expect(try await self.store.status(of: "a").isFree)
    }

    @Test func `a withdrawal that overtakes its acquire leaves a tombstone`() async throws {
        let first = request("a")
        #expect(try await self.store.withdraw(first.key) == .notFound)
        #expect(try await self.other.acquire(first) == .finished)
    }

    @Test func `a release hands the lock to the next waiter, who accepts it`() async throws {
        let inbox = Inbox(self.other)
        let holder = request("a")
        let waiter = request("a", lease: .seconds(20), acceptance: .seconds(10))
        let third = request("a")
        let token = try #require(try await self.store.acquire(holder).token)
        #expect(try await self.other.acquire(waiter).place?.position == 0)
        #expect(try await self.other.acquire(third).place?.position == 1)
        #expect(try await self.other.acquire(waiter).place?.position == 0)
        #expect(try await self.store.release(holder.key) == .released)
        #expect(await inbox.next { $0 == .granted(waiter.id) } != nil)
        #expect(await inbox.next { $0 == .check(third.id, after: .seconds(10)) } != nil)
        let handed = try #require(try await self.store.status(of: "a").holders.first)
        #expect(handed.isAccepting)
        #expect(handed.remaining ?? .zero <= .seconds(10))
        let next = try #require(try await self.other.acquire(waiter).token)
        #expect(next > token)
        let held = try #require(try await self.store.status(of: "a").holders.first)
        #expect(!held.isAccepting)
        #expect(held.remaining ?? .zero > .seconds(15))
        #expect(try await self.other.withdraw(waiter.key) == .released)
        #expect(try await self.other.withdraw(third.key) == .released)
    }

    @Test func `a waiter that does not accept loses its turn`() async throws {
        let holder = request("a")
        let silent = request("a", acceptance: .milliseconds(100))
        let third = request("a")
        _ = try await self.store.acquire(holder)
        _ = try await self.store.acquire(silent)
        _ = try await self.store.acquire(third)
        _ = try await self.store.release(holder.key)
        try await eventually { try await self.store.acquire(third).token != nil }
        #expect(try await self.store.renew([Renewal(key: silent.key, lease: .seconds(1))]) == [.lost(.expired)])
    }

    @Test func `priority is a head start in the queue`() async throws {
        let holder = request("a")
        let plain = request("a")
        let urgent = request("a", priority: 50)
        _ = try await self.store.acquire(holder)
        _ = try await self.store.acquire(plain)
        #expect(try await self.store.acquire(urgent).place?.position == 0)
        #expect(try await self.store.acquire(plain).place?.position == 1)
    }

    @Test func `a lease ends by itself, and the lock delay holds the next one back`() async throws {
        let first = request("a", lease: .milliseconds(150), lockDelay: .seconds(5))
        _ = try await self.store.acquire(first)
        try await Task.sleep(for: .milliseconds(200))
        #expect(try await self.other.acquire(request("a", contention: .fail)).isBusy)
        #expect(try await self.other.status(of: "a").restingFor != nil)
        #expect(try await self.store.renew([Renewal(key: first.key, lease: .seconds(1))]) == [.lost(.expired)])
        try await eventually { try await self.other.acquire(request("a", contention: .fail)).token != nil }
    }

    @Test func `a wait limit ends a place in the queue`() async throws {
        _ = try await self.store.acquire(request("a"))
        let waiter = request("a", waitLimit: .milliseconds(50))
        _ = try await self.store.acquire(waiter)
        try await eventually { try await self.store.status(of: "a").waiters.isEmpty }
        #expect(try await self.store.withdraw(waiter.key) == .notFound)
    }

    @Test func `renewing many takes one call and keeps the order`() async throws {
        let held = (0..<300).map { request(Resource(escaping: "many/\($0)")) }
        for request in held { #expect(try await self.store.acquire(request).token != nil) }
        _ = try await self.other.revoke("many/7")
        let gone = request("many/none")
        let replies = try await self.store.renew((held + [gone]).map { Renewal(key: $0.key, lease: .seconds(5)) })
        #expect(replies.count == 301)
        #expect(replies[7] == .renewed(revokeRequested: true))
        #expect(replies.last == .lost(.expired))
        #expect(replies.filter { $0 == .renewed(revokeRequested: false) }.count == 299)
    }

    @Test func `revoke and forced release reach the holder in another process`() async throws {
        let inbox = Inbox(self.store)
        let holder = request("a", lockDelay: .seconds(1))
        _ = try await self.store.acquire(holder)
        let reply = try await self.other.revoke("a")
        #expect(reply.asked.count == 1)
        #expect(reply.reached == 1)
        #expect(await inbox.next { $0 == .revokeRequested(holder.id) } != nil)
        #expect(try await self.other.forceRelease("a").map(\.reference) == [holder.id.reference])
        #expect(await inbox.next { $0 == .lost(holder.id, .forced) } != nil)
        #expect(try await self.store.release(holder.key) == .alreadyLost)
        #expect(try await self.store.acquire(holder) == .finished)
        #expect(try await self.other.acquire(request("a", contention: .fail)).isBusy)
    }

    @Test func `a holder whose process does not listen is asked but not reached`() async throws {
        _ = try await self.store.acquire(request("a"))
        let reply = try await self.other.revoke("a")
        #expect(reply.asked.count == 1)
        #expect(reply.reached == 0)
    }

    @Test func `readers share, and a waiting writer stops new readers`() async throws {
        let first = request("a", mode: .shared)
        let writer = request("a")
        let late = request("a", mode: .shared)
        #expect(try await self.store.acquire(first).token != nil)
        #expect(try await self.other.acquire(request("a", mode: .shared)).token != nil)
        #expect(try await self.store.acquire(writer).place != nil)
        #expect(try await self.store.acquire(late).place?.position == 1)
        #expect(try await self.store.withdraw(writer.key) == .withdrawn)
        #expect(try await self.store.acquire(late).token != nil)
    }

    @Test func `a survey pages through all names in order`() async throws {
        for index in 0..<1005 { _ = try await self.store.acquire(request(Resource(escaping: "s/\(index)"))) }
        _ = try await self.store.acquire(request("t"))
        let first = try await self.other.survey("s/*", after: nil)
        #expect(first.resources.count == 1000)
        #expect(first.next != nil)
        let second = try await self.other.survey("s/*", after: first.next)
        #expect(second.resources.count == 5)
        #expect(second.next == nil)
        let names = (first.resources + second.resources).map(\.resource)
        #expect(names == names.sorted())
    }

    @Test func `what a store cannot do is said before anything is written`() async throws {
        await #expect(throws: LockError.self) { try await self.store.acquire(request("a", lease: .microseconds(1))) }
        #expect(try await self.store.status(of: "a").isFree)
    }

    @Test func `a hundred tasks over two store objects never hold one lock together`() async throws {
        let watchers = [self.store, self.other]
        let inside = Counter()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for index in 0..<100 {
                let store = watchers[index % 2]
                group.addTask {
                    var isDone = false
                    while !isDone {
                        let attempt = request("hot", contention: .fail)
                        guard try await store.acquire(attempt).token != nil else { continue }
                        inside.enter()
                        await Task.yield()
                        inside.leave()
                        #expect(try await store.release(attempt.key) == .released)
                        isDone = true
                    }
                }
            }
            try await group.waitForAll()
        }
        #expect(inside.most == 1)
        #expect(inside.total == 100)
    }

    @Test func `a cancelled caller still learns what became of its request`() async throws {
        let wanted = request("a")
        let store = self.store
        let task = Task { try await store.acquire(wanted) }
        task.cancel()
        #expect(try await task.value.token != nil)
    }

    @Test @MainActor func `a caller stays on its own actor`() async throws {
        let held = request("a")
        _ = try await self.store.acquire(held)
        MainActor.assertIsolated()
        _ = try await self.store.renew([Renewal(key: held.key, lease: .seconds(1))])
        MainActor.assertIsolated()
        #expect(try await self.store.release(held.key) == .released)
    }
}
