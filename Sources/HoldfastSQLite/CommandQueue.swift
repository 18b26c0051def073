// SPDX-License-Identifier: Apache-2.0

import Dispatch
import Synchronization

/// The store's own thread of execution: one serial queue on which everything that touches the file runs.
///
/// Nothing here runs on the cooperative pool, and nothing looks at the caller's cancellation. Jobs that came while
/// others ran are handed over together, so that they share a transaction. After the last job the thread looks for new
/// ones for a few microseconds before it sleeps: waking a thread costs about as much as a whole transaction.
final class CommandQueue<Job: Sendable>: Sendable {
    private struct State {
        var jobs: [Job] = []
        var isRunning = false
    }

    /// How long to look for another job before sleeping: about as long as the caller takes to wake up, which is 50 µs
    /// and more on a virtual machine, so that a caller who goes on at once finds this thread awake.
    private static var spinLimit: Duration { .microseconds(100) }
    /// The most jobs in one batch: about 5 ms during which no other process can write.
    private static var maximumBatch: Int { 64 }

    private let queue = DispatchQueue(label: "holdfast.sqlite.commands", qos: .userInitiated)
    private let state = Mutex(State())
    private let arrivals = Atomic<Int>(0)
    private let spins: Bool
    private let run: @Sendable ([Job]) -> Bool

    /// Makes a queue.
    ///
    /// - Parameters:
    ///   - spins: Whether to look for more jobs before sleeping; a waste when there is one processor.
    ///   - run: Runs a batch and says whether somebody got an answer who may go on at once; called on the queue, one
    ///     batch after the other.
    init(spins: Bool, run: @escaping @Sendable ([Job]) -> Bool) {
        self.spins = spins
        self.run = run
    }

    /// Adds a job.
    ///
    /// Returns at once.
    func submit(_ job: Job) {
        let mustStart = self.state.withLock { state in
            state.jobs.append(job)
            defer { state.isRunning = true }
            return !state.isRunning
        }
        self.arrivals.add(1, ordering: .releasing)
        if mustStart { self.queue.async { self.drain() } }
    }

    private func drain() {
        var expectsMore = false
        while true {
            let seen = self.arrivals.load(ordering: .acquiring)
            if let batch = self.nextBatch() {
                expectsMore = self.run(batch)
            } else if !self.spins || !expectsMore || !self.spin(while: seen) {
                let isOver = self.state.withLock { state in
                    guard state.jobs.isEmpty else { return false }
                    state.isRunning = false
                    return true
                }
                if isOver { return }
            }
        }
    }

    private func nextBatch() -> [Job]? {
        self.state.withLock { state in
            guard !state.jobs.isEmpty else { return nil }
            let batch = Array(state.jobs.prefix(Self.maximumBatch))
            state.jobs.removeFirst(batch.count)
            return batch
        }
    }

    /// Looks for a new job for a moment.
    ///
    /// - Returns: Whether one came.
    private func spin(while seen: Int) -> Bool {
        let start = ContinuousClock.now
        repeat {
            for _ in 0..<64 where self.arrivals.load(ordering: .relaxed) != seen { return true }
        } while start.duration(to: .now) < Self.spinLimit
        return false
    }
}
