// SPDX-License-Identifier: Apache-2.0

import Glibc
import HoldfastTesting
import Testing

/// `holdfast run` beside a script that uses redis-py's `Lock` on the same name.
@Suite(.timeLimit(.minutes(5)))
struct RedisPyRunTests {
    /// Debian's own interpreter, which has Debian's redis-py.
    private static let python = "/usr/bin/python3"

    /// PORT, FILE: says what became of trying at once in FILE; and if it has the lock, keeps it until FILE is gone.
    private static let script = """
        import os, redis, sys, time
        lock = redis.Redis(port=int(sys.argv[1])).lock("x", timeout=60)
        held = lock.acquire(blocking=False)
        with open(sys.argv[2] + ".new", "w") as file:
            file.write(str(held))
        os.rename(sys.argv[2] + ".new", sys.argv[2])
        while held and os.path.exists(sys.argv[2]):
            time.sleep(0.01)
        if held:
            lock.release()
        """

    private let directory: TestDirectory

    init() throws { self.directory = try TestDirectory() }

    @Test
    func `each finds taken what the other holds, and free what it gave back`() async throws {
        let server = try await RedisServer()
        let variables = ["HOLDFAST_STORE": server.url]
        func run() async throws -> Int32 {
            let arguments = ["run", "x", "--wait", "0", "--", "true"]
            return try await HoldfastProcess.run(arguments, in: self.directory, variables: variables).status
        }
        func tryFromPython(_ name: String) async throws -> ChildProcess {
            let file = "\(self.directory.path)/\(name)"
            let child = try ChildProcess(Self.python, ["-c", Self.script, "\(server.port)", file])
            try await eventually { access(file, F_OK) == 0 }
            return child
        }
        let theirs = try await tryFromPython("theirs")
        #expect(self.directory.text("theirs") == "True")
        #expect(try await run() == 75)
        // It does not listen, and nobody is told that it was asked.
        let asked = try await HoldfastProcess.run(["revoke", "x"], in: self.directory, variables: variables)
        #expect(asked.status == 1 && asked.output.isEmpty)
        #expect(
            asked.errors.contains("cannot be asked") && asked.errors.contains("revoke 'x' --force"),
            "\(asked.errors)"
        )
        unlink("\(self.directory.path)/theirs")
        try await eventually { theirs.hasExited }
        #expect(try await run() == 0)

        let command = ["run", "x", "--", "sh", "-c", "echo > \(self.directory.path)/runs; exec sleep 60"]
        let ours = try HoldfastProcess(command, in: self.directory, variables: variables)
        try await eventually { access("\(self.directory.path)/runs", F_OK) == 0 }
        let refused = try await tryFromPython("refused")
        #expect(self.directory.text("refused") == "False")
        try await eventually { refused.hasExited }
        try await ours.signal(SIGTERM)
        _ = await ours.end()
        let later = try await tryFromPython("later")
        #expect(self.directory.text("later") == "True")
        unlink("\(self.directory.path)/later")
        try await eventually { later.hasExited }
    }
}
