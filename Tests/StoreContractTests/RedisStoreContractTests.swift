// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import HoldfastRedis
import HoldfastTesting
import Testing

@Suite("RedisLockStore keeps the contract", .timeLimit(.minutes(2)))
struct RedisStoreContractTests {
    @Test(arguments: StoreContract.cases)
    func keeps(_ promise: StoreContract.Case) async throws {
        let url = try await SharedRedis.shared.url
        var generator = SystemRandomNumberGenerator()
        let prefix = "contract/\(generator.next() as UInt64)/"
        try await promise.check(
            StoreContract.Subject(namePrefix: prefix, shortLease: .seconds(1)) { try RedisLockStore(url: url) }
        )
    }

    @Test("Random commands get the replies of LockTable", arguments: 0..<10 as Range<UInt64>)
    func model(block: UInt64) async throws {
        let url = try await SharedRedis.shared.url
        let subject = StoreContract.Subject(namePrefix: "model/") { try RedisLockStore(url: url) }
        try await ModelRun(commands: 15).check(subject, seeds: block * 200..<(block + 1) * 200)
    }

    @Test("Random commands get the replies of LockTable while leases run out", arguments: 0..<8 as Range<UInt64>)
    func modelInTime(seed: UInt64) async throws {
        let url = try await SharedRedis.shared.url
        let subject = StoreContract.Subject(namePrefix: "timed/", shortLease: .seconds(2)) {
            try RedisLockStore(url: url)
        }
        try await ModelRun(commands: 30, passesTime: true).check(subject, seeds: seed..<seed + 1)
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
