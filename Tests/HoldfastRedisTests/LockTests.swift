// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import HoldfastRedis
import HoldfastTesting
import Testing

@Suite(.timeLimit(.minutes(5)))
struct LockTests {
    @Test
    func `a lock is the plain Redlock key, held once, and its token grows`() async throws {
        let server = try await RedisServer()
        let store = try RedisLockStore(url: server.calm)
        let first = Make.request("x")
        let token = try #require(try await store.acquire(first).token)
        #expect(try server.execute("GET", "x") == first.id.secret)
        #expect(try #require(Int(server.execute("PTTL", "x"))) > 5000)
        let other = Make.request("x", contention: .fail)
        #expect(try await store.acquire(other).isBusy)
        #expect(try await store.release(first.key) == .released)
        #expect(try server.execute("EXISTS", "x") == "0")
        #expect(try await store.release(first.key) == .alreadyLost)
        let later = try #require(try await store.acquire(Make.request("x")).token)
        #expect(later > token)
    }

    @Test
    func `one lock that became something else does not stop the renewal of others`() async throws {
        let server = try await RedisServer()
        let store = try RedisLockStore(url: server.calm)
        let requests = ["a", "b", "c"].map { Make.request($0) }
        for request in requests { #expect(try await store.acquire(request).token != nil) }
        try server.execute("DEL", "b")
        try server.execute("HSET", "b", "field", "1")
        let replies = try await store.renew(requests.map { Renewal(key: $0.key, lease: .seconds(30)) })
        #expect(replies == [.renewed(revokeRequested: false), .lost(.expired), .renewed(revokeRequested: false)])
        #expect(try #require(Int(server.execute("PTTL", "c"))) > 20_000)
    }

    @Test
    func `a record that became something else stops neither the renewal nor the listing of others`() async throws {
        let server = try await RedisServer()
        let store = try RedisLockStore(url: server.calm)
        let requests = [Make.request("a"), Make.request("b", mode: .shared), Make.request("c"), Make.request("d")]
        for request in requests { #expect(try await store.acquire(request).token != nil) }
        let waiter = Make.request("d", holding: ["00000000"])
        #expect(try await store.acquire(waiter).place != nil)
        _ = try await store.waits(of: waiter.owner, for: "a")
        for name in ["a", "b"] {
            try server.execute("DEL", "hf:{\(name)}:h")
            try server.execute("LPUSH", "hf:{\(name)}:h", "x")
        }
        // Who is the key's holder by its value goes on being that; of several beside each other nobody can say.
        let replies = try await store.renew(requests.map { Renewal(key: $0.key, lease: .seconds(30)) })
        let renewed = RenewReply.renewed(revokeRequested: false)
        #expect(replies == [renewed, .unknown, renewed, renewed])
        #expect(try #require(Int(server.execute("PTTL", "a"))) > 20_000)
        let page = try await store.survey(ResourcePattern("*"), after: nil)
        #expect(Set(page.resources.map(\.resource)) == ["a", "b", "c", "d"])
        #expect(page.resources.first { $0.resource == "c" }?.holders.first?.reference == requests[2].id.reference)
        #expect(try await store.waits(of: waiter.owner, for: "d").map(\.resource) == ["d"])
        try server.execute("DEL", "a")
        #expect(try await store.renew([Renewal(key: requests[0].key, lease: .seconds(30))]) == [.lost(.expired)])
    }

    @Test
    func `what an owner waited for is not remembered for long`() async throws {
        let server = try await RedisServer()
        let store = try RedisLockStore(url: server.calm)
        #expect(try await store.acquire(Make.request("x")).token != nil)
        let waiter = Make.request("x", holding: ["00000000"])
        #expect(try await store.acquire(waiter).place != nil)
        #expect(try await store.waits(of: waiter.owner, for: "x").count == 1)
        let life = try #require(Int(server.execute("PTTL", "hf:o:{\(waiter.owner.id)}")))
        #expect(life > 60_000 && life <= 600_000)
    }

    @Test
    func `a server without memory lets holders keep locks and give them back`() async throws {
        let server = try await RedisServer()
        let store = try RedisLockStore(url: server.calm)
        let requests = [Make.request("a", mode: .shared), Make.request("b"), Make.request("c")]
        for request in requests { #expect(try await store.acquire(request).token != nil) }
        try server.execute("CONFIG", "SET", "maxmemory", "1")
        let replies = try await store.renew(requests.map { Renewal(key: $0.key, lease: .seconds(30)) })
        #expect(replies == Array(repeating: .renewed(revokeRequested: false), count: 3))
        #expect(try await store.withdraw(requests[1].key) == .released)
        #expect(try await store.release(requests[2].key) == .released)
        #expect(try await store.release(requests[0].key) == .released)
    }

    @Test
    func `a record is kept until its token's time has come, however far ahead a clock was`() async throws {
        let server = try await RedisServer()
        let store = try RedisLockStore(url: server.calm)
        let day: Int64 = 86_400_000
        let ahead =
            Int64(try #require(try server.execute("TIME").split(separator: "\n").first))! * 1_000_000
            + 3 * day * 1000
        // As a store would leave it whose clock was three days ahead.
        try server.execute("SET", "hf:{x}:h", "F" + String(ahead) + String(repeating: "-", count: 32) + ".|")
        let request = Make.request("x")
        let token = try #require(try await store.acquire(request).token)
        #expect(token.rawValue > UInt64(ahead))
        #expect(try #require(Int64(server.execute("PTTL", "hf:{x}:h"))) > 4 * day)
        _ = try await store.renew([Renewal(key: request.key, lease: .seconds(30))])
        #expect(try #require(Int64(server.execute("PTTL", "hf:{x}:h"))) > 4 * day)
        #expect(try await store.release(request.key) == .released)
        #expect(try #require(Int64(server.execute("PTTL", "hf:{x}:h"))) > 4 * day)
    }

    @Test
    func `the same request sent again renews its grant, and after its end it is finished`() async throws {
        let server = try await RedisServer()
        let store = try RedisLockStore(url: server.calm)
        let request = Make.request("x")
        let token = try await store.acquire(request).token
        #expect(token != nil)
        #expect(try await store.acquire(request).token == token)
        #expect(try await store.release(request.key) == .released)
        #expect(try await store.acquire(request) == .finished)
        #expect(try server.execute("EXISTS", "x") == "0")

        let withdrawn = Make.request("x")
        #expect(try await store.withdraw(withdrawn.key) == .notFound)
        #expect(try await store.acquire(withdrawn) == .finished)
    }

    @Test
    func `a release hands the lock to the next waiter in order of arrival and priority`() async throws {
        let server = try await RedisServer()
        let store = try RedisLockStore(url: server.calm)
        let signals = Signals(of: store)
        let holder = Make.request("x", lease: .seconds(60), label: "the holder")
        let second = Make.request("x")
        let third = Make.request("x", acceptance: .seconds(9), priority: 1)
        #expect(try await store.acquire(holder).token != nil)
        let place = try #require(try await store.acquire(second).place)
        #expect(place.position == 0)
        #expect(place.blockers.first?.owner?.label == "the holder")
        #expect(place.blockers.first?.reference == holder.id.reference)
        #expect(place.checkAfter > .seconds(50))
        #expect(try await store.acquire(third).place?.position == 0)
        #expect(try await store.acquire(second).place?.position == 1)

        #expect(try await store.release(holder.key) == .released)
        #expect(await signals.first { $0 == .granted(third.id) } != nil)
        #expect(await signals.first { $0 == .check(second.id, after: .seconds(9)) } != nil)
        #expect(try server.execute("GET", "x") == third.id.secret)
        #expect(try await store.status(of: "x").holders.first?.isAccepting == true)
        #expect(try await store.acquire(third).token != nil)
        #expect(try await store.status(of: "x").holders.first?.isAccepting == false)
        #expect(try await store.withdraw(third.key) == .released)
        #expect(await signals.first { $0 == .granted(second.id) } != nil)
    }

    @Test
    func `a dead waiter costs nothing when its channel is gone`() async throws {
        let server = try await RedisServer()
        let store = try RedisLockStore(url: server.calm)
        let signals = Signals(of: store)
        let holder = Make.request("x")
        #expect(try await store.acquire(holder).token != nil)
        do {
            let doomed = try RedisLockStore(url: server.calm)
            #expect(try await doomed.acquire(Make.request("x")).place?.position == 0)
        }
        let alive = Make.request("x")
        #expect(try await store.acquire(alive).place?.position == 1)
        while try server.execute("PUBSUB", "CHANNELS", "hf:c:*").split(separator: "\n").count > 1 {
            try await Task.sleep(for: .milliseconds(1))
        }
        #expect(try await store.release(holder.key) == .released)
        #expect(await signals.first { $0 == .granted(alive.id) } != nil)
    }

    @Test
    func `a waiter that does not accept loses the lock to the next, without a rest`() async throws {
        let server = try await RedisServer()
        let store = try RedisLockStore(url: server.calm)
        let signals = Signals(of: store)
        let holder = Make.request("x")
        let silent = Make.request("x", lockDelay: .seconds(30))
        let next = Make.request("x")
        #expect(try await store.acquire(holder).token != nil)
        #expect(try await store.acquire(silent).place != nil)
        #expect(try await store.acquire(next).place != nil)
        #expect(try await store.release(holder.key) == .released)
        #expect(await signals.first { $0 == .granted(silent.id) } != nil)
        try await Task.sleep(for: .milliseconds(310))
        #expect(try await store.acquire(next).token != nil)
    }

    @Test
    func `a hold that ends without a release lets the resource rest for its lock delay`() async throws {
        let server = try await RedisServer()
        let store = try RedisLockStore(url: server.calm)
        let holder = Make.request("x", lease: .milliseconds(100), lockDelay: .seconds(6))
        #expect(try await store.acquire(holder).token != nil)
        try await Task.sleep(for: .milliseconds(150))
        #expect(try await store.status(of: "x").restingFor != nil)
        let place = try #require(try await store.acquire(Make.request("x")).place)
        #expect(place.blockers.isEmpty)
        #expect(place.checkAfter > .milliseconds(100) && place.checkAfter < .seconds(6))
        #expect(try await store.renew([Renewal(key: holder.key, lease: .seconds(1))]) == [.lost(.expired)])
        try await Task.sleep(for: place.checkAfter)
        #expect(try await store.acquire(Make.request("x", contention: .fail)).isBusy)
    }

    @Test
    func `renewals of many locks are one command, and say what is lost and what was asked back`() async throws {
        let server = try await RedisServer()
        let store = try RedisLockStore(url: server.calm)
        let signals = Signals(of: store)
        let requests = try (0..<1000).map { Make.request(try Resource("r\($0)"), lease: .seconds(30)) }
        for request in requests { #expect(try await store.acquire(request).token != nil) }
        // Makes the store listen.
        #expect(try await store.acquire(Make.request("r0")).place != nil)
        try server.execute("DEL", "r7")
        let asked = try await store.revoke("r9")
        #expect(asked.reached == 1)
        #expect(asked.asked.first?.reference == requests[9].id.reference)
        #expect(await signals.first { $0 == .revokeRequested(requests[9].id) } != nil)
        // The server knows the script.
        _ = try await store.renew([Renewal(key: requests[0].key, lease: .seconds(5))])
        try server.execute("CONFIG", "RESETSTAT")
        let replies = try await store.renew(requests.map { Renewal(key: $0.key, lease: .seconds(60)) })
        let scripts = try server.execute("INFO", "commandstats").split(whereSeparator: \.isNewline)
            .filter { $0.hasPrefix("cmdstat_eval") }
        #expect(scripts.count == 1 && scripts[0].hasPrefix("cmdstat_evalsha:calls=1,"), "\(scripts)")
        #expect(replies[7] == .lost(.expired))
        #expect(replies[9] == .renewed(revokeRequested: true))
        #expect(replies.filter { $0 == .renewed(revokeRequested: false) }.count == 998)
        #expect(try #require(Int(server.execute("PTTL", "r3"))) > 50_000)
    }

    @Test
    func `force takes the lock from its holder, tells it, and hands it on`() async throws {
        let server = try await RedisServer()
        let store = try RedisLockStore(url: server.calm)
        let signals = Signals(of: store)
        let holder = Make.request("x")
        let next = Make.request("x", acceptance: .seconds(30))
        let token = try #require(try await store.acquire(holder).token)
        #expect(try await store.acquire(next).place != nil)
        #expect(try await store.forceRelease("x").first?.fencingToken == token)
        #expect(await signals.first { $0 == .lost(holder.id, .forced) } != nil)
        #expect(await signals.first { $0 == .granted(next.id) } != nil)
        #expect(try #require(try await store.acquire(next).token) > token)
        #expect(try await store.acquire(holder) == .finished)
    }

    @Test
    func `a survey lists what is held or waited for, and nothing else`() async throws {
        let server = try await RedisServer()
        let store = try RedisLockStore(url: server.url + "/3?prefix=p%5B:")
        for index in 0..<50 {
            let request = Make.request(try Resource("job/\(index)"))
            #expect(try await store.acquire(request).token != nil)
            if index % 2 == 1 { #expect(try await store.release(request.key) == .released) }
        }
        let waiter = Make.request("job/0", label: "waits")
        #expect(try await store.acquire(waiter).place != nil)
        for index in 0..<3000 { try server.execute("SET", "other\(index)", "1") }
        var found: [Resource: ResourceStatus] = [:]
        var cursor: SurveyPage.Cursor?
        repeat {
            let page = try await store.survey("job/*", after: cursor)
            for status in page.resources { found[status.resource] = status }
            cursor = page.next
        } while cursor != nil
        #expect(found.count == 25)
        #expect(found["job/0"]?.waiters.first?.owner?.label == "waits")
        #expect(try await store.survey("nothing", after: nil).resources.isEmpty)
    }
}
