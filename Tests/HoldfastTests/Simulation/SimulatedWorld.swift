// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import HoldfastTesting
import Synchronization

/// Some processes that fight for some locks over bad networks, for a minute of virtual time.
///
/// Forty seconds with a fault every few seconds, then peace; at the end all is over and checked.
final class SimulatedWorld: Sendable {
    struct Options: Sendable {
        var processes = 3
        var workers = 2
        var losesData = false
        /// Puts something before each client's store, such as a mistake.
        var wrap: @Sendable (SimulatedStore) -> any LockStore = { $0 }
    }

    struct Outcome: Sendable {
        let violations: [HistoryChecker.Violation]
        let events: [HistoryEvent]

        func count(_ matches: (HistoryEvent.Kind) -> Bool) -> Int { self.events.count { matches($0.kind) } }
    }

    private static let faultTime: Duration = .seconds(40)
    private static let workTime: Duration = .seconds(50)
    private static let lease: Duration = .seconds(2)
    private static let waitLimit: Duration = .seconds(6)
    private static let resources: [Resource] = ["hot", "hot", "warm"]

    private let simulation: Simulation
    private let options: Options
    private let server: SimulatedServer
    private let history: History
    private let fences = Mutex<[Resource: Fence]>([:])

    private init(_ simulation: Simulation, _ options: Options) {
        var generator = simulation.makeGenerator()
        self.simulation = simulation
        self.options = options
        self.server = SimulatedServer(
            clock: simulation.clock,
            rate: Double.random(in: 0.995...1.005, using: &generator)
        )
        self.history = History(clock: simulation.clock)
    }

    static func run(seed: UInt64, options: Options = Options()) throws -> Outcome {
        try Simulation(seed: seed).run(for: .seconds(600)) { simulation in
            try await SimulatedWorld(simulation, options).run()
        }
    }

    private func run() async throws -> Outcome {
        let clients = (0..<self.options.processes).map { number in
            let store = self.server.connect(generator: self.simulation.makeGenerator(), plan: .healthy)
            return (process: self.simulation.makeProcess("p\(number)"), store: store)
        }
        try await withThrowingTaskGroup(of: Void.self) { services in
            var locks: [LockService] = []
            for client in clients {
                var settings = LockServiceConfiguration()
                settings.lease = Self.lease
                settings.acceptance = .milliseconds(500)
                settings.program = client.process.name
                let service = try LockService(
                    store: self.options.wrap(client.store),
                    configuration: settings,
                    clock: self.simulation.clock,
                    generator: self.simulation.makeGenerator()
                )
                locks.append(service)
                services.addTask(executorPreference: client.process) { try await service.run() }
            }
            try await withThrowingTaskGroup(of: Void.self) { work in
                for (client, service) in zip(clients, locks) {
                    for _ in 0..<self.options.workers {
                        let generator = self.simulation.makeGenerator()
                        work.addTask(executorPreference: client.process) {
                            try await self.worker(client.process.name, service, generator)
                        }
                    }
                }
                work.addTask { try await self.trouble(clients, self.simulation.makeGenerator()) }
                try await work.waitForAll()
            }
            // Whatever was left behind by lost messages ends by itself in this time.
            try await self.simulation.clock.sleep(for: .seconds(10))
            services.cancelAll()
        }
        var checker = HistoryChecker(liveBound: .seconds(12), losesData: self.options.losesData)
        checker.announcementSlack = .milliseconds(1)
        let events = self.history.events
        return Outcome(violations: checker.check(events, leftovers: self.server.residue()), events: events)
    }

    // MARK: - Faults

    private func trouble(
        _ clients: [(process: SimulatedProcess, store: SimulatedStore)],
        _ seeded: SeededGenerator
    ) async throws {
        var generator = seeded
        let clock = self.simulation.clock
        while clock.elapsed < Self.faultTime {
            try await clock.sleep(for: generator.duration(in: .milliseconds(500) ... .seconds(4)))
            let duration = generator.duration(in: .milliseconds(300) ... .seconds(4))
            let client = clients[Int.random(in: clients.indices, using: &generator)]
            switch Int.random(in: 0..<6, using: &generator) {
            case 0:
                for client in clients { client.store.plan = .bad }
                try await clock.sleep(for: duration)
                for client in clients { client.store.plan = .healthy }
            case 1:
                client.store.setCutOff(true)
                try await clock.sleep(for: duration)
                client.store.setCutOff(false)
            case 2: self.server.pause(for: duration)
            case 3: self.server.restart(after: duration, keepingData: !self.options.losesData)
            case 4:
                client.store.plan = .bad
                try await clock.sleep(for: duration)
                client.store.plan = .healthy
            default:
                self.history.record(client.process.name, .paused)
                client.process.pause()
                try await clock.sleep(for: duration)
                self.history.record(client.process.name, .resumed)
                client.process.resume()
            }
        }
        // The last pause, restart or late message is over by then.
        try await clock.sleep(for: .seconds(5))
        self.history.record("all", .healed)
    }

    // MARK: - Work

    private func worker(_ name: String, _ locks: LockService, _ seeded: SeededGenerator) async throws {
        var generator = seeded
        while self.simulation.clock.elapsed < Self.workTime {
            try await self.simulation.clock.sleep(for: generator.duration(in: .zero ... .milliseconds(2500)))
            let resource = Self.resources[Int.random(in: Self.resources.indices, using: &generator)]
            let mode: LockMode = generator.chance(0.6) ? .exclusive : generator.chance(0.6) ? .shared : .update
            let hold = generator.duration(in: .zero...(generator.chance(0.2) ? .seconds(5) : .milliseconds(500)))
            let delay: Duration = generator.chance(0.1) ? .milliseconds(500) : .zero
            let attempt = self.history.begin(name, resource, mode: mode)
            if generator.chance(0.5) {
                await self.scoped(locks, resource, mode, attempt, hold: hold, lockDelay: delay)
            } else {
                await self.unscoped(locks, resource, mode, attempt, hold: hold, tries: generator.chance(0.3))
            }
        }
    }

    private func scoped(
        _ locks: LockService,
        _ resource: Resource,
        _ mode: LockMode,
        _ attempt: History.Attempt,
        hold: Duration,
        lockDelay: Duration
    ) async {
        let granted = Atomic(false)
        do {
            try await locks.withLock(resource, mode: mode, waitingAtMost: Self.waitLimit, lockDelay: lockDelay) {
                lease in
                granted.store(true, ordering: .relaxed)
                attempt.record(.granted(mode, lease.fencingToken, validUntil: lease.validUntil))
                await self.work(under: lease, mode, attempt, hold: hold)
            }
        } catch {
            if !granted.load(ordering: .relaxed) { attempt.record(.notGranted) }
        }
    }

    private func unscoped(
        _ locks: LockService,
        _ resource: Resource,
        _ mode: LockMode,
        _ attempt: History.Attempt,
        hold: Duration,
        tries: Bool
    ) async {
        let lease: Lease?
        do {
            lease =
                tries
                ? try await locks.tryAcquire(resource, mode: mode)
                : try await locks.acquire(resource, mode: mode, waitingAtMost: Self.waitLimit)
        } catch {
            lease = nil
        }
        guard let lease else { return attempt.record(.notGranted) }
        attempt.record(.granted(mode, lease.fencingToken, validUntil: lease.validUntil))
        await self.work(under: lease, mode, attempt, hold: hold)
        attempt.record(.released(await lease.release()))
    }

    /// Holds a lock until the time is up or the lock is lost, and writes with its token afterwards in both cases.
    private func work(under lease: Lease, _ mode: LockMode, _ attempt: History.Attempt, hold: Duration) async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                if mode == .update { await self.upgradeAndBack(lease, attempt, hold: hold) }
                try? await self.simulation.clock.sleep(for: hold)
            }
            group.addTask {
                for await event in lease.events {
                    switch event {
                    case .renewed(let validUntil): attempt.record(.renewed(validUntil: validUntil))
                    case .lost(let reason):
                        attempt.record(.lost(reason))
                        return
                    case .acquired, .converted, .jeopardy, .released, .revokeRequested: break
                    }
                }
            }
            await group.next()
            group.cancelAll()
        }
        do throws(LockError) {
            try lease.checkValid()
            attempt.record(.releasing)
        } catch {
            attempt.record(.lost(.deadline))
        }
        if mode == .exclusive { self.write(lease.fencingToken, to: lease.resource, attempt) }
    }

    /// Writes as the only holder for a while, then lets readers in again.
    private func upgradeAndBack(_ lease: Lease, _ attempt: History.Attempt, hold: Duration) async {
        do {
            try await lease.upgrade(waitingAtMost: hold * 4)
            attempt.record(.converted(.exclusive, lease.fencingToken))
            try await self.simulation.clock.sleep(for: hold)
            try lease.checkValid()
            self.write(lease.fencingToken, to: lease.resource, attempt)
            // From the call on others may read, whenever the answer comes.
            attempt.record(.converted(.update, lease.fencingToken))
            try await lease.downgrade(to: .update)
        } catch {
            // Held as update, or lost: the caller looks.
        }
    }

    private func write(_ token: FencingToken, to resource: Resource, _ attempt: History.Attempt) {
        let accepted = self.fences.withLock { fences in
            do throws(LockError) {
                try fences[resource, default: Fence()].admit(token)
                return true
            } catch {
                return false
            }
        }
        attempt.record(.wrote(token, accepted: accepted))
    }
}
