// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import HoldfastRedis
import HoldfastTesting
import Testing

/// Servers that restart under a holder and whose wall clocks jump ahead: what they say of their age is wrong.
@Suite("Clocks of servers that restart", .timeLimit(.minutes(5)), .serialized)
struct RestartGuardClockTests {
    private static let lease: Duration = .seconds(3)

    private func store(_ ports: [UInt16]) throws -> RedisQuorumLockStore {
        var configuration = RedisQuorumConfiguration(servers: ports.map { RedisConfiguration(port: Int($0)) })
        configuration.restartGuard = Self.lease
        return try RedisQuorumLockStore(configuration: configuration)
    }

    private func report(_ id: String?, up seconds: Int, clock: Int) -> ServerRun.Report {
        var report = ServerRun.Report()
        report.id = id
        report.uptime = .seconds(seconds)
        report.clock = .seconds(clock)
        return report
    }

    @Test
    func `another run counts from when it was first seen, and the same never from earlier than it said first`() {
        let start = ContinuousClock.now
        func isOld(_ run: ServerRun, after seconds: Int) -> Bool {
            ServerRun.hasBeenUp(0, of: [run], for: .seconds(60), at: start.advanced(by: .seconds(seconds)))
        }
        var run = ServerRun()
        #expect(!isOld(run, after: 1000), "never seen")
        run.saw(self.report("a", up: 50, clock: 0), at: start)
        #expect(!isOld(run, after: 5) && isOld(run, after: 15))
        // Connected again after its clock jumped: it is no older than that.
        run.saw(self.report("a", up: 5000, clock: 0), at: start.advanced(by: .seconds(1)))
        #expect(!isOld(run, after: 5) && isOld(run, after: 15))
        run.saw(self.report("b", up: 5000, clock: 0), at: start.advanced(by: .seconds(100)))
        #expect(!isOld(run, after: 155) && isOld(run, after: 161))
        // What does not say who it is may always be another.
        run.saw(self.report(nil, up: 5000, clock: 0), at: start.advanced(by: .seconds(300)))
        run.saw(self.report(nil, up: 5000, clock: 0), at: start.advanced(by: .seconds(400)))
        #expect(!isOld(run, after: 455))
    }

    @Test
    func `of who is seen first what its clock is ahead of the others is not believed`() {
        let start = ContinuousClock.now
        func count(_ clocks: [Int]) -> [Bool] {
            let runs = clocks.map { clock -> ServerRun? in
                var run = ServerRun()
                run.saw(self.report("a", up: 3700, clock: clock), at: start)
                return run
            }
            return runs.indices.map { ServerRun.hasBeenUp($0, of: runs, for: .seconds(60), at: start) }
        }
        #expect(count([0, 0, 0]) == [true, true, true])
        #expect(count([0, 3600, 0]) == [true, true, true], "it was up for 100 s at least")
        #expect(count([0, 3650, 0]) == [true, false, true])
        #expect(count([0, -3650, 0]) == [true, true, true], "who is behind loses nothing, nor do the others")
        #expect(count([0, 9999, 0, 0, 9999]) == [true, false, true, true, false])
    }

    /// Who was there before knows that it is another process; who comes later sees whose clock is ahead.
    @Test(arguments: ["one clock, seen before", "two clocks, seen before", "one clock, never seen"])
    func `a server whose clock jumps ahead after a restart does not count before its time`(how: String) async throws {
        var servers: [RedisServer] = []
        for _ in 0..<3 { servers.append(try await RedisServer(hasOwnClock: true)) }
        let ports = servers.map(\.port)
        // The holder does not reach the third: it has a bare majority.
        let a = try self.store(Array(ports.prefix(2)) + [try RedisServer.freePort()])
        let seen = try self.store(ports)
        try await eventually("the servers never count", within: .seconds(20)) {
            let probe = Make.request("probe", lease: Self.lease, contention: .fail)
            defer { Task { _ = try? await seen.release(probe.key) } }
            return (try? await seen.acquire(probe).token) != nil
        }
        let held = Make.request("x", lease: Self.lease)
        var sent = ContinuousClock.now
        try await eventually("the servers never count", within: .seconds(20)) {
            sent = .now
            return (try? await a.acquire(held).token) != nil
        }
        try await servers[1].restart()
        for server in servers[1...(how.hasPrefix("two") ? 2 : 1)] { try server.setClock(ahead: .seconds(3600)) }
        let b = try how.hasSuffix("never seen") ? self.store(ports) : seen
        let deadline = sent.advanced(by: Self.lease - .milliseconds(50))
        var answers = 0
        while ContinuousClock.now < deadline {
            let reply = try? await b.acquire(Make.request("x", lease: Self.lease, contention: .fail))
            guard ContinuousClock.now < deadline else { break }
            if reply != nil { answers += 1 }
            #expect(reply?.token == nil, "two hold the lock")
            try await Task.sleep(for: .milliseconds(50))
        }
        #expect(answers > 0, "the machine is too slow for this test")
        try await eventually("it never counts", within: .seconds(20)) {
            (try? await b.acquire(Make.request("y", lease: Self.lease, contention: .fail)).token) != nil
        }
    }
}
