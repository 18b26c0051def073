// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import HoldfastSQLite
import HoldfastTesting
import Testing

@Suite("SQLiteLockStore keeps the contract", .timeLimit(.minutes(5)))
struct SQLiteStoreContractTests {
    @Test(arguments: StoreContract.cases)
    func keeps(_ promise: StoreContract.Case) async throws {
        try await Self.withFile { path in
            try await promise.check(
                StoreContract.Subject(namePrefix: "contract/", shortLease: .seconds(3)) { SQLiteLockStore(path: path) }
            )
        }
    }

    @Test("Random commands get the replies of LockTable", arguments: 0..<10 as Range<UInt64>)
    func model(block: UInt64) async throws {
        try await Self.withFile { path in
            let subject = StoreContract.Subject(namePrefix: "model/") { SQLiteLockStore(path: path) }
            try await ModelRun(commands: 15).check(subject, seeds: block * 200..<(block + 1) * 200)
        }
    }

    @Test("Random commands get the replies of LockTable while leases run out", arguments: 0..<8 as Range<UInt64>)
    func modelInTime(seed: UInt64) async throws {
        try await Self.withFile { path in
            let subject = StoreContract.Subject(namePrefix: "timed/", shortLease: .seconds(4)) {
                SQLiteLockStore(path: path)
            }
            try await ModelRun(commands: 30, passesTime: true).check(subject, seeds: seed..<seed + 1)
        }
    }

    private static func withFile(_ body: (String) async throws -> Void) async throws {
        let directory = try TemporaryDirectory.make(prefix: "holdfast-contract-")
        defer { TemporaryDirectory.remove(directory) }
        try await body("\(directory)/locks.db")
    }
}
