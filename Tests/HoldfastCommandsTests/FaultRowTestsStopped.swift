// SPDX-License-Identifier: Apache-2.0

import Foundation
import Holdfast
import HoldfastCommands
import HoldfastCore
import HoldfastTesting
import Testing

/// Row H2 of the fault matrix: the holder, its guard and its command all stand still past the lease.
@Suite(.timeLimit(.minutes(5)), .serialized)
struct FaultRowTestsStopped {
    private let directory: TestDirectory

    init() throws { self.directory = try TestDirectory() }

    /// The guard of a command: its parent.
    private func parent(of pid: Int32) throws -> Int32 {
        let stat = TestDirectory.proc("/proc/\(pid)/stat")
        return try #require(Int32(stat.split(separator: ")").last?.split(separator: " ")[1] ?? ""))
    }

    @Test(arguments: FaultRowTests.Kind.allCases)
    func `H2 a job that stood still past its lease is told, ended, and its late write refused`(
        kind: FaultRowTests.Kind
    ) async throws {
        let server = kind == .redis ? try await RedisServer() : nil
        let variables = server.map { ["HOLDFAST_STORE": $0.url] } ?? [:]
        let file = FencedFile(path: "\(self.directory.path)/result")
        var times: [Duration] = []
        for round in 0..<4 {
            let note = "\(self.directory.path)/holder\(round)"
            let script = "echo $$ $HOLDFAST_FENCING_TOKEN > \(note).new; mv \(note).new \(note); exec sleep 60"
            let holder = try HoldfastProcess(
                ["run", "--lease", "4s", "x", "--", "sh", "-c", script],
                in: self.directory,
                variables: variables
            )
            try await eventually { access(note, F_OK) == 0 }
            let words = self.directory.text("holder\(round)").split(separator: " ")
            let child = try #require(Int32(words[0]))
            let stale = FencingToken(rawValue: try #require(UInt64(words[1])))
            let standing = [try await holder.pid, try self.parent(of: child), child]
            for pid in standing { kill(pid, SIGSTOP) }
            let next = try await HoldfastProcess.run(
                ["run", "x", "--", "sh", "-c", "echo $HOLDFAST_FENCING_TOKEN"],
                in: self.directory,
                variables: variables
            )
            let token = FencingToken(rawValue: try #require(UInt64(next.output.dropLast())))
            #expect(token > stale)
            try await file.write(Data("next".utf8), fencedBy: token)
            let continued = ContinuousClock.now
            for pid in standing { kill(pid, SIGCONT) }
            let refusal = await #expect(throws: LockError.self) {
                try await file.write(Data("stale".utf8), fencedBy: stale)
            }
            #expect(refusal?.code == .fenced)
            #expect(await holder.end().status == 76)
            let took = ContinuousClock.now - continued
            print("H2 \(kind): ended \(took) after SIGCONT")
            times.append(took)
            #expect(!isAlive(child))
        }
        // A machine may be busy for a moment: the middle counts.
        #expect(times.sorted()[times.count / 2] < .seconds(1))
        #expect(try await file.read()?.value == Data("next".utf8))
        withExtendedLifetime(server) {}
    }
}
