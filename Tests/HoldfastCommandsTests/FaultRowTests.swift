// SPDX-License-Identifier: Apache-2.0

import Glibc
import HoldfastCommands
import HoldfastTesting
import Testing

/// Rows H1, H8, H9 and H14 of the fault matrix: real processes on the embedded store and on Redis.
@Suite(.timeLimit(.minutes(5)), .serialized)
struct FaultRowTests {
    enum Kind: CaseIterable { case sqlite, redis }

    /// The time of a process' start on a machine that stands still for a moment.
    private static let start = 2.0

    private let directory: TestDirectory

    init() throws { self.directory = try TestDirectory() }

    /// A store of one test's own, and where the programs find it.
    private func store(_ kind: Kind) async throws -> (server: RedisServer?, variables: [String: String]) {
        guard kind == .redis else { return (nil, [:]) }
        let server = try await RedisServer()
        return (server, ["HOLDFAST_STORE": server.url])
    }

    /// A script that says when it started, in seconds as in /proc/uptime.
    private func stamp(_ file: String) -> [String] {
        ["sh", "-c", "cut -d' ' -f1 /proc/uptime > \(self.directory.path)/\(file)"]
    }

    private func time(_ file: String) throws -> Double { try #require(Double(self.directory.text(file)), "\(file)") }

    private static var now: Double { Double(BootTime.now) / 1e9 }

    private func untilWaiting(_ count: Int, _ variables: [String: String]) async throws {
        for _ in 0..<400 {
            let arguments = ["show", "x", "--format", "json"]
            let shown = try await HoldfastProcess.run(arguments, in: self.directory, variables: variables).output
            if shown.split(separator: #""waiting_for_s""#).count - 1 >= count { return }
        }
        Issue.record("fewer than \(count) wait")
    }

    @Test
    func `a candidate campaigns through an outage that costs it the leadership`() async throws {
        let server = try await RedisServer()
        let led = "\(self.directory.path)/led"
        let leader = try HoldfastProcess(
            [
                "elect", "--lease", "3s", "x", "--", "sh", "-c",
                "echo $$ >> \(led); grep -c . \(led) | grep -q 2 || sleep 60",
            ],
            in: self.directory,
            variables: ["HOLDFAST_STORE": server.url]
        )
        try await eventually { Int32(self.directory.text("led")) != nil }
        server.pause()
        try await eventually { leader.errors.contains("trying again until it answers") }
        #expect(leader.errors.contains("campaigning again"))
        server.resume()
        let end = await leader.end()
        #expect(end.status == 0, "\(end.errors)")
        #expect(self.directory.text("led").split(separator: "\n").count == 2)
        // Once, however long it lasts.
        #expect(end.errors.split(separator: "\n").count { $0.contains("trying again") } == 1)
    }

    @Test
    func `a candidate whose store was never there ends, and one in an outage when it is interrupted`() async throws {
        let server = try await RedisServer()
        let variables = ["HOLDFAST_STORE": server.url]
        let leader = try HoldfastProcess(
            ["elect", "--lease", "3s", "x", "--", "sleep", "60"],
            in: self.directory,
            variables: variables
        )
        try await eventually { try server.execute("EXISTS", "x").contains("1") }
        server.kill()
        try await eventually { leader.errors.contains("trying again until it answers") }
        let never = try await HoldfastProcess.run(
            ["elect", "--lease", "1s", "x", "--", "true"],
            in: self.directory,
            variables: variables
        )
        #expect(never.status == 69, "\(never.errors)")
        #expect(!never.errors.contains("trying again"))
        try await leader.signal(SIGINT)
        let end = await leader.end()
        #expect(end.status == 130, "\(end.errors)")
    }

    @Test
    func `H1 on Redis the lock of a killed holder passes on with the end of its lease`() async throws {
        let (server, variables) = try await self.store(.redis)
        let holder = try HoldfastProcess(
            ["run", "--lease", "4s", "x", "--", "sh", "-c", "echo $$ > \(self.directory.path)/pid; exec sleep 60"],
            in: self.directory,
            variables: variables
        )
        try await eventually { Int32(self.directory.text("pid")) != nil }
        let child = try #require(Int32(self.directory.text("pid")))
        let next = try HoldfastProcess(
            ["run", "--lease", "4s", "x", "--"] + self.stamp("next"),
            in: self.directory,
            variables: variables
        )
        try await self.untilWaiting(1, variables)
        let killed = Self.now
        try await holder.signal(SIGKILL)
        #expect(await next.end().status == 0)
        let took = try self.time("next") - killed
        print("H1 redis: \(took) s after the kill, lease 4 s")
        // It was renewed at most a third of the lease before.
        #expect(took > 0.5 && took < 4.5 + Self.start)
        #expect(!isAlive(child))
        withExtendedLifetime(server) {}
    }

    @Test(arguments: Kind.allCases)
    func `H8 a waiter that was killed costs those behind it nothing`(kind: Kind) async throws {
        let (server, variables) = try await self.store(kind)
        func start(_ command: [String]) throws -> HoldfastProcess {
            try HoldfastProcess(["run", "x", "--"] + command, in: self.directory, variables: variables)
        }
        let holder = try start(["sh", "-c", "echo $$ > \(self.directory.path)/pid; exec sleep 60"])
        try await eventually { Int32(self.directory.text("pid")) != nil }
        var waiters: [HoldfastProcess] = []
        for place in 0..<10 {
            waiters.append(try start(self.stamp("turn\(place)")))
            try await self.untilWaiting(place + 1, variables)
        }
        for place in [1, 3, 4, 6, 8] {
            try await waiters[place].signal(SIGKILL)
            #expect(await waiters[place].end().status == 137)
        }
        let released = Self.now
        try await holder.signal(SIGTERM)
        #expect(await holder.end().status == 143)
        for place in [0, 2, 5, 7, 9] { #expect(await waiters[place].end().status == 0) }
        let times = try [0, 2, 5, 7, 9].map { try self.time("turn\($0)") }
        #expect(times == times.sorted())
        print("H8 \(kind): third after \(times[1] - released) s, last after \(times[4] - released) s")
        // Far from the second that each of the five dead ones might have taken to accept. At least one of them is between
        // any two turns; a machine that stands still for a moment delays one or two.
        let gaps = zip(times, times.dropFirst()).map { $1 - $0 }
        #expect(gaps.sorted()[1] < 1, "\(gaps)")
        #expect(times[4] - released < 4)
        for place in [1, 3, 4, 6, 8] { #expect(self.directory.text("turn\(place)").isEmpty) }
        withExtendedLifetime(server) {}
    }

    @Test(arguments: Kind.allCases)
    func `H9 a late, double or foreign release says lost and leaves the successor alone`(kind: Kind) async throws {
        let (server, base) = try await self.store(kind)
        func run(_ arguments: [String], grant: String = "") async throws -> HoldfastProcess.Result {
            let variables = base.merging(["HOLDFAST_GRANT": grant]) { $1 }
            return try await HoldfastProcess.run(arguments, in: self.directory, variables: variables)
        }
        let released = try await run(["acquire", "x"]).output
        #expect(try await run(["release"], grant: released).status == 0)
        let expired = try await run(["acquire", "x", "--lease", "300ms"]).output
        // Its lease ends while this one waits, whose own does not end here.
        let successor = try await run(["acquire", "x", "--wait", "10s", "--lease", "10m"]).output
        let id = try #require(successor.firstMatch(of: /"id":"([0-9a-f]{32})"/)).output.1
        let foreign = successor.replacing(id, with: String(id.reversed()))
        for _ in 0..<5 {
            for grant in [released, expired, foreign] {
                #expect(try await run(["release"], grant: grant).status == 76)
                #expect(try await run(["renew"], grant: grant).status == 76)
            }
            #expect(try await run(["run", "--wait", "0", "x", "--", "true"]).status == 75)
        }
        #expect(try await run(["renew"], grant: successor).status == 0)
        #expect(try await run(["release"], grant: successor).status == 0)
        #expect(try await run(["run", "--wait", "0", "x", "--", "true"]).status == 0)
        withExtendedLifetime(server) {}
    }

    @Test(arguments: Kind.allCases)
    func `H14 a lock that nobody releases is free after its lease and not before`(kind: Kind) async throws {
        let (server, variables) = try await self.store(kind)
        let before = Self.now
        let arguments = ["acquire", "x", "--lease", "1s"]
        #expect(try await HoldfastProcess.run(arguments, in: self.directory, variables: variables).status == 0)
        let after = Self.now
        let next = ["run", "x", "--"] + self.stamp("next")
        #expect(try await HoldfastProcess.run(next, in: self.directory, variables: variables).status == 0)
        let time = try self.time("next")
        print("H14 \(kind): free after \(time - after) to \(time - before) s, lease 1 s")
        // Hundredths are all that /proc/uptime knows.
        #expect(time - before > 0.98)
        #expect(time - after < 1.5 + Self.start)
        withExtendedLifetime(server) {}
    }
}
