// SPDX-License-Identifier: Apache-2.0

package import ArgumentParser
import Glibc
import HoldfastCore

/// The options of `holdfast bench --workload stampede`.
package struct StampedeOptions: ParsableArguments {
    @Option(name: .long, help: ArgumentHelp("Of stampede: how many getters, over all processes.", valueName: "n"))
    var getters = 200
    @Option(
        name: .customLong("load-time"),
        help: ArgumentHelp("Of stampede: how long a load takes.", valueName: "duration"),
        transform: DurationText.parse
    )
    var loadTime: Duration = .milliseconds(200)
    @Option(
        name: .long,
        help: ArgumentHelp("Of stampede: how long to go on asking; without it, each asks once.", valueName: "duration"),
        transform: DurationText.parse
    )
    var expiry: Duration?
    @Option(
        name: .customLong("ttl"),
        help: ArgumentHelp("Of stampede: how long the entry is fresh.", valueName: "duration"),
        transform: DurationText.parse
    )
    var timeToLive: Duration = .seconds(1)

    /// Makes options without values, for the parser.
    package init() {}

    /// The most getters: each is a task, and each call leaves a number.
    private static let mostGetters = 100_000
    /// The longest that a load or a run may take.
    private static let longest: Duration = .seconds(3600)

    private func check(processes: Int) throws {
        guard (1...Self.mostGetters).contains(self.getters), processes <= self.getters else {
            throw CommandFailure(
                ExitStatus.configuration,
                "--getters must be 1 to \(Self.mostGetters), and at least one for each process"
            )
        }
        guard self.loadTime >= .zero, self.loadTime <= Self.longest, self.timeToLive > .zero,
            self.timeToLive <= Self.longest, self.expiry.map({ $0 > .zero && $0 <= Self.longest }) ?? true
        else {
            throw CommandFailure(
                ExitStatus.configuration,
                "--load-time, --ttl and --expiry are at most an hour, and the last two above 0"
            )
        }
    }

    /// Measures.
    ///
    /// - Parameters:
    ///   - url: The Redis.
    ///   - processes: Over how many processes the getters are spread.
    /// - Returns: The line to print.
    /// - Throws: ``CommandFailure``.
    func measure(on url: StoreURL, processes: Int) async throws -> JSONValue {
        try self.check(processes: processes)
        _ = try CacheParts.make(url)
        let stampede = Stampede(
            getters: self.getters,
            loadTime: self.loadTime,
            expiry: self.expiry,
            timeToLive: self.timeToLive,
            run: String(UInt64.random(in: 0...UInt64.max), radix: 36)
        )
        // Time for all of them to start and to connect.
        let start = BootTime.now + 1_000_000_000
        guard processes > 1 else {
            let log = try await stampede.work(on: url, start: start)
            return stampede.json(log, processes: 1, version: HoldfastProgram.version)
        }
        var log = Stampede.Log()
        try await ScratchDirectory.with { directory in
            var children: [GuardedChild] = []
            for process in 0..<processes {
                let getters = self.getters / processes + (process < self.getters % processes ? 1 : 0)
                let arguments = [
                    "stampede-worker", stampede.run, "\(getters)", "\(self.loadTime.nanoseconds)",
                    "\(self.expiry?.nanoseconds ?? 0)", "\(self.timeToLive.nanoseconds)", "\(start)",
                    "\(directory)/\(process)",
                ]
                children.append(try Program.worker(arguments, store: url.text))
            }
            guard await GuardedChild.ends(of: children).allSatisfy({ $0 == .exited(0) }) else {
                try Task.checkCancellation()
                throw CommandFailure(ExitStatus.unavailable, "a worker failed; see its message above")
            }
            for process in 0..<processes {
                if let one = Stampede.Log(words: try WordFile.read("\(directory)/\(process)")) { log.add(one) }
            }
        }
        return stampede.json(log, processes: processes, version: HoldfastProgram.version)
    }
}

/// One process of `holdfast bench --workload stampede`.
package struct StampedeWorkerCommand: AsyncParsableCommand {
    /// Not shown by `--help`.
    package static let configuration = CommandConfiguration(commandName: "stampede-worker", shouldDisplay: false)

    @Argument var label: String
    @Argument var getters: Int
    @Argument var loadTime: Int64
    @Argument var expiry: Int64
    @Argument var timeToLive: Int64
    @Argument var start: Int64
    @Argument var log: String
    @OptionGroup var storage: StoreOptions

    /// Makes the command, for the parser.
    package init() {}

    /// Gets, and leaves the log.
    package func run() async throws {
        let stampede = Stampede(
            getters: self.getters,
            loadTime: .nanoseconds(self.loadTime),
            expiry: self.expiry > 0 ? .nanoseconds(self.expiry) : nil,
            timeToLive: .nanoseconds(self.timeToLive),
            run: self.label
        )
        let log = try await stampede.work(on: try self.storage.url(), start: self.start)
        try WordFile.write(log.words, to: self.log)
    }
}
