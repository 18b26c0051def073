// SPDX-License-Identifier: Apache-2.0

import Glibc
import HoldfastCommands
import HoldfastTesting
import Testing

/// The other commands in real processes.
@Suite(.timeLimit(.minutes(5)))
struct CommandTests {
    private let directory: TestDirectory

    init() throws { self.directory = try TestDirectory() }

    private func run(_ arguments: [String], _ variables: [String: String] = [:]) async throws -> HoldfastProcess.Result
    {
        try await HoldfastProcess.run(arguments, in: self.directory, variables: variables)
    }

    @Test
    func `a script acquires, renews and releases through a file, and the lock outlives the commands`() async throws {
        let file = "\(self.directory.path)/grant"
        func expect(_ status: Int32, _ arguments: [String]) async throws {
            let result = try await self.run(arguments)
            #expect(result.status == status, "\(arguments): \(result)")
        }
        try await expect(0, ["acquire", "job", "--lease", "60s", "--grant", file])
        var status = stat()
        #expect(stat(file, &status) == 0 && status.st_mode & 0o777 == 0o600)
        try await expect(75, ["run", "--wait", "0", "job", "--", "true"])
        try await expect(0, ["renew", "--grant", file])
        try await expect(75, ["run", "--wait", "0", "job", "--", "true"])
        try await expect(0, ["release", "--grant", file])
        #expect(access(file, F_OK) != 0)
        try await expect(0, ["run", "--wait", "0", "job", "--", "true"])
    }

    @Test
    func `a grant can be kept in the environment, and a lost one is told by code 76`() async throws {
        let grant = try await self.run(["acquire", "job"]).output
        #expect(try await self.run(["renew"], ["HOLDFAST_GRANT": grant]).status == 0)
        #expect(try await self.run(["revoke", "--force", "job"]).status == 0)
        #expect(try await self.run(["renew"], ["HOLDFAST_GRANT": grant]).status == 76)
        #expect(try await self.run(["release"], ["HOLDFAST_GRANT": grant]).status == 76)
        #expect(try await self.run(["release"], ["HOLDFAST_GRANT": "{\"id\":\"canary\"}"]).status == 78)
        #expect(try await self.run(["release"]).status == 78)
    }

    @Test
    func `a watch reports changes as lines of JSON`() async throws {
        let watch = try HoldfastProcess(["watch", "--interval", "10ms", "--format", "jsonl"], in: self.directory)
        let seen = "\(self.directory.path)/seen"
        let job = try HoldfastProcess(
            ["run", "job", "--", "sh", "-c", "until [ -e \(seen) ]; do sleep 0.02; done"],
            in: self.directory
        )
        try await eventually { watch.output.contains(#""event":"acquired","resource":"job""#) }
        #expect(!watch.output.contains(#""event":"ended""#))
        try self.directory.write("", to: "seen")
        #expect(await job.end().status == 0)
        try await eventually { watch.output.contains(#""event":"ended","resource":"job""#) }
        try await watch.signal(SIGTERM)
        #expect(await watch.end().status == 143)
    }

    @Test
    func `names from others cannot move the cursor`() async throws {
        let shown = try await self.run(["show", "a\u{202E}b"])
        #expect(shown.output == "'a\\u{202E}b' is free\n")
        let refused = try await self.run(["show", "a\u{1B}[2Jb"])
        #expect(refused.status == 78)
        #expect(!refused.errors.contains("\u{1B}"))
    }

    @Test
    func `the doctor finds the embedded store well and a missing server not`() async throws {
        let well = try await self.run(["doctor", "--format", "json"])
        #expect(well.status == 0, "\(well.output)")
        let ill = try await self.run(["doctor"], ["HOLDFAST_STORE": "redis://127.0.0.1:1"])
        #expect(ill.status == 69)
        #expect(ill.output.contains("problem"))
    }

    @Test
    func `versions of the libraries are shown`() async throws {
        let result = try await self.run(["--version"])
        #expect(result.status == 0)
        let expected = /holdfast [0-9.]+ \(hiredis [0-9.]+, SQLite 3\.[0-9.]+, ZooKeeper client [0-9.]+\)\n/
        #expect(try expected.wholeMatch(in: result.output) != nil)
    }

    @Test
    func `a bench prints a line of figures`() async throws {
        for processes in ["1", "2"] {
            let result = try await self.run([
                "bench", "--workload", "cont16", "--seconds", "0.2", "--processes", processes,
            ])
            #expect(result.status == 0, "\(result.errors)")
            #expect(result.output.contains(#""workload":"cont16""#))
            #expect(result.output.contains(#""overlaps":0"#))
        }
    }

    @Test
    func `the demo ends well`() async throws {
        try self.directory.write("text\n", to: "indexed")
        let result = try await self.run(["demo", "--seconds", "15", "--directory", self.directory.path])
        #expect(result.status == 0, "\(result.output)\(result.errors)")
        let last = result.output.split(separator: "\n").last ?? ""
        #expect(last.hasPrefix(#"{"demo":"ok","store":"sqlite","workers":4,"#))
        // One late write is played; a worker that a busy machine holds up may have another refused.
        #expect(last.contains(/"overlaps":0,"refused_stale_writes":[1-9]/))
    }

    @Test
    func `a demo that is interrupted leaves no worker behind`() async throws {
        let demo = try HoldfastProcess(["demo", "--directory", self.directory.path], in: self.directory)
        try await eventually { demo.output.contains("rebuilds the cache") }
        try await demo.signal(SIGINT)
        #expect(await demo.end().status == 130)
        // Workers are told apart by the directory in their arguments.
        try await eventually {
            !Self.commandLines().contains { $0.contains("demo-worker\0") && $0.contains(self.directory.path) }
        }
    }

    private static func commandLines() -> [String] {
        ScratchDirectory.entries(of: "/proc").filter { Int($0) != nil }.map {
            TestDirectory.proc("/proc/\($0)/cmdline")
        }
    }
}
