// SPDX-License-Identifier: Apache-2.0

import CHoldfastProcess
import Holdfast
package import HoldfastCore

/// The workers of one process.
package struct BenchWorkers: Sendable {
    private let workload: BenchWorkload
    private let run: String
    private let workers: [Int]

    /// How many cycles there are between looks whether it is to stop: a look costs as much as a clock's.
    private static let calm = 64

    /// Makes workers.
    ///
    /// - Parameters:
    ///   - workload: What they do.
    ///   - run: What tells this run from others.
    ///   - workers: Their numbers.
    package init(_ workload: BenchWorkload, run: String, workers: [Int]) {
        self.workload = workload
        self.run = run
        self.workers = workers
    }

    /// Works for a time.
    ///
    /// - Parameters:
    ///   - store: Where the locks live.
    ///   - start: When to start, in boot time; at once when it is past.
    ///   - seconds: How long to work.
    /// - Returns: A log for each worker, when work started, and the processor time that it took.
    /// - Throws: `LockError` when the store cannot work; what fails later is counted in the logs.
    package func work(
        on store: any LockStore,
        start: Int64,
        seconds: Double
    ) async throws -> (logs: [BenchLog], started: Int64, cpu: Int64) {
        let services = try (0..<(self.workload.isContended ? self.workers.count : 1)).map { _ in
            try LockService(store: store)
        }
        return try await withThrowingTaskGroup(of: Void.self) { group in
            for service in services { group.addTask { try await service.run() } }
            defer { group.cancelAll() }
            try await self.warmUp(services)
            let early = start - BootTime.now
            if early > 0 { try await Task.sleep(for: .nanoseconds(early), clock: .continuous) }
            let (started, cpu) = (BootTime.now, hf_cpu_time())
            let end = max(start, started) + Int64(seconds * 1e9)
            let logs = await withTaskExecutorPreference(StoreFactory.executor(of: store)) {
                await self.logs(services, until: end)
            }
            return (logs, started, hf_cpu_time() - cpu)
        }
    }

    /// Opens connections and loads scripts before the clock starts.
    private func warmUp(_ services: [LockService]) async throws {
        for (index, worker) in self.workers.enumerated() {
            let resource = try self.workload.resource(of: worker, run: "\(self.run)-warm")
            let mode = self.workload.mode(of: worker, cycle: 0)
            try await services[index % services.count].acquire(resource, mode: mode).release()
        }
    }

    private func logs(_ services: [LockService], until end: Int64) async -> [BenchLog] {
        await withTaskGroup(of: BenchLog.self) { group in
            for (index, worker) in self.workers.enumerated() {
                let service = services[index % services.count]
                group.addTask { await self.log(of: worker, service, until: end) }
            }
            return await group.reduce(into: []) { $0.append($1) }
        }
    }

    private func log(of worker: Int, _ service: LockService, until end: Int64) async -> BenchLog {
        var log = BenchLog(worker: worker)
        guard let resource = try? self.workload.resource(of: worker, run: self.run) else { return log }
        var asked = BootTime.now
        var cycle = 0
        while asked < end, cycle % Self.calm != 0 || !Task.isCancelled {
            do {
                var mode = self.workload.mode(of: worker, cycle: cycle)
                cycle += 1
                let lease = try await service.acquire(resource, mode: mode)
                if self.workload == .upgrade {
                    try await lease.upgrade()
                    mode = lease.mode
                }
                let entered = BootTime.now
                let left = self.workload.isContended ? BootTime.now : entered
                _ = await lease.release()
                let ended = BootTime.now
                log.add(asked: asked, entered: entered, left: left, ended: ended, mode: mode)
                asked = ended
                // Where permits are left nobody ever waits: let all workers have a thread now and then.
                if self.workload == .sem16 { await Task.yield() }
            } catch {
                log.fail(error)
                asked = BootTime.now
                await Task.yield()
            }
        }
        return log
    }
}
