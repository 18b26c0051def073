// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import HoldfastRedis
import HoldfastTesting
import Testing

@Suite("RedisLockStore keeps the contract", .timeLimit(.minutes(5)))
struct RedisStoreContractTests {
    @Test(arguments: StoreContract.cases)
    func keeps(_ promise: StoreContract.Case) async throws {
        let url = try await SharedRedis.shared.url + "?timeout=10s"
        var generator = SystemRandomNumberGenerator()
        let prefix = "contract/\(generator.next() as UInt64)/"
        try await promise.check(
            StoreContract.Subject(namePrefix: prefix, shortLease: .seconds(3)) { try RedisLockStore(url: url) }
        )
    }

    @Test("Random commands get the replies of LockTable", arguments: 0..<10 as Range<UInt64>)
    func model(block: UInt64) async throws {
        let url = try await SharedRedis.shared.url + "?timeout=10s"
        let subject = StoreContract.Subject(namePrefix: "model/") { try RedisLockStore(url: url) }
        try await ModelRun(commands: 15).check(subject, seeds: block * 200..<(block + 1) * 200)
    }

    @Test("Random commands get the replies of LockTable while leases run out", arguments: 0..<8 as Range<UInt64>)
    func modelInTime(seed: UInt64) async throws {
        let url = try await SharedRedis.shared.url + "?timeout=10s"
        let subject = StoreContract.Subject(namePrefix: "timed/", shortLease: .seconds(4)) {
            try RedisLockStore(url: url)
        }
        try await ModelRun(commands: 30, passesTime: true).check(subject, seeds: seed..<seed + 1)
    }
}

@Suite("RedisQuorumLockStore keeps the contract", .timeLimit(.minutes(5)))
struct RedisQuorumStoreContractTests {
    @Test("On three servers", arguments: StoreContract.cases)
    func keeps(_ promise: StoreContract.Case) async throws {
        try await Self.check(promise, SharedRedisQuorum.three.configuration)
    }

    @Test("On five servers of which two are down", arguments: StoreContract.cases)
    func keepsWithoutTwo(_ promise: StoreContract.Case) async throws {
        try await Self.check(promise, SharedRedisQuorum.threeOfFive.configuration)
    }

    /// But for a second store that asks for the same grant: it may hear of a higher token from a server that answered the
    /// first too late to count.
    @Test(
        "With the restart guard on, as a majority answers",
        arguments: StoreContract.cases.filter { !$0.description.contains("sent twice is one hold") }
    )
    func keepsGuarded(_ promise: StoreContract.Case) async throws {
        var configuration = try await SharedRedisQuorum.old.configuration
        configuration.restartGuard = .seconds(600)
        configuration.waitsForAll = false
        try await Self.check(promise, configuration)
    }

    private static func check(_ promise: StoreContract.Case, _ configuration: RedisQuorumConfiguration) async throws {
        var generator = SystemRandomNumberGenerator()
        let prefix = "contract/\(generator.next() as UInt64)/"
        var subject = StoreContract.Subject(namePrefix: prefix, shortLease: .seconds(3)) {
            try RedisQuorumLockStore(configuration: configuration)
        }
        subject.agreesOnAges = false
        try await promise.check(subject)
    }

    @Test("Random commands get the replies of LockTable", arguments: 0..<10 as Range<UInt64>)
    func model(block: UInt64) async throws {
        let configuration = try await SharedRedisQuorum.three.configuration
        let subject = StoreContract.Subject(namePrefix: "model/") {
            try RedisQuorumLockStore(configuration: configuration)
        }
        try await ModelRun(commands: 15).check(subject, seeds: block * 200..<(block + 1) * 200)
    }

    @Test("Random commands get the replies of LockTable without two of five", arguments: 0..<3 as Range<UInt64>)
    func modelWithoutTwo(block: UInt64) async throws {
        let configuration = try await SharedRedisQuorum.threeOfFive.configuration
        let subject = StoreContract.Subject(namePrefix: "model/") {
            try RedisQuorumLockStore(configuration: configuration)
        }
        try await ModelRun(commands: 15).check(subject, seeds: block * 200..<(block + 1) * 200)
    }

    @Test("Random commands get the replies of LockTable while leases run out", arguments: 0..<6 as Range<UInt64>)
    func modelInTime(seed: UInt64) async throws {
        let configuration = try await SharedRedisQuorum.three.configuration
        let subject = StoreContract.Subject(namePrefix: "timed/", shortLease: .seconds(4)) {
            try RedisQuorumLockStore(configuration: configuration)
        }
        try await ModelRun(commands: 30, passesTime: true).check(subject, seeds: seed..<seed + 1)
    }
}

@Suite("RedisLockStore keeps the contract behind Sentinel", .timeLimit(.minutes(5)))
struct RedisSentinelStoreContractTests {
    @Test(arguments: StoreContract.cases)
    func keeps(_ promise: StoreContract.Case) async throws {
        let url = try await SharedSentinels.shared.url + "?timeout=10s"
        var generator = SystemRandomNumberGenerator()
        let prefix = "contract/\(generator.next() as UInt64)/"
        try await promise.check(
            StoreContract.Subject(namePrefix: prefix, shortLease: .seconds(3)) { try RedisLockStore(url: url) }
        )
    }

    @Test("Random commands get the replies of LockTable", arguments: 0..<5 as Range<UInt64>)
    func model(block: UInt64) async throws {
        let url = try await SharedSentinels.shared.url + "?timeout=10s"
        let subject = StoreContract.Subject(namePrefix: "model/") { try RedisLockStore(url: url) }
        try await ModelRun(commands: 15).check(subject, seeds: block * 200..<(block + 1) * 200)
    }
}

@Suite("RedisLockStore keeps the contract encrypted, as the user with the least permissions", .timeLimit(.minutes(5)))
struct RedisTLSStoreContractTests {
    @Test(arguments: StoreContract.cases)
    func keeps(_ promise: StoreContract.Case) async throws {
        let url = try await SharedTLSRedis.shared.url
        var generator = SystemRandomNumberGenerator()
        let prefix = "contract/\(generator.next() as UInt64)/"
        try await promise.check(
            StoreContract.Subject(namePrefix: prefix, shortLease: .seconds(3)) { try RedisLockStore(url: url) }
        )
    }

    @Test("Random commands get the replies of LockTable", arguments: 0..<5 as Range<UInt64>)
    func model(block: UInt64) async throws {
        let url = try await SharedTLSRedis.shared.url
        let subject = StoreContract.Subject(namePrefix: "model/") { try RedisLockStore(url: url) }
        try await ModelRun(commands: 15).check(subject, seeds: block * 200..<(block + 1) * 200)
    }
}

@Suite("RedisLockStore keeps the contract on a cluster", .timeLimit(.minutes(5)))
struct RedisClusterStoreContractTests {
    @Test(arguments: StoreContract.cases)
    func keeps(_ promise: StoreContract.Case) async throws {
        let url = try await SharedCluster.shared.url + "?timeout=10s"
        var generator = SystemRandomNumberGenerator()
        let prefix = "contract/\(generator.next() as UInt64)/"
        var subject = StoreContract.Subject(namePrefix: prefix, shortLease: .seconds(3)) {
            try RedisLockStore(url: url)
        }
        subject.agreesOnAges = false
        try await promise.check(subject)
    }

    @Test("Random commands get the replies of LockTable", arguments: 0..<10 as Range<UInt64>)
    func model(block: UInt64) async throws {
        let url = try await SharedCluster.shared.url + "?timeout=10s"
        let subject = StoreContract.Subject(namePrefix: "model/") { try RedisLockStore(url: url) }
        try await ModelRun(commands: 15).check(subject, seeds: block * 200..<(block + 1) * 200)
    }

    @Test("Random commands get the replies of LockTable while leases run out", arguments: 0..<4 as Range<UInt64>)
    func modelInTime(seed: UInt64) async throws {
        let url = try await SharedCluster.shared.url + "?timeout=10s"
        let subject = StoreContract.Subject(namePrefix: "timed/", shortLease: .seconds(4)) {
            try RedisLockStore(url: url)
        }
        try await ModelRun(commands: 30, passesTime: true).check(subject, seeds: seed..<seed + 1)
    }
}

/// A server that speaks TLS, with a user who may do no more than is needed.
actor SharedTLSRedis {
    static let shared = SharedTLSRedis()

    private var starting: Task<(server: RedisServer, certificates: TestCertificates, port: UInt16), any Error>?

    var url: String {
        get async throws {
            let task =
                self.starting
                ?? Task {
                    let certificates = try await TestCertificates()
                    let port = try RedisServer.freePort()
                    let server = try await RedisServer(arguments: certificates.redisArguments(port: port))
                    let rules = RedisPermissions.rules(prefix: "lk:")
                    try server.execute(["ACL", "SETUSER", "locks", "on", ">secret"] + rules)
                    return (server, certificates, port)
                }
            self.starting = task
            let (_, certificates, port) = try await task.value
            return "rediss://locks:secret@127.0.0.1:\(port)?prefix=lk:&timeout=10s&ca=\(certificates.path("ca.crt"))"
        }
    }
}

/// A cluster for all cases.
actor SharedCluster {
    static let shared = SharedCluster()

    private var starting: Task<RedisClusterServers, any Error>?

    var url: String {
        get async throws {
            let task = self.starting ?? Task { try await RedisClusterServers(nodeTimeout: .seconds(15)) }
            self.starting = task
            return try await task.value.url
        }
    }
}

/// One master with its replicas for all cases.
actor SharedSentinels {
    static let shared = SharedSentinels()

    private var starting: Task<RedisSentinelServers, any Error>?

    var url: String {
        get async throws {
            let task = self.starting ?? Task { try await RedisSentinelServers() }
            self.starting = task
            return try await task.value.url
        }
    }
}

/// Several servers for all cases: each has names of its own.
actor SharedRedisQuorum {
    static let three = SharedRedisQuorum(count: 3, down: 0)
    /// Who sees them for the first time believes that they have been up for an hour, since all their clocks say so.
    static let old = SharedRedisQuorum(count: 3, down: 0, isOld: true)
    static let threeOfFive = SharedRedisQuorum(count: 5, down: 2)

    private let count: Int
    private let down: Int
    private let isOld: Bool
    private var starting: Task<[RedisServer], any Error>?

    init(count: Int, down: Int, isOld: Bool = false) {
        self.count = count
        self.down = down
        self.isOld = isOld
    }

    /// Without a guard, since the servers have just started; and waiting for all, since the model is one place.
    var configuration: RedisQuorumConfiguration {
        get async throws {
            let task =
                self.starting
                ?? Task { [count, down, isOld] in
                    var servers: [RedisServer] = []
                    for _ in 0..<count { servers.append(try await RedisServer(hasOwnClock: isOld)) }
                    if isOld { for server in servers { try server.setClock(ahead: .seconds(3600)) } }
                    for server in servers.suffix(down) { server.kill() }
                    return servers
                }
            self.starting = task
            var configuration = RedisQuorumConfiguration(
                servers: try await task.value.map { server in
                    var configuration = RedisConfiguration(port: Int(server.port))
                    // All cases connect at the same moment.
                    configuration.timeout = .seconds(10)
                    return configuration
                }
            )
            configuration.restartGuard = nil
            configuration.waitsForAll = true
            return configuration
        }
    }
}

/// One server for all cases: each has names of its own.
actor SharedRedis {
    static let shared = SharedRedis()

    private var starting: Task<RedisServer, any Error>?

    var url: String {
        get async throws {
            let task = self.starting ?? Task { try await RedisServer() }
            self.starting = task
            return try await task.value.url
        }
    }
}
