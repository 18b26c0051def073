// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import HoldfastTesting
import Synchronization
import Testing

/// What a test of the engine has at hand, in virtual time.
struct Bench: Sendable {
    let simulation: Simulation
    let store: ScriptedStore
    let locks: LockService
    let events: EventLog

    var clock: ManualClock { self.simulation.clock }

    /// Runs a test against a running service; real time does not pass.
    static func run(
        seed: UInt64 = 1,
        for limit: Duration = .seconds(600),
        _ configure: (inout LockServiceConfiguration) -> Void = { _ in },
        _ body: @escaping @Sendable (Bench) async throws -> Void
    ) throws {
        var configuration = LockServiceConfiguration()
        configuration.program = "test"
        configure(&configuration)
        let simulation = Simulation(seed: seed)
        let settings = configuration
        try simulation.run(for: limit) { simulation in
            let store = ScriptedStore(clock: simulation.clock)
            let bench = try Bench(simulation: simulation, store: store, settings: settings)
            try await bench.whileRunning { try await body(bench) }
        }
    }

    /// Runs a test with a service that nobody runs yet; real time does not pass.
    static func idle(
        for limit: Duration = .seconds(600),
        _ body: @escaping @Sendable (Bench) async throws -> Void
    ) throws {
        try Simulation(seed: 1).run(for: limit) { simulation in
            try await body(
                try Bench(
                    simulation: simulation,
                    store: ScriptedStore(clock: simulation.clock),
                    settings: LockServiceConfiguration()
                )
            )
        }
    }

    init(simulation: Simulation, store: ScriptedStore, settings: LockServiceConfiguration) throws {
        self.simulation = simulation
        self.store = store
        self.events = EventLog()
        self.locks = try LockService(
            store: store,
            configuration: settings,
            observer: self.events,
            clock: simulation.clock,
            generator: simulation.makeGenerator()
        )
    }

    func whileRunning(_ body: @escaping @Sendable () async throws -> Void) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            let locks = self.locks
            group.addTask { try await locks.run() }
            try await body()
            group.cancelAll()
        }
    }

    func sleep(_ duration: Duration) async throws { try await self.clock.sleep(for: duration) }

    /// Starts a task of its own in virtual time, for tests that cancel one.
    func start<Value: Sendable>(_ work: @escaping @Sendable () async throws -> Value) -> Task<Value, any Error> {
        Task(executorPreference: self.simulation.makeProcess("task"), operation: work)
    }

    /// Another process on the same store.
    func neighbour(_ settings: LockServiceConfiguration = LockServiceConfiguration()) throws -> Bench {
        try Bench(simulation: self.simulation, store: self.store, settings: settings)
    }

    /// Another process, with a way of its own to the same store.
    func distantNeighbour(_ settings: LockServiceConfiguration = LockServiceConfiguration()) throws -> Bench {
        try Bench(simulation: self.simulation, store: ScriptedStore(sharing: self.store), settings: settings)
    }

    /// Whether nothing is held, waited for or resting.
    func isAllFree() async throws -> Bool { try await self.store.survey(.all, after: nil).resources.isEmpty }

    func isFree(_ resource: Resource) async throws -> Bool { try await self.store.status(of: resource).isFree }
}

/// Remembers what an observer was told, in words.
final class EventLog: LockObserver {
    private let entries = Mutex<[String]>([])

    var all: [String] { self.entries.withLock { $0 } }

    func count(_ word: String) -> Int { self.all.count { $0.hasPrefix(word) } }

    func observe(_ event: LockEvent) {
        let word =
            switch event {
            case .acquired(let acquisition): "acquired \(acquisition.path.rawValue)"
            case .notAcquired(let failure): "notAcquired \(failure.outcome.rawValue)"
            case .released(_, let reply, _): "released \(reply.rawValue)"
            case .renewed(let renewals): "renewed \(renewals.renewed) \(renewals.lost) \(renewals.unknown)"
            case .lost(_, let reason, _): "lost \(reason.rawValue)"
            case .revokeRequested: "revokeRequested"
            case .abandoned: "abandoned"
            case .outlived: "outlived"
            case .cleanUpFailed: "cleanUpFailed"
            case .deadlock: "deadlock"
            case .converted(let grant, _): "converted \(grant.mode)"
            case .signalsInterrupted: "signalsInterrupted"
            }
        self.entries.withLock { $0.append(word) }
    }
}

/// Counts who is inside at once.
final class Occupancy: Sendable {
    private let state = Mutex((inside: 0, most: 0, visits: 0))

    func enter() {
        self.state.withLock { state in
            state.inside += 1
            state.visits += 1
            state.most = max(state.most, state.inside)
        }
    }

    func leave() { self.state.withLock { $0.inside -= 1 } }

    var most: Int { self.state.withLock { $0.most } }
    var visits: Int { self.state.withLock { $0.visits } }
}

/// Gives values that tests collect across tasks.
final class Collector<Value: Sendable>: Sendable {
    private let items = Mutex<[Value]>([])

    func append(_ value: Value) { self.items.withLock { $0.append(value) } }
    var values: [Value] { self.items.withLock { $0 } }
}

/// Draws durations for many tasks, from one seed.
final class Dice: Sendable {
    private let generator: Mutex<SeededGenerator>

    init(_ generator: SeededGenerator) { self.generator = Mutex(generator) }

    func upTo(_ duration: Duration) -> Duration { self.generator.withLock { $0.duration(in: .zero...duration) } }
}

/// Says with which code work ends, or `nil` when it ends in another way.
func lockErrorCode(_ work: () async throws -> Void) async -> LockError.Code? {
    do {
        try await work()
        return nil
    } catch {
        return (error as? LockError)?.code
    }
}
