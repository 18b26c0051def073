// SPDX-License-Identifier: Apache-2.0

package import ArgumentParser
import Glibc
import HoldfastCore

/// `holdfast bench`.
package struct BenchCommand: AsyncParsableCommand {
    /// What `--help` says.
    package static let configuration = CommandConfiguration(
        commandName: "bench",
        abstract: "Measure a store: cycles of acquire and release.",
        discussion: """
            Prints a line of JSON for each workload. seq1: one worker, one lock. par64: 64 workers, 64 locks. cont16: 16 \
            workers, one lock; handoffs_per_s counts changes of owner, jain is Jain's index over the workers' shares, \
            overlaps counts two owners at once and must be 0. rw_mix16: the same with nine of ten cycles shared. \
            upgrade: four workers that become exclusive from update. sem16: 16 workers, four permits.

            Of the cache's memory, with no store: read100 reads, r75w25 writes at every fourth call, through writes what \
            it did not find; 100,000 entries fit. Of a cache that processes share on a Redis, stampede: getters of one key \
            whose loader takes a while, once and all at the same moment, or with --expiry again and again.

            holdfast bench --workload par64 --seconds 10 --store redis://localhost
            holdfast bench --workload cont16 --processes 4
            holdfast bench --workload par64 --executor loop --store redis://localhost
            holdfast bench --held 100000 --seconds 30 --store redis://localhost
            holdfast bench --workload read100 --threads 2
            holdfast bench --workload read100 --threads 2 --peer mutex-lru
            holdfast bench --workload stampede --getters 200 --processes 4 --store redis://localhost
            holdfast bench --workload stampede --expiry 10s --ttl 1s --processes 4 --store redis://localhost
            """,
        subcommands: [HitRatioCommand.self]
    )

    @Option(
        name: .long,
        help:
            "Of locks: seq1, par64, cont16, rw_mix16, upgrade, sem16. Of the cache: read100, r75w25, through, stampede. Default: the first three."
    )
    var workload: BenchTask?
    @Option(name: .long, help: ArgumentHelp("How long to measure each.", valueName: "n"))
    var seconds: Double = 5
    @Option(name: .long, help: ArgumentHelp("How many processes to spread the workers over.", valueName: "n"))
    var processes = 1
    @Option(
        name: .long,
        help: ArgumentHelp("Instead: hold n locks, and measure what renewing them costs.", valueName: "n")
    )
    var held: Int?
    @Option(name: .long, help: "Where workers run: pool (Swift's threads) or loop (the thread of the store).")
    var executor = BenchExecutor.pool
    @Option(name: .long, help: ArgumentHelp("Of the cache: by how many threads.", valueName: "n"))
    var threads = 2
    @Option(
        name: .long,
        help: "Of the cache: whose memory; mutex-lru is a dictionary behind one lock, -flat a faster one."
    )
    var peer = CachePeer.holdfast
    @Option(
        name: .long,
        help: ArgumentHelp(
            "Of the cache: keys to ask for, 32 bits each, little-endian. Default: 4 million of a million, Zipf 0.99.",
            valueName: "file"
        )
    )
    var keys: String?
    @OptionGroup var stampede: StampedeOptions
    @OptionGroup var storage: StoreOptions

    /// Makes the command, for the parser.
    package init() {}

    /// Measures.
    package func run() async throws {
        guard self.seconds > 0, self.seconds <= 3600 else {
            throw CommandFailure(ExitStatus.configuration, "--seconds must be above 0 and at most 3600")
        }
        guard self.processes >= 1 else {
            throw CommandFailure(ExitStatus.configuration, "--processes must be at least 1")
        }
        if case .cache(let workload) = self.workload { return try await self.measure(workload) }
        let url = try self.storage.url()
        if case .stampede = self.workload {
            let figures = try await self.interruptible {
                try await self.stampede.measure(on: url, processes: self.processes)
            }
            return try Output.line(figures.text)
        }
        if let held = self.held { return try await self.measure(held: held, on: url) }
        var workloads = BenchWorkload.usual
        if case .locks(let workload) = self.workload { workloads = [workload] }
        for workload in workloads {
            if self.workload == nil { Output.note("\(workload.rawValue) for \(self.seconds) s on \(url)") }
            let report = try await self.interruptible { try await self.measure(workload, on: url) }
            let peer = "holdfast \(try StoreFactory.make(url).capabilities.name)"
            try Output.line(
                report.json(
                    peer: peer,
                    version: HoldfastProgram.version,
                    processes: min(self.processes, workload.workers)
                ).text
            )
        }
    }

    private func measure(_ workload: CacheWorkload) async throws {
        guard (1...1024).contains(self.threads), self.processes == 1, self.held == nil else {
            throw CommandFailure(
                ExitStatus.configuration,
                "--threads must be 1 to 1024, without --processes and --held, for a workload of the cache"
            )
        }
        let trace =
            try self.keys.map { try TraceFile.keys(of: $0) }
            ?? ZipfTrace.make(
                count: CacheWorkload.requests,
                keys: CacheWorkload.keys,
                exponent: CacheWorkload.exponent,
                seed: 42
            )
        let bench = CacheBench(
            workload,
            of: self.peer,
            threads: self.threads,
            seconds: self.seconds,
            trace: trace,
            capacity: CacheWorkload.capacity
        )
        try Output.line(try await bench.measure(version: HoldfastProgram.version).text)
    }

    private func measure(held: Int, on url: StoreURL) async throws {
        guard BenchHeld.counts.contains(held), self.workload == nil, self.processes == 1 else {
            throw CommandFailure(
                ExitStatus.configuration,
                "--held must be 1 to \(BenchHeld.counts.upperBound), without --workload and --processes"
            )
        }
        let run = String(UInt64.random(in: 0...UInt64.max), radix: 36)
        let figures = try await self.interruptible { [seconds] in
            try await BenchHeld(count: held, seconds: seconds).measure(
                on: try self.executor.store(url),
                run: run,
                version: HoldfastProgram.version
            )
        }
        try Output.line(figures.text)
    }

    /// Lets a signal end the workers before it ends this process, so that nothing is left behind.
    private func interruptible<Figures: Sendable>(
        _ work: @escaping @Sendable () async throws -> Figures
    ) async throws -> Figures {
        let inbox = SignalInbox()
        do {
            let figures = try await inbox.cancelling(work)
            if let signal = inbox.received { throw CommandFailure(ExitStatus.signalled(signal)) }
            return figures
        } catch is CancellationError {
            throw CommandFailure(ExitStatus.signalled(inbox.received ?? SIGINT))
        }
    }

    private func measure(_ workload: BenchWorkload, on url: StoreURL) async throws -> BenchReport {
        let run = String(UInt64.random(in: 0...UInt64.max), radix: 36)
        // One worker is one process, however many others may have.
        let processes = min(self.processes, workload.workers)
        guard processes > 1 else {
            let workers = BenchWorkers(workload, run: run, workers: Array(0..<workload.workers))
            let (logs, started, cpu) = try await workers.work(
                on: try self.executor.store(url),
                start: 0,
                seconds: self.seconds
            )
            return BenchReport(workload, logs: logs, started: started, cpu: cpu)
        }
        guard url != .memory else {
            throw CommandFailure(ExitStatus.configuration, "the memory store has one process; use another --store")
        }
        return try await self.measure(workload, on: url, run: run)
    }

    /// Workers in processes of their own; each leaves its logs in a file.
    private func measure(_ workload: BenchWorkload, on url: StoreURL, run: String) async throws -> BenchReport {
        try await ScratchDirectory.with { directory in
            // Time for all of them to start and to warm up.
            let start = BootTime.now + 1_000_000_000
            var children: [GuardedChild] = []
            for process in 0..<min(self.processes, workload.workers) {
                children.append(
                    try Program.worker(
                        [
                            "bench-worker", workload.rawValue, run, "\(process)",
                            "\(min(self.processes, workload.workers))", "\(start)",
                            "\(self.seconds)", "\(directory)/\(process)", "--executor", self.executor.rawValue,
                        ],
                        store: url.text
                    )
                )
            }
            guard await GuardedChild.ends(of: children).allSatisfy({ $0 == .exited(0) }) else {
                try Task.checkCancellation()
                throw CommandFailure(ExitStatus.unavailable, "a worker failed; see its message above")
            }
            var (logs, cpu) = ([BenchLog](), Int64(0))
            for process in 0..<min(self.processes, workload.workers) {
                var words = try WordFile.read("\(directory)/\(process)")[...]
                cpu += words.popFirst() ?? 0
                while let log = BenchLog(words: &words) { logs.append(log) }
            }
            return BenchReport(workload, logs: logs, started: start, cpu: cpu)
        }
    }
}

/// One process of `holdfast bench --processes`.
package struct BenchWorkerCommand: AsyncParsableCommand {
    /// Not shown by `--help`.
    package static let configuration = CommandConfiguration(commandName: "bench-worker", shouldDisplay: false)

    @Argument var workload: BenchWorkload
    @Argument var label: String
    @Argument var process: Int
    @Argument var processes: Int
    @Argument var start: Int64
    @Argument var seconds: Double
    @Argument var log: String
    @Option var executor = BenchExecutor.pool
    @OptionGroup var storage: StoreOptions

    /// Makes the command, for the parser.
    package init() {}

    /// Works and leaves the logs.
    package func run() async throws {
        let mine = (0..<self.workload.workers).filter { $0 % self.processes == self.process }
        let workers = BenchWorkers(self.workload, run: self.label, workers: mine)
        let (logs, _, cpu) = try await workers.work(
            on: try self.executor.store(try self.storage.url()),
            start: self.start,
            seconds: self.seconds
        )
        try WordFile.write([cpu] + logs.flatMap(\.words), to: self.log)
    }
}
