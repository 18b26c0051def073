// SPDX-License-Identifier: Apache-2.0

internal import Synchronization

/// A process of a ``Simulation``: a task executor whose jobs run one at a time, in an order drawn from the seed.
///
/// Tasks that run on it, and their child tasks, stop when it is paused, as on SIGSTOP: timers go off and replies come
/// in meanwhile, but nothing runs until it is resumed.
public final class SimulatedProcess: TaskExecutor {
    /// The name, for messages and histories.
    public let name: String
    let index: Int
    private let scheduler: SeededScheduler
    private let clock: ManualClock

    init(name: String, index: Int, scheduler: SeededScheduler, clock: ManualClock) {
        self.name = name
        self.index = index
        self.scheduler = scheduler
        self.clock = clock
    }

    /// Makes a job ready to run.
    public func enqueue(_ job: consuming ExecutorJob) {
        self.scheduler.enqueue(UnownedJob(job), of: self)
    }

    /// Stops the process until ``resume()``.
    public func pause() { self.scheduler.pause(self.index) }

    /// Lets the process go on.
    public func resume() { self.scheduler.resume(self.index) }

    /// Stops the process for a while.
    ///
    /// - Parameter duration: How long, in virtual time.
    public func pause(for duration: Duration) {
        self.pause()
        self.clock.schedule(after: duration) { self.resume() }
    }
}

/// The ready jobs of a simulation.
final class SeededScheduler: Sendable {
    private struct Ready {
        let job: UnownedJob
        let process: SimulatedProcess
    }

    private struct State {
        var ready: [Ready] = []
        var held: [Ready] = []
        var paused: Set<Int> = []
        var generator: SeededGenerator
        var steps = 0
    }

    private let state: Mutex<State>

    init(generator: SeededGenerator) { self.state = Mutex(State(generator: generator)) }

    /// How many jobs ran so far.
    var steps: Int { self.state.withLock { $0.steps } }

    func enqueue(_ job: UnownedJob, of process: SimulatedProcess) {
        self.state.withLock { state in
            let ready = Ready(job: job, process: process)
            if state.paused.contains(process.index) { state.held.append(ready) } else { state.ready.append(ready) }
        }
    }

    func pause(_ process: Int) {
        self.state.withLock { state in
            state.paused.insert(process)
            state.held += state.ready.filter { $0.process.index == process }
            state.ready.removeAll { $0.process.index == process }
        }
    }

    func resume(_ process: Int) {
        self.state.withLock { state in
            state.paused.remove(process)
            state.ready += state.held.filter { $0.process.index == process }
            state.held.removeAll { $0.process.index == process }
        }
    }

    /// Runs one ready job, drawn at random.
    ///
    /// - Returns: Whether there was one.
    func step() -> Bool {
        let next = self.state.withLock { state -> Ready? in
            guard !state.ready.isEmpty else { return nil }
            state.steps += 1
            let index = Int.random(in: state.ready.indices, using: &state.generator)
            state.ready.swapAt(index, state.ready.count - 1)
            return state.ready.removeLast()
        }
        guard let next else { return false }
        next.job.runSynchronously(on: next.process.asUnownedTaskExecutor())
        return true
    }
}
