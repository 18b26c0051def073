// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import HoldfastRedis
import HoldfastTesting
import Testing

/// Ways to a server: encrypted, through a Unix socket, as a user who may do little.
@Suite("Transports", .timeLimit(.minutes(5)))
struct TransportTests {
    private func refusal(_ url: String) async throws -> LockError? {
        let store = try RedisLockStore(url: url)
        return await #expect(throws: LockError.self) { try await store.acquire(Make.request("x")) }
    }

    private func works(_ store: any LockStore) async throws {
        let request = Make.request("x")
        #expect(try await store.acquire(request).token != nil)
        let waiter = Make.request("x", acceptance: .seconds(30))
        #expect(try await store.acquire(waiter).place != nil)
        #expect(try await store.release(request.key) == .released)
        #expect(try await store.acquire(waiter).token != nil)
        #expect(try await store.release(waiter.key) == .released)
    }

    // MARK: - TLS

    @Test
    func `TLS checks the authority and the name, by host and by address`() async throws {
        let certificates = try await TestCertificates()
        let port = try RedisServer.freePort()
        let server = try await RedisServer(arguments: certificates.redisArguments(port: port))
        let ca = certificates.path("ca.crt")
        for host in ["127.0.0.1", "localhost"] {
            try await self.works(try RedisLockStore(url: "rediss://\(host):\(port)?ca=\(ca)&timeout=5s"))
        }
        let other = certificates.path("other-ca.crt")
        let stranger = try await self.refusal("rediss://127.0.0.1:\(port)?ca=\(other)")
        #expect(stranger?.code == .storeRefused && stranger?.message.contains("ca=FILE") == true)
        let system = try await self.refusal("rediss://127.0.0.1:\(port)")
        #expect(system?.code == .storeRefused)
        // Only by explicit word.
        try await self.works(try RedisLockStore(url: "rediss://127.0.0.1:\(port)?verify=none&timeout=5s"))
        // Never in the clear when encryption was asked for, nor the other way round.
        let clear = try await self.refusal("rediss://127.0.0.1:\(server.port)?ca=\(ca)")
        #expect(clear?.code == .storeRefused || clear?.code == .storeUnavailable)
        let encrypted = try await self.refusal("redis://127.0.0.1:\(port)")
        #expect(encrypted?.code == .storeUnavailable)
    }

    @Test
    func `a certificate for another name is refused, unless that name is asked for`() async throws {
        let certificates = try await TestCertificates(names: "DNS:redis.internal")
        let port = try RedisServer.freePort()
        let server = try await RedisServer(arguments: certificates.redisArguments(port: port))
        let url = "rediss://127.0.0.1:\(port)?timeout=5s&ca=\(certificates.path("ca.crt"))"
        for settings in ["", "&sni=example.org"] {
            let name = try await self.refusal(url + settings)
            #expect(name?.code == .storeRefused && name?.message.contains("sni=NAME") == true, "\(name?.message ?? "")")
        }
        try await self.works(try RedisLockStore(url: "\(url)&sni=redis.internal"))
        #expect(server.pid != nil)
    }

    @Test
    func `a server may ask for a certificate of ours`() async throws {
        let certificates = try await TestCertificates()
        let port = try RedisServer.freePort()
        let arguments = certificates.redisArguments(port: port, asksClients: true)
        let server = try await RedisServer(arguments: arguments)
        let url = "rediss://127.0.0.1:\(port)?timeout=5s&ca=\(certificates.path("ca.crt"))"
        let anonymous = try await self.refusal(url)
        #expect(anonymous?.code == .storeRefused || anonymous?.code == .storeUnavailable)
        let (cert, key) = (certificates.path("client.crt"), certificates.path("client.key"))
        try await self.works(try RedisLockStore(url: "\(url)&cert=\(cert)&key=\(key)"))
        #expect(server.pid != nil)
    }

    @Test
    func `files that are missing or no certificates are named before anything is sent`() throws {
        for setting in ["ca=/nowhere.crt", "cert=/nowhere.crt", "ca=/etc/hostname"] {
            let error = #expect(throws: LockError.self) { try RedisLockStore(url: "rediss://127.0.0.1:1?\(setting)") }
            #expect(error?.code == .invalidArgument)
            let file = setting.drop { $0 != "/" }
            #expect(error?.message.contains(file) == true)
        }
    }

    @Test(arguments: [
        "redis://h?ca=/x", "redis://h?verify=none", "rediss://h?verify=maybe", "rediss://h?key=/x", "rediss://h?ca=",
        "redis+unix://h/x", "redis+unix:relative", "redis+unix:///\(String(repeating: "x", count: 120))",
    ])
    func `what makes no sense is refused`(url: String) {
        let error = #expect(throws: LockError.self) { try RedisConfiguration(url: url) }
        #expect(error?.code == .invalidArgument)
    }

    // MARK: - Unix sockets

    @Test
    func `a Unix socket is a way to a server`() async throws {
        let server = try await RedisServer(arguments: ["--unixsocket", "redis.sock"])
        let url = "redis+unix://\(server.directory)/redis.sock?db=2"
        let configuration = try RedisConfiguration(url: url)
        #expect(configuration.database == 2)
        #expect(configuration.description == "redis+unix://\(server.directory)/redis.sock")
        try await self.works(try RedisLockStore(configuration: configuration))
        server.kill()
        let gone = try await self.refusal(url)
        #expect(gone?.code == .storeUnavailable && gone?.message.contains("redis.sock") == true)
    }

    // MARK: - Permissions

    private static let password = "canary-password"

    private func server(_ rules: [String]) async throws -> RedisServer {
        let server = try await RedisServer()
        let reply = try server.execute(["ACL", "SETUSER", "locks", "on", ">\(Self.password)"] + rules)
        #expect(reply == "OK", "\(rules)")
        return server
    }

    private func url(_ server: RedisServer, _ settings: String) -> String {
        "redis://locks:\(Self.password)@127.0.0.1:\(server.port)?\(settings)"
    }

    @Test(arguments: ["lk:", "", "odd*[x]:"])
    func `the least permissions suffice for all that a store does, and nothing else is asked for`(
        prefix: String
    ) async throws {
        let server = try await self.server(RedisPermissions.rules(prefix: prefix))
        try server.execute("ACL", "LOG", "RESET")
        let escaped = prefix.map { $0.isLetter ? "\($0)" : "%\(String($0.asciiValue ?? 0, radix: 16))" }.joined()
        let url = self.url(server, "prefix=\(escaped)&timeout=10s")
        // Those that let time pass need no command that others do not.
        let cases = StoreContract.cases.filter { prefix == "lk:" || !$0.description.contains("lease") }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for (number, promise) in cases.enumerated() {
                if number >= 8 { try await group.next() }
                group.addTask {
                    let subject = StoreContract.Subject(namePrefix: "\(number)/", shortLease: .seconds(5)) {
                        try RedisLockStore(url: url)
                    }
                    try await promise.check(subject)
                }
            }
            try await group.waitForAll()
        }
        #expect(try server.execute("ACL", "LOG") == "", "something was refused")
        // What is not ours stays out of reach.
        if !prefix.isEmpty {
            let reply = try server.execute("ACL", "DRYRUN", "locks", "GET", "other")
            #expect(reply != "OK")
        }
    }

    @Test
    func `whatever a script calls is among the least permissions`() {
        let rules = Set(RedisPermissions.rules(prefix: ""))
        let scripts = [
            LockScripts.acquire, LockScripts.acquireOnNode, LockScripts.release, LockScripts.handOver,
            LockScripts.withdraw, LockScripts.renew, LockScripts.convert, LockScripts.revoke, LockScripts.force,
            LockScripts.status, LockScripts.waits, LockScripts.yield, LockScripts.lift,
        ]
        for script in scripts {
            let calls = script.source.split(separator: "call('").dropFirst().map { $0.prefix { $0 != "'" } }
            #expect(!calls.isEmpty)
            // Only a cluster's channels end in a way that makes it called.
            for call in Set(calls) where call != "SPUBLISH" { #expect(rules.contains("+\(call.lowercased())")) }
        }
    }

    @Test(arguments: [0, 2])
    func `the least permissions suffice for a service whose tasks contend, and for many locks at once`(
        database: Int
    ) async throws {
        let server = try await self.server(RedisPermissions.rules(prefix: "lk:", database: database))
        try server.execute("ACL", "LOG", "RESET")
        let store = try RedisLockStore(url: self.url(server, "prefix=lk:&timeout=5s&db=\(database)"))
        try await withLockService(store: store) { locks in
            try await withThrowingTaskGroup(of: Void.self) { group in
                for task in 0..<6 {
                    group.addTask { for _ in 0..<20 { try await locks.withLock("contended") { _ in } } }
                    group.addTask {
                        try await withThrowingTaskGroup(of: Void.self) { group in
                            for number in 0..<32 {
                                let name = try Resource("own\(task)-\(number)")
                                group.addTask { for _ in 0..<5 { try await locks.withLock(name) { _ in } } }
                            }
                            try await group.waitForAll()
                        }
                    }
                }
                try await group.waitForAll()
            }
        }
        #expect(try server.execute("ACL", "LOG") == "", "something was refused")
    }

    @Test(arguments: [
        ("+evalsha", "-evalsha", "+evalsha"), ("~lk:*", "resetkeys", "~NAME"), ("&hf:c:*", "-client|setname", ""),
    ])
    func `a permission that lacks is named`(usual: String, rule: String, advice: String) async throws {
        let server = try await self.server(RedisPermissions.rules(prefix: "lk:") + [rule])
        let store = try RedisLockStore(url: self.url(server, "prefix=lk:"))
        if advice.isEmpty {
            // A name is a courtesy.
            #expect(try await store.acquire(Make.request("x")).token != nil)
            return
        }
        let error = await #expect(throws: LockError.self) { try await store.acquire(Make.request("x")) }
        #expect(error?.code == .storeRefused)
        #expect(error?.message.contains(advice) == true, "\(error?.message ?? "")")
        #expect(error?.message.contains(Self.password) == false)
    }

    @Test
    func `a wrong password is asked once a second, not in a storm`() async throws {
        let server = try await self.server(RedisPermissions.rules(prefix: ""))
        try server.execute("ACL", "LOG", "RESET")
        let store = try RedisLockStore(url: "redis://locks:wrong@127.0.0.1:\(server.port)")
        let end = ContinuousClock.now.advanced(by: .milliseconds(2500))
        while ContinuousClock.now < end {
            await #expect(throws: LockError.self) { try await store.acquire(Make.request("x", contention: .fail)) }
            try await Task.sleep(for: .milliseconds(10))
        }
        // Each connection that was refused is counted in one entry: the same reason within a minute.
        let log = try server.execute("ACL", "LOG").split(separator: "\n")
        #expect(log.contains("auth"))
        let counts = zip(log, log.dropFirst()).filter { $0.0 == "count" }.compactMap { Int($0.1) }
        #expect((2...4).contains(counts.reduce(0, +)), "\(counts)")
    }
}
