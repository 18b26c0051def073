// SPDX-License-Identifier: Apache-2.0

import Glibc
import Holdfast
import HoldfastCore
import HoldfastRedis
import HoldfastTesting
import Testing

/// A library that knows nothing but plain Redlock.
private enum Redlock: String, CaseIterable, Sendable {
    case pottery
    case redlockPy = "redlock-py"
    case redlockNG = "redlock-ng"

    private static let folder = #filePath.split(separator: "/").dropLast().reduce(into: "") { $0 += "/\($1)" }

    /// Two of them have the same name for Python.
    private var libraries: String {
        "\(Self.folder)/../../.build/partners\(self == .pottery ? "" : "/\(self.rawValue)")"
    }

    private var isInstalled: Bool {
        access("\(self.libraries)/\(self == .pottery ? "pottery" : "redlock")/__init__.py", R_OK) == 0
    }

    static var areInstalled: Bool { Self.allCases.allSatisfy(\.isInstalled) }

    /// What it puts before the name of a lock.
    var prefix: String { self == .pottery ? "redlock:" : "" }

    func start(_ servers: [RedisServer], _ name: String, rounds: Int) throws -> ChildProcess {
        let ports = servers.map { "\($0.port)" }.joined(separator: ",")
        let script = "\(Self.folder)/Partners/RedlockPartner.py"
        // Debian's own interpreter, which has Debian's redis-py.
        return try ChildProcess(
            "/usr/bin/env",
            ["PYTHONPATH=\(self.libraries)", "/usr/bin/python3", script, self.rawValue, ports, name, "\(rounds)"]
        )
    }
}

/// Real users of other libraries' Redlock on the same names as ours, on one server and on a majority of three.
@Suite(
    "Locks shared with plain Redlock libraries",
    .enabled(if: Redlock.areInstalled, "not all are in .build/partners; run `make partners` with a way to PyPI"),
    .timeLimit(.minutes(5))
)
struct PlainRedlockTests {
    private static let rounds = 60

    private func store(_ servers: [RedisServer], _ partner: Redlock) throws -> any LockStore {
        let prefix = partner.prefix.isEmpty ? "" : "prefix=\(partner.prefix)&"
        guard servers.count > 1 else { return try RedisLockStore(url: servers[0].url + "?\(prefix)timeout=1s") }
        let hosts = servers.map { "127.0.0.1:\($0.port)" }.joined(separator: ",")
        return try RedisQuorumLockStore(url: "redis://\(hosts)?\(prefix)guard=off")
    }

    @Test(arguments: Redlock.allCases, [1, 3])
    fileprivate func `contended turns, theirs and ours, and not one update is lost`(
        library: Redlock,
        count: Int
    ) async throws {
        var servers: [RedisServer] = []
        for _ in 0..<count { servers.append(try await RedisServer()) }
        let first = servers[0]
        let all = servers
        let partners = try (0..<2).map { _ in try library.start(all, "counter", rounds: Self.rounds) }
        // They have begun.
        try await eventually("the library fails", within: .seconds(30)) { try first.execute("GET", "value") != "(nil)" }
        let mixed = try await withThrowingTaskGroup(of: Int.self) { group in
            for _ in 0..<2 {
                let store = try self.store(servers, library)
                group.addTask {
                    try await withLockService(store: store) { locks in
                        var (mixed, last) = (0, 0)
                        for _ in 0..<Self.rounds {
                            let value = try await locks.withLock("counter", lease: .seconds(20)) { _ in
                                let value = Int(try first.execute("GET", "value")) ?? 0
                                try first.execute("SET", "value", "\(value + 1)")
                                return value + 1
                            }
                            if value > last + 1 { mixed += 1 }
                            last = value
                            // Whoever polls needs a moment in which the lock is free.
                            try await Task.sleep(for: .milliseconds(5))
                        }
                        return mixed
                    }
                }
            }
            return try await group.reduce(0, +)
        }
        try await eventually("the library does not end", within: .seconds(60)) { partners.allSatisfy(\.hasExited) }
        #expect(try first.execute("GET", "done") == "2", "a partner failed")
        #expect(try first.execute("GET", "value") == "\(4 * Self.rounds)")
        // A majority suffices for a release; the rest is under way. pottery does not wait for answers that come late, and
        // may leave a key of its own, which has dashes, on a minority.
        try await eventually("a key of ours is left") {
            try all.allSatisfy { server in
                let value = try server.execute("GET", "\(library.prefix)counter")
                return value == "(nil)" || (count == 3 && library == .pottery && value.contains("-"))
            }
        }
        #expect(mixed > 0, "all of one before all of the other")
    }

    @Test(arguments: Redlock.allCases)
    fileprivate func `who holds excludes the other, both ways, on a majority`(library: Redlock) async throws {
        var servers: [RedisServer] = []
        for _ in 0..<3 { servers.append(try await RedisServer()) }
        let store = try self.store(servers, library)
        let held = Make.request("counter", lease: .seconds(30))
        #expect(try await store.acquire(held).token != nil)
        func sets() throws -> Substring? {
            try servers[1].execute("INFO", "commandstats").split(whereSeparator: \.isNewline)
                .first { $0.hasPrefix("cmdstat_set:") }
        }
        let before = try sets()
        let partner = try library.start(servers, "counter", rounds: 1)
        // It asks, and does not get it.
        try await eventually("the library does not ask", within: .seconds(30)) {
            try sets() != before
        }
        try await Task.sleep(for: .milliseconds(300))
        #expect(try servers[0].execute("GET", "value") == "(nil)" && !partner.hasExited)
        #expect(try await store.release(held.key) == .released)
        try await eventually("the library does not get it", within: .seconds(30)) { partner.hasExited }
        #expect(try servers[0].execute("GET", "value") == "1")
        for server in servers.prefix(2) { try server.execute("SET", "\(library.prefix)counter", "theirs", "PX", "500") }
        #expect(try await store.acquire(Make.request("counter", contention: .fail)).isBusy)
        try await eventually("their lease does not end") {
            try await store.acquire(Make.request("counter", contention: .fail)).token != nil
        }
    }
}
