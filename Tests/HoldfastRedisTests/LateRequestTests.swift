// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import HoldfastRedis
import HoldfastTesting
import Testing

/// Requests that arrive after their sender gave up: on one server, and on a majority of three.
@Suite("Requests that arrive late", .timeLimit(.minutes(5)))
struct LateRequestTests {
    /// A store whose connections are made and whose scripts are known, so that the next request is one script on each.
    private func warm(_ way: ProxiedServers) async throws -> any LockStore {
        let store = try way.store(timeout: .seconds(1))
        let request = Make.request("warm")
        try await eventually("no connections") {
            guard (try? await store.acquire(request).token) != nil else { return false }
            return try way.servers.allSatisfy { try $0.execute("EXISTS", "warm") == "1" }
        }
        #expect(try await store.release(request.key) == .released)
        return store
    }

    @Test(arguments: [1, 3], [LockRequest.Contention.fail, .queue])
    func `R17 a request that was withdrawn takes nothing when it arrives after that by an older connection`(
        count: Int,
        contention: LockRequest.Contention
    ) async throws {
        let way = try await ProxiedServers(count)
        let store = try await self.warm(way)
        for proxy in way.proxies { proxy.holdPresent() }
        let request = Make.request("x", lease: .seconds(40), contention: contention)
        let error = await #expect(throws: LockError.self) { try await store.acquire(request) }
        #expect(error?.code == .storeUnavailable)
        try await eventually("the withdrawal never arrives") {
            _ = try? await store.withdraw(request.key)
            return try way.servers.allSatisfy { try $0.execute("EXISTS", "hf:{x}:t:\(request.id.secret)") == "1" }
        }
        #expect(try way.lack("x") && way.lack("hf:{x}:q"))
        try await way.letArrive()
        #expect(try way.lack("x") && way.lack("hf:{x}:q"), "an orphan is left")
        let next = Make.request("x", contention: .fail)
        #expect(try await way.direct().acquire(next).token != nil)
    }

    @Test(arguments: [1, 3])
    func `a request that was tried again and released takes nothing when its first copy arrives, however late`(
        count: Int
    ) async throws {
        let way = try await ProxiedServers(count)
        let other = try way.direct()
        try await withLockService(store: try await self.warm(way)) { locks in
            for proxy in way.proxies { proxy.holdPresent() }
            try await locks.withLock("x", lease: .seconds(40), waitingAtMost: .seconds(10)) { _ in }
            // More than a record remembers of those that ended.
            for _ in 0..<40 {
                let request = Make.request("x")
                #expect(try await other.acquire(request).token != nil)
                #expect(try await other.release(request.key) == .released)
            }
            try await way.letArrive()
            #expect(try way.lack("x"), "an orphan is left")
        }
    }

    @Test
    func `a request whose sender is gone ends with its lease, and nobody renews it`() async throws {
        let way = try await ProxiedServers(1)
        let request = Make.request("x", lease: .seconds(2))
        do {
            let store = try await self.warm(way)
            way.proxies[0].holdPresent()
            await #expect(throws: LockError.self) { try await store.acquire(request) }
        }
        let asked = ContinuousClock.now
        let other = try way.direct()
        try await way.letArrive()
        #expect(try way.servers[0].execute("GET", "x") == request.id.secret)
        let waiter = Make.request("x")
        try await eventually("it is held for longer than its lease", within: .seconds(5)) {
            try await other.acquire(waiter).token != nil
        }
        #expect(asked.duration(to: .now) < .seconds(4))
    }

    @Test
    func `a change of mode that arrives after a later one changes nothing, so that no reader gets in beside a writer`()
        async throws
    {
        let way = try await ProxiedServers(1)
        let store = try await self.warm(way)
        let writer = Make.request("x", lease: .seconds(40))
        let first = try #require(await store.acquire(writer).token)
        way.proxies[0].holdPresent()
        await #expect(throws: LockError.self) { try await store.convert(Conversion(writer.key, to: .update)) }
        try await eventually("it cannot be changed again") {
            guard case .converted? = try? await store.convert(Conversion(writer.key, to: .update)) else { return false }
            return true
        }
        guard case .converted(let token) = try await store.convert(Conversion(writer.key, to: .exclusive)) else {
            Issue.record("the upgrade failed")
            return
        }
        #expect(token > first)
        try await way.letArrive()
        let other = try way.direct()
        let reader = Make.request("x", mode: .shared, contention: .fail)
        #expect(try await other.acquire(reader).token == nil, "a reader got in beside a writer")
        #expect(try await other.status(of: "x").holders.map(\.mode) == [.exclusive])
        // Another process that takes the grant up counts from the start, and is told.
        #expect(try await other.convert(Conversion(writer.key, to: .shared)) == .converted(token))
        #expect(try await other.acquire(reader).token != nil)
    }

    @Test
    func `a try that is given up late takes nothing from the next try, on one of several servers`() async throws {
        let server = try await RedisServer()
        let id = String(repeating: "a", count: 32)
        func ask(_ script: LockScript, _ more: String...) throws -> String {
            let parts = ["EVAL", script.source, "2", "x", "hf:{x}:h", id, "30000", "|30000|0||own", "q0|5000|0|bx:"]
            return try server.execute(parts + more)
        }
        #expect(try Int(ask(LockScripts.acquireOnNode, "0", "0", "1")) ?? 0 > 1)
        #expect(try ask(LockScripts.yield, "1") == "1")
        #expect(try server.execute("EXISTS", "x") == "0")
        #expect(try Int(ask(LockScripts.acquireOnNode, "0", "0", "2")) ?? 0 > 1)
        // A copy of what was sent for the first try.
        #expect(try ask(LockScripts.yield, "1") == "0")
        #expect(try server.execute("GET", "x") == id)
        #expect(try ask(LockScripts.yield, "2") == "1")
        #expect(try server.execute("EXISTS", "x") == "0")
    }
}
