// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import HoldfastTesting
import HoldfastZooKeeper
import Testing

@Suite("ZooKeeperLockStore keeps the contract", .timeLimit(.minutes(5)))
struct ZooKeeperStoreContractTests {
    @Test("Between two sessions", arguments: StoreContract.cases)
    func keeps(_ promise: StoreContract.Case) async throws {
        try await Self.check(promise, "?release=confirmed&sharing=no")
    }

    @Test("Between two stores of one session, with releases in the background", arguments: StoreContract.cases)
    func keepsInOneSession(_ promise: StoreContract.Case) async throws {
        try await Self.check(promise, "")
    }

    @Test("In the layouts of other clients", arguments: ["kazoo", "curator-rw"], StoreContract.cases)
    func keepsInLayout(_ layout: String, _ promise: StoreContract.Case) async throws {
        try await Self.check(promise, "?release=confirmed&sharing=no&layout=\(layout)")
    }

    private static func check(_ promise: StoreContract.Case, _ settings: String) async throws {
        let url = try await SharedZooKeeper.shared.url
        var generator = SystemRandomNumberGenerator()
        let prefix = "contract/\(generator.next() as UInt64)/"
        try await promise.check(
            StoreContract.Subject(namePrefix: prefix, shortLease: .seconds(3)) {
                try ZooKeeperLockStore(url: url + settings)
            }
        )
    }

    @Test("Random commands get the replies of LockTable", arguments: 0..<10 as Range<UInt64>)
    func model(block: UInt64) async throws {
        let url = try await SharedZooKeeper.shared.url + "?release=confirmed"
        let subject = StoreContract.Subject(namePrefix: "model/") { try ZooKeeperLockStore(url: url) }
        try await ModelRun(commands: 15).check(subject, seeds: block * 200..<(block + 1) * 200)
    }

    @Test("Random commands get the replies of LockTable while leases run out", arguments: 0..<8 as Range<UInt64>)
    func modelInTime(seed: UInt64) async throws {
        let url = try await SharedZooKeeper.shared.url + "?release=confirmed"
        let subject = StoreContract.Subject(namePrefix: "timed/", shortLease: .seconds(4)) {
            try ZooKeeperLockStore(url: url)
        }
        try await ModelRun(commands: 30, passesTime: true).check(subject, seeds: seed..<seed + 1)
    }
}

/// One server for all cases: each has names of its own.
actor SharedZooKeeper {
    static let shared = SharedZooKeeper()

    private var starting: Task<ZooKeeperServer, any Error>?

    var url: String {
        get async throws {
            let task = self.starting ?? Task { try await ZooKeeperServer() }
            self.starting = task
            return try await task.value.url + "/locks"
        }
    }
}
