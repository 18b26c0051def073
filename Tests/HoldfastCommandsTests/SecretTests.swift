// SPDX-License-Identifier: Apache-2.0

import Glibc
import HoldfastCommands
import HoldfastTesting
import Testing

/// Row S2 of the fault matrix: no secret in any output.
@Suite(.timeLimit(.minutes(5)))
struct SecretTests {
    private static let canary = "canary-7f3a"

    @Test
    func `no command shows the password of the store or the id of a grant`() async throws {
        let server = try await RedisServer(arguments: ["--requirepass", Self.canary])
        let directory = try TestDirectory()
        let address = server.url.dropFirst("redis://".count)
        let right = "redis://:\(Self.canary)@\(address)/0"
        let wrong = "redis://\(Self.canary):\(Self.canary)x@\(address)/0"
        let dead = "redis://:\(Self.canary)@127.0.0.1:1/0"

        let grant = try await HoldfastProcess.run(
            ["acquire", "held"],
            in: directory,
            variables: ["HOLDFAST_STORE": right]
        )
        #expect(grant.status == 0, "\(grant.errors)")
        let id = try #require(grant.output.firstMatch(of: /"id":"([0-9a-f]{32})"/)).output.1

        let nobody = "127.0.0.1:1"
        let stores = [
            right, wrong, dead, "nosuch://:\(Self.canary)@h", "redis://:\(Self.canary)@a,b", "redis://:\(Self.canary)@",
        ]
        // Other kinds of servers, none of which is there.
        let others = [
            "rediss://:\(Self.canary)@\(nobody)/0", "redis+cluster://\(Self.canary):\(Self.canary)@\(nobody)",
            "redis://:\(Self.canary)@\(nobody),127.0.0.1:2,127.0.0.1:3",
            "redis+sentinel://:\(Self.canary)@\(nobody)/name", "zookeepers://u:\(Self.canary)@\(nobody)",
            "zookeeper://\(Self.canary):\(Self.canary)@\(nobody)/x",
            "zookeeper://u:\(Self.canary)@\(nobody)/x?layout=none",
        ]
        let commands = [
            ["ls"], ["ls", "--format", "json"], ["show", "held"], ["show", "held", "--format", "json"], ["doctor"],
            ["doctor", "--format", "jsonl"], ["run", "--wait", "0", "held", "--", "true"], ["run", "x", "--", "true"],
            ["revoke", "held"], ["bench", "--workload", "seq1", "--seconds", "0.05"], ["renew"],
        ]
        let few = [["ls"], ["doctor", "--format", "json"], ["run", "x", "--", "true"]]
        // Mostly waiting for a server that does not answer: all stores at once.
        try await withThrowingTaskGroup(of: Void.self) { group in
            for (store, commands) in stores.map({ ($0, commands) }) + others.map({ ($0, few) }) {
                group.addTask {
                    for arguments in commands {
                        let variables = ["HOLDFAST_STORE": store, "HOLDFAST_GRANT": grant.output]
                        let result = try await HoldfastProcess.run(arguments, in: directory, variables: variables)
                        for text in [result.output, result.errors] {
                            #expect(!text.contains(Self.canary), "\(arguments) on \(store.prefix(8))")
                            #expect(!text.contains(id), "\(arguments)")
                        }
                    }
                }
            }
            try await group.waitForAll()
        }
    }

    @Test
    func `the store may be named in a file, but not in one that others can read`() async throws {
        let directory = try TestDirectory()
        let file = "\(directory.path)/store"
        try SecretFile.write("  sqlite:\(directory.path)/other.db \nmore\n", to: file)
        let result = try await HoldfastProcess.run(["run", "--store-file", file, "x", "--", "true"], in: directory)
        #expect(result.status == 0, "\(result.errors)")
        #expect(access("\(directory.path)/other.db", F_OK) == 0)
        chmod(file, 0o644)
        let refused = try await HoldfastProcess.run(["ls", "--store-file", file], in: directory)
        #expect(refused.status == 78)
        #expect(refused.errors.contains("chmod 600"))
    }

    @Test
    func `the arguments of worker processes hold no password`() async throws {
        let server = try await RedisServer(arguments: ["--requirepass", Self.canary])
        let directory = try TestDirectory()
        let store = "redis://:\(Self.canary)@\(server.url.dropFirst("redis://".count))/0"
        let bench = try HoldfastProcess(
            ["bench", "--workload", "cont16", "--seconds", "1", "--processes", "2"],
            in: directory,
            variables: ["HOLDFAST_STORE": store]
        )
        func workers() -> [String] {
            ScratchDirectory.entries(of: "/proc").filter { Int($0) != nil }
                .map { TestDirectory.proc("/proc/\($0)/cmdline") }.filter { $0.contains("bench-worker\0") }
        }
        try await eventually { !workers().isEmpty }
        for arguments in workers() { #expect(!arguments.contains(Self.canary)) }
        #expect(await bench.end().status == 0)
    }
}
