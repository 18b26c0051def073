// SPDX-License-Identifier: Apache-2.0

import Glibc
import Holdfast
import HoldfastCore

/// One run of the demo: starts the workers, does them harm, shows what happens, and judges it.
package struct DemoRun: Sendable {
    /// How many workers.
    package let workers: Int
    /// How long.
    package let seconds: Double
    /// What is indexed.
    package let directory: String
    /// What is printed.
    package let format: OutputFormat

    /// How often the log is read: a rebuild takes ten times as long.
    private static let tick: Duration = .milliseconds(20)
    /// How often holders and waiters are looked at.
    private static let ticksPerLook = 5
    /// How long workers have to end by themselves after the end.
    private static let patience: Int64 = 5_000_000_000

    /// Makes a run.
    package init(workers: Int, seconds: Double, directory: String, format: OutputFormat) {
        self.workers = workers
        self.seconds = seconds
        self.directory = directory
        self.format = format
    }

    /// Runs the demo.
    ///
    /// - Parameters:
    ///   - url: Where the lock lives.
    ///   - scratch: Where the cache and the log are.
    /// - Returns: What the log proves, with a problem when the script was not played to its end.
    /// - Throws: ``CommandFailure`` or `LockError` when it could not be run, `CancellationError` when interrupted.
    package func run(on url: StoreURL, scratch: String) async throws -> (verdict: DemoVerdict, problems: [String]) {
        let start = BootTime.now
        let end = start + Int64(self.seconds * 1e9)
        var children: [GuardedChild] = []
        // However this ends, nothing is left behind: SIGKILL also ends a stopped worker.
        defer { for child in children { child.setDeadline(0) } }
        for number in 1...self.workers {
            children.append(
                try Program.worker(
                    ["demo-worker", "\(number)", self.directory, scratch, "\(end)"],
                    store: url.text,
                    deadline: end + Self.patience
                )
            )
        }
        let store = try StoreFactory.make(url)
        let workers = children
        let played: (events: [DemoEvent], script: DemoScript)
        do {
            played = try await withLockService(store: store) { service in
                try await self.play(workers, service, scratch: scratch, start: start, end: end)
            }
        } catch {
            // Until they are gone they could still write to the directory that is removed next.
            for child in workers { child.setDeadline(0) }
            _ = await GuardedChild.ends(of: workers)
            throw error
        }
        let verdict = DemoVerdict(played.events, killed: played.script.killed)
        return (verdict, verdict.problems + self.problems(played.script, verdict))
    }

    private func problems(_ script: DemoScript, _ verdict: DemoVerdict) -> [String] {
        var problems: [String] = []
        if !script.isDone { problems.append("the time was too short to kill one worker and to stop another") }
        if verdict.takeover == nil { problems.append("nobody took over from the killed worker") }
        if verdict.requests == 0 { problems.append("no request was served") }
        return problems
    }

    private func play(
        _ children: [GuardedChild],
        _ service: LockService,
        scratch: String,
        start: Int64,
        end: Int64
    ) async throws -> (events: [DemoEvent], script: DemoScript) {
        var view = DemoView(format: self.format, style: .forOutput(), start: start)
        var script = DemoScript(start: start, end: end)
        let log = DemoLog(path: "\(scratch)/log")
        var (events, place, ticks) = ([DemoEvent](), 0, 0)
        var numbers: [Int32: Int] = [:]
        while true {
            let isOver = children.allSatisfy { $0.process == nil } && BootTime.now > end
            for event in log.events(after: &place) {
                events.append(event)
                if let text = Self.text(event) { try view.news(text, at: event.time) }
                guard case .signal(let signal, let worker) = script.action(after: event, now: BootTime.now) else {
                    continue
                }
                children[worker - 1].signal(signal)
                try view.news(Self.text(signal, worker), at: BootTime.now)
            }
            if isOver { break }
            if ticks % Self.ticksPerLook == 0 {
                let status = try await service.status(of: DemoWorker.resource(scratch: scratch))
                for (index, child) in children.enumerated() {
                    if let process = child.process { numbers[process] = index + 1 }
                }
                try view.state(status, workers: numbers, requests: DemoVerdict.requests(events))
            }
            ticks += 1
            try await Task.sleep(for: Self.tick, clock: .continuous)
        }
        try view.clear()
        return (events, script)
    }

    private static func text(_ event: DemoEvent) -> String? {
        switch event.kind {
        case .begin: "worker \(event.worker) rebuilds the cache for expiry \(event.generation), token \(event.token)"
        case .wrote: "worker \(event.worker) wrote it"
        case .refused: "worker \(event.worker) is REFUSED by the cache: a newer token than \(event.token) was there"
        case .leave, .ended, .requests: nil
        }
    }

    private static func text(_ signal: Int32, _ worker: Int) -> String {
        switch signal {
        case SIGKILL: "worker \(worker) is killed in the middle of it (SIGKILL)"
        case SIGSTOP: "worker \(worker) is stopped in the middle of it (SIGSTOP), past the end of its lease"
        default: "worker \(worker) goes on (SIGCONT) and does not know yet that its lease is over"
        }
    }
}
