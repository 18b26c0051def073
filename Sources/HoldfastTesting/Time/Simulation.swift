// SPDX-License-Identifier: Apache-2.0

internal import Synchronization

/// Runs asynchronous code in virtual time on one thread, in an order that a seed decides.
///
/// One random ready job runs at a time; when none is ready the clock jumps to the next timer. So an hour of leases and
/// renewals takes milliseconds, and a run that failed can be repeated from its seed.
///
/// ```swift
/// let simulation = Simulation(seed: 42)
/// try simulation.run(for: .seconds(60)) { simulation in
///     try await simulation.clock.sleep(for: .seconds(50))     // takes no time
/// }
/// ```
///
/// The code must wait only by way of ``clock`` and by structured concurrency: `Task.sleep`, Dispatch and detached tasks
/// leave the simulation. Code that walks through a `Dictionary` or a `Set` repeats exactly only when the environment
/// variable `SWIFT_DETERMINISTIC_HASHING` is set.
///
/// After FoundationDB's "Testing Distributed Systems with Deterministic Simulation" (Will Wilson, Strange Loop 2014).
public final class Simulation: Sendable {
    /// How a simulation can go wrong by itself.
    public enum Failure: Error, Sendable, Hashable {
        /// The body has not returned, no job is ready and nobody sleeps.
        case stalled(seed: UInt64)
        /// The body has not returned in the virtual time that it was given. It was cancelled.
        case overtime(seed: UInt64)
    }

    private struct State {
        var generator: SeededGenerator
        var processes = 0
    }

    /// After cancellation, a body has this much more virtual time to end.
    private static let grace: Duration = .seconds(600)

    /// Where everything that happens by chance comes from.
    public let seed: UInt64
    /// Virtual time.
    public let clock: ManualClock
    private let scheduler: SeededScheduler
    private let state: Mutex<State>

    /// Makes a simulation.
    ///
    /// - Parameter seed: Decides about everything that happens by chance.
    public init(seed: UInt64) {
        self.seed = seed
        self.clock = ManualClock()
        var generator = SeededGenerator(seed: seed)
        self.scheduler = SeededScheduler(generator: generator.fork())
        self.state = Mutex(State(generator: generator))
    }

    /// How many jobs ran so far.
    public var steps: Int { self.scheduler.steps }

    /// Gives a generator of its own to somebody; the same for the same order of calls.
    public func makeGenerator() -> SeededGenerator { self.state.withLock { $0.generator.fork() } }

    /// Makes a process, which can be paused by itself.
    ///
    /// Run tasks on it with `group.addTask(executorPreference:)`.
    ///
    /// - Parameter name: A name for messages.
    /// - Returns: The process.
    public func makeProcess(_ name: String) -> SimulatedProcess {
        let index = self.state.withLock { state in
            state.processes += 1
            return state.processes
        }
        return SimulatedProcess(name: name, index: index, scheduler: self.scheduler, clock: self.clock)
    }

    /// Runs a body to its end, on the calling thread.
    ///
    /// It computes all the time, so it does not block a thread of the pool in waiting.
    ///
    /// - Parameters:
    ///   - limit: The most virtual time.
    ///   - body: What to run, on a process of its own.
    /// - Returns: What the body returns.
    /// - Throws: What the body throws, or ``Failure``.
    public func run<Value: Sendable>(
        for limit: Duration,
        _ body: @escaping @Sendable (Simulation) async throws -> Value
    ) throws -> Value {
        let outcome = Outcome<Value>()
        // The root of all other tasks: nothing above it could await it, since this thread is what runs it.
        let root = Task(executorPreference: self.makeProcess("main")) {
            do {
                outcome.set(.success(try await body(self)))
            } catch {
                outcome.set(.failure(error))
            }
        }
        let end = self.clock.now.advanced(by: limit)
        if try self.turn(until: end, outcome) { return try outcome.value().get() }
        root.cancel()
        _ = try self.turn(until: end.advanced(by: Self.grace), outcome)
        throw Failure.overtime(seed: self.seed)
    }

    /// Runs jobs and moves the clock until there is an outcome.
    ///
    /// - Returns: Whether there was one in time.
    private func turn<Value>(until end: ContinuousClock.Instant, _ outcome: Outcome<Value>) throws -> Bool {
        while !outcome.isSet {
            if self.scheduler.step() { continue }
            guard let next = self.clock.nextDeadline else { throw Failure.stalled(seed: self.seed) }
            guard next <= end else { return false }
            self.clock.advance(to: next)
        }
        return true
    }
}

/// Where the body of a simulation leaves its result.
private final class Outcome<Value: Sendable>: Sendable {
    private let result = Mutex<Result<Value, any Error>?>(nil)

    var isSet: Bool { self.result.withLock { $0 != nil } }

    func set(_ result: Result<Value, any Error>) { self.result.withLock { $0 = result } }

    func value() throws -> Result<Value, any Error> {
        guard let result = self.result.withLock({ $0 }) else { throw CancellationError() }
        return result
    }
}
