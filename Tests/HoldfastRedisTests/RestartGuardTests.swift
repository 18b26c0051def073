// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import HoldfastRedis
import HoldfastTesting
import Testing

/// A holder's bare majority, of which one server restarts empty: what keeps the next majority from forming meanwhile.
@Suite("Servers that restart under a majority", .timeLimit(.minutes(5)), .serialized)
struct RestartGuardTests {
    private static let lease: Duration = .seconds(2)

    /// How many rounds were any good, and in how many of them two held the lock.
    private struct Outcome {
        var rounds = 0
        var doubles = 0
    }

    private func store(_ servers: [RedisServer], isGuarded: Bool) throws -> RedisQuorumLockStore {
        var configuration = RedisQuorumConfiguration(
            servers: servers.map { RedisConfiguration(port: Int($0.port)) }
        )
        configuration.restartGuard = isGuarded ? Self.lease : nil
        return try RedisQuorumLockStore(configuration: configuration)
    }

    private func play(_ wanted: Int, isGuarded: Bool) async throws -> Outcome {
        var servers: [RedisServer] = []
        for _ in 0..<5 { servers.append(try await RedisServer()) }
        let (a, b) = try (self.store(servers, isGuarded: isGuarded), self.store(servers, isGuarded: isGuarded))
        var outcome = Outcome()
        for round in 0..<(4 * wanted) where outcome.rounds < wanted {
            // The holder has a bare majority: the other two are down.
            for server in servers.suffix(2) { server.kill() }
            let held = Make.request(try Resource("x/\(round)"), lease: Self.lease)
            var sent = ContinuousClock.now
            try await eventually("the servers never count", within: .seconds(20)) {
                sent = .now
                return (try? await a.acquire(held).token) != nil
            }
            let deadline = sent.advanced(by: Self.lease - Self.lease / 100 - .milliseconds(2))
            servers[2].kill()
            try await withThrowingTaskGroup(of: Void.self) { group in
                for server in servers.suffix(3) { group.addTask { try await server.start() } }
                try await group.waitForAll()
            }
            switch await self.intrude(held.resource, b, until: deadline) {
            // It took so long to start them that the lease was over.
            case nil: break
            case .some(let isDouble):
                outcome.rounds += 1
                if isDouble { outcome.doubles += 1 }
            }
        }
        return outcome
    }

    /// Asks for a lock again and again while another believes that it has it.
    ///
    /// - Returns: Whether it was given; `nil` when no majority answered in time.
    private func intrude(
        _ resource: Resource,
        _ store: RedisQuorumLockStore,
        until deadline: ContinuousClock.Instant
    ) async -> Bool? {
        var wasAnswered = false
        while ContinuousClock.now < deadline {
            let request = Make.request(resource, lease: Self.lease, contention: .fail)
            let reply = try? await store.acquire(request)
            guard ContinuousClock.now < deadline else { break }
            if reply?.token != nil { return true }
            if reply?.isBusy == true { wasAnswered = true }
            try? await Task.sleep(for: .milliseconds(20))
        }
        return wasAnswered ? false : nil
    }

    @Test
    func `R3 in fifty restarts of a server that forgets the holder nobody else is let in`() async throws {
        var all = Outcome()
        try await withThrowingTaskGroup(of: Outcome.self) { group in
            for _ in 0..<5 { group.addTask { try await self.play(10, isGuarded: true) } }
            for try await one in group {
                all.rounds += one.rounds
                all.doubles += one.doubles
            }
        }
        #expect(all.rounds >= 50, "the machine is too slow for this test")
        #expect(all.doubles == 0)
    }

    @Test
    func `R3 without the guard the first restarts let two hold the lock`() async throws {
        let outcome = try await self.play(3, isGuarded: false)
        #expect(outcome.doubles > 0)
    }
}
