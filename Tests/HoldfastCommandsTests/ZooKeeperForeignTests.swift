// SPDX-License-Identifier: Apache-2.0

import Glibc
import HoldfastTesting
import Testing

/// What an operator sees of kazoo's locks, and of credentials: real processes on a real server.
@Suite(.timeLimit(.minutes(5)), .serialized)
struct ZooKeeperForeignTests {
    /// Debian's own interpreter, which has Debian's kazoo.
    private static let python = "/usr/bin/python3"

    /// HOSTS, FILE: holds and waits for `/jobs/nightly` with two clients until FILE is gone.
    private static let script = """
        import os, sys, threading, time
        from kazoo.client import KazooClient
        holder, waiter = KazooClient(hosts=sys.argv[1]), KazooClient(hosts=sys.argv[1])
        holder.start()
        waiter.start()
        holder.Lock("/jobs/nightly", "billing worker 3").acquire()
        threading.Thread(target=waiter.Lock("/jobs/nightly", "\\x1b[31mred").acquire, daemon=True).start()
        while len(holder.get_children("/jobs/nightly")) < 2:
            time.sleep(0.01)
        with open(sys.argv[2] + ".new", "w") as file:
            file.write("waits")
        os.rename(sys.argv[2] + ".new", sys.argv[2])
        while os.path.exists(sys.argv[2]):
            time.sleep(0.01)
        """

    private let directory: TestDirectory

    init() throws { self.directory = try TestDirectory() }

    private func run(_ arguments: [String], store: String) async throws -> HoldfastProcess.Result {
        try await HoldfastProcess.run(arguments, in: self.directory, variables: ["HOLDFAST_STORE": store])
    }

    @Test
    func `kazoo's holders and waiters are shown as what they are, in each command`() async throws {
        let server = try await ZooKeeperServer()
        let store = "\(server.url)/jobs?layout=kazoo&session=4s&tick=200ms"
        let file = "\(self.directory.path)/python"
        let python = try ChildProcess(Self.python, ["-c", Self.script, server.hosts, file])
        try await eventually { access(file, F_OK) == 0 }

        let list = try await self.run(["ls"], store: store)
        #expect(list.output.contains("(foreign)") && list.output.contains("billing worker 3"), "\(list.output)")
        let shown = try await self.run(["show", "nightly"], store: store)
        #expect(shown.output.contains("billing worker 3"))
        // Whoever wrote it may not paint the operator's terminal.
        #expect(shown.output.contains("red") && !shown.output.contains("\u{1B}"), "\(shown.output)")
        let why = try await self.run(["why", "nightly"], store: store)
        #expect(why.output.contains("'billing worker 3'") && why.output.contains("revoke 'nightly' --force"))
        let graph = try await self.run(["graph"], store: store)
        #expect(graph.output.contains("held by a foreign holder (billing worker 3)"), "\(graph.output)")
        #expect(graph.output.contains("waited for by a foreign waiter ("), "\(graph.output)")
        for arguments in [["ls"], ["show", "nightly"], ["why", "nightly"], ["graph"]] {
            let json = try await self.run(arguments + ["--format", "json"], store: store)
            #expect(json.status == 0)
            #expect(json.output.contains(#""owner":null"#), "\(json.output)")
            #expect(json.output.contains(#""note":"billing worker 3""#), "\(json.output)")
        }
        let watch = try HoldfastProcess(
            ["watch", "--format", "jsonl"],
            in: self.directory,
            variables: ["HOLDFAST_STORE": store]
        )
        let left = try await self.run(["run", "nightly", "--wait", "0", "--", "true"], store: store)
        #expect(left.status == 75, "\(left)")

        // Kazoo cannot be asked, and nobody is told that it was.
        let asked = try await self.run(["revoke", "nightly"], store: store)
        #expect(asked.status == 1)
        #expect(asked.output.isEmpty)
        #expect(asked.errors.contains("billing worker 3") && asked.errors.contains("--force"), "\(asked.errors)")
        let taken = try await self.run(["revoke", "nightly", "--force"], store: store)
        #expect(taken.status == 0)
        #expect(taken.output.contains("took a foreign holder (billing worker 3)"), "\(taken.output)")
        // The one that waited goes on.
        var goesOn = false
        for _ in 0..<100 where !goesOn {
            let output = try await self.run(["show", "nightly"], store: store).output
            goesOn = !output.contains("billing worker 3") && output.contains("(foreign)")
        }
        #expect(goesOn)
        #expect(try await self.run(["run", "nightly", "--wait", "0", "--", "true"], store: store).status == 75)
        unlink(file)
        try await eventually { python.hasExited }
        #expect(try await self.run(["run", "nightly", "--wait", "20s", "--", "true"], store: store).status == 0)
        try await watch.signal(SIGINT)
        _ = await watch.end()
    }

    @Test
    func `no command says a session's id or a password (S3)`() async throws {
        let server = try await ZooKeeperServer()
        let store = "zookeeper://anna:canary77@\(server.hosts)/jobs?session=4s&tick=200ms"
        let ready = "\(self.directory.path)/ready"
        let holder = try HoldfastProcess(
            ["run", "nightly", "--", "sh", "-c", "env > \(ready).new; mv \(ready).new \(ready); exec sleep 60"],
            in: self.directory,
            variables: ["HOLDFAST_STORE": store]
        )
        try await eventually { access(ready, F_OK) == 0 }
        let session = try #require(try server.session(ofNode: "/jobs/nightly/"))
        let secrets = ["canary77", "\(session)", String(UInt64(bitPattern: session), radix: 16)]
        var said = ""
        for arguments in [
            ["ls"], ["show", "nightly"], ["why", "nightly"], ["graph"], ["graph", "--format", "dot"], ["doctor"],
            ["acquire", "other", "--wait", "0"], ["run", "nightly", "--wait", "0", "--", "env"], ["revoke", "nobody"],
            ["bench", "--workload", "seq1", "--seconds", "0.05"],
        ] {
            for format in ["table", "json"] {
                let hasFormat = ["ls", "show", "why", "doctor"].contains(arguments[0])
                let result = try await self.run(arguments + (hasFormat ? ["--format", format] : []), store: store)
                said += result.output + result.errors
            }
        }
        let late = try await self.run(["ls"], store: "zookeeper://anna:canary77@\(server.hosts)/jobs?session=1s")
        said += late.output + late.errors
        try server.expire(session)
        let end = await holder.end()
        #expect(end.status == 76)
        said += end.output + end.errors
        for secret in secrets { #expect(!said.contains(secret), "\(said)") }
        // A password is in the variable that the user set, and in no other.
        let names = self.directory.text("ready").split(separator: "\n").filter { $0.contains("canary77") }
        #expect(names.allSatisfy { $0.hasPrefix("HOLDFAST_STORE=") }, "\(names)")
    }
}
