// SPDX-License-Identifier: Apache-2.0

import Glibc
import HoldfastCommands
import HoldfastTesting
import Testing

/// `holdfast run --store zookeeper://…` in real processes on a real server.
@Suite(.timeLimit(.minutes(5)), .serialized)
struct ZooKeeperRunTests {
    private let directory: TestDirectory

    init() throws { self.directory = try TestDirectory() }

    private func run(_ arguments: [String]) async throws -> HoldfastProcess.Result {
        try await HoldfastProcess.run(arguments, in: self.directory)
    }

    /// A command that says its process id in a file and sleeps.
    private func sleeper(_ file: String) -> [String] {
        let path = "\(self.directory.path)/\(file)"
        return ["sh", "-c", "echo $$ > \(path).new; mv \(path).new \(path); exec sleep 60"]
    }

    private func pid(in file: String) async throws -> Int32 {
        try await eventually { Int32(self.directory.text(file)) != nil }
        return try #require(Int32(self.directory.text(file)))
    }

    @Test
    func `the command runs under the lock, others wait or leave, and tokens rise`() async throws {
        let server = try await ZooKeeperServer()
        let store = "\(server.url)/jobs?session=4s&tick=200ms"
        var last: UInt64 = 0
        for _ in 0..<3 {
            let result = try await self.run([
                "run", "--store", store, "nightly", "--", "sh", "-c", "echo $HOLDFAST_FENCING_TOKEN; exit 7",
            ])
            #expect(result.status == 7, "\(result.errors)")
            let token = try #require(UInt64(result.output.filter(\.isNumber)))
            #expect(token > last)
            last = token
        }
        let holder = try HoldfastProcess(
            ["run", "--store", store, "nightly", "--"] + self.sleeper("pid"),
            in: self.directory
        )
        let command = try await self.pid(in: "pid")
        let late = try await self.run(["run", "--store", store, "--wait", "0", "nightly", "--", "true"])
        #expect(late.status == 75)
        let listed = try await self.run(["ls", "--store", store, "--format", "jsonl"])
        #expect(listed.output.contains("nightly"))
        #expect(listed.status == 0)
        kill(command, SIGTERM)
        let end = await holder.end()
        #expect(end.status == 143)
        #expect(try await self.run(["run", "--store", store, "--wait", "0", "nightly", "--", "true"]).status == 0)
    }

    @Test
    func `a server that falls silent stops the command before its session ends, with the code for a lost lock`()
        async throws
    {
        let server = try await ZooKeeperServer()
        let store = "\(server.url)/jobs?session=10s&tick=200ms"
        let holder = try HoldfastProcess(
            ["run", "--store", store, "nightly", "--"] + self.sleeper("pid"),
            in: self.directory
        )
        let command = try await self.pid(in: "pid")
        server.pause()
        let silent = ContinuousClock.now
        try await eventually { !isAlive(command) }
        #expect(silent.duration(to: .now) < .seconds(10))
        let end = await holder.end()
        #expect(end.status == 76, "\(end.errors)")
        server.resume()
    }

    @Test
    func `a candidate campaigns through an outage that ends its session`() async throws {
        let server = try await ZooKeeperServer()
        let led = "\(self.directory.path)/led"
        let leader = try HoldfastProcess(
            [
                "elect", "--store", "\(server.url)/jobs?session=4s&tick=200ms", "nightly", "--", "sh", "-c",
                "echo $$ >> \(led); grep -c . \(led) | grep -q 2 || sleep 60",
            ],
            in: self.directory
        )
        try await eventually { Int32(self.directory.text("led")) != nil }
        server.pause()
        try await eventually { leader.errors.contains("trying again until it answers") }
        server.resume()
        let end = await leader.end()
        #expect(end.status == 0, "\(end.errors)")
        #expect(self.directory.text("led").split(separator: "\n").count == 2, "\(end.errors)")
    }

    @Test
    func `a killed holder blocks others for its session at most`() async throws {
        let server = try await ZooKeeperServer()
        let store = "\(server.url)/jobs?tick=200ms&session="
        let holder = try HoldfastProcess(
            ["run", "--store", "\(store)4s", "nightly", "--"] + self.sleeper("pid"),
            in: self.directory
        )
        let command = try await self.pid(in: "pid")
        try await holder.signal(SIGKILL)
        let killed = ContinuousClock.now
        let next = try await self.run(["run", "--store", "\(store)20s", "--wait", "30s", "nightly", "--", "true"])
        #expect(next.status == 0, "\(next.errors)")
        // And a tick, and what two programs take to start; the usual session is 10 s.
        #expect(killed.duration(to: .now) < .seconds(9))
        #expect(!isAlive(command))
    }

    @Test
    func `the demo plays to its end, and says when there is no time for that`() async throws {
        let server = try await ZooKeeperServer()
        let store = "\(server.url)/demo?session=2s&tick=200ms"
        let result = try await self.run([
            "demo", "--seconds", "15", "--store", store, "--workers", "3", "--format", "json",
        ])
        #expect(result.status == 0, "\(result.errors)")
        #expect(result.output.contains(#""demo":"ok""#))
        let short = try await self.run(["demo", "--store", "\(server.url)/demo", "--seconds", "10"])
        #expect(short.status == 78)
        #expect(short.errors.contains("--seconds 30"), "\(short.errors)")
    }

    @Test
    func `a server that is not there, and a wrong address, have their codes and one line`() async throws {
        let gone = "zookeeper://127.0.0.1:1/jobs?timeout=500ms"
        // No name ends with this (RFC 6761).
        let unnamed = "zookeeper://holdfast.invalid/jobs?timeout=500ms"
        for (store, status) in [
            (gone, 69), (unnamed, 69), ("zookeepers://127.0.0.1", 78), ("zookeeper://h?session=canary", 78),
        ]
            as [(String, Int32)]
        {
            let result = try await self.run(["run", "--store", store, "--wait", "1s", "x", "--", "true"])
            #expect(result.status == status, "\(store): \(result.errors)")
            #expect(result.errors.split(separator: "\n").count == 1, "\(result.errors)")
            #expect(!result.errors.contains("canary"))
        }
    }
}
