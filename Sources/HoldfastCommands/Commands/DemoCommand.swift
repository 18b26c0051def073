// SPDX-License-Identifier: Apache-2.0

package import ArgumentParser
import Glibc
import HoldfastCore

/// `holdfast demo`.
package struct DemoCommand: AsyncParsableCommand {
    /// What `--help` says.
    package static let configuration = CommandConfiguration(
        commandName: "demo",
        abstract: "Show several processes that guard one cache, and what happens when they die.",
        discussion: """
            Workers serve requests by the cache engine from one cache file that indexes a directory and is stale after \
            a second. Whoever finds it stale rebuilds it under a lock of the store. One worker is killed in the middle of \
            a rebuild, one is stopped past the end of its lease and continued: its write comes too late and the file \
            refuses its token. Exits 0 only if no two workers ever held the lock at once and each expiry was rebuilt \
            exactly once. Needs no server: without --store and $HOLDFAST_STORE it uses a SQLite file of its own.

            holdfast demo
            holdfast demo --workers 8 --seconds 30 --store redis://localhost
            """
    )

    @Option(name: .long, help: ArgumentHelp("How many workers, 2 to 64.", valueName: "n"))
    var workers = 4
    @Option(
        name: .long,
        help: ArgumentHelp(
            "How long, at least 6. Default: 10, on ZooKeeper three sessions if that is more.",
            valueName: "n"
        )
    )
    var seconds: Double?
    @Option(
        name: .long,
        help: ArgumentHelp("What to index. Default: ./Sources, else the current directory.", valueName: "path")
    )
    var directory: String?
    @OptionGroup var storage: StoreOptions
    @OptionGroup var output: FormatOptions

    /// Makes the command, for the parser.
    package init() {}

    private static let usualSeconds: Double = 10
    /// What a dead worker, a stopped one, and the rest take.
    private static let sessions: Double = 3

    /// How long it takes on a store.
    private func seconds(on url: StoreURL) throws -> Double {
        guard let session = try StoreFactory.session(of: url) else { return self.seconds ?? Self.usualSeconds }
        let needed = (Self.sessions * session.inSeconds).rounded(.up)
        guard let seconds = self.seconds else { return max(Self.usualSeconds, needed) }
        guard seconds >= needed else {
            throw CommandFailure(
                ExitStatus.configuration,
                "a worker that is killed blocks the others for its session of \(session.brief): use --seconds "
                    + "\(Int(needed)), or a shorter session, as in ?session=2s&tick=500ms"
            )
        }
        return seconds
    }

    /// Runs the demo.
    package func run() async throws {
        guard (2...64).contains(self.workers), (6...86_400).contains(self.seconds ?? Self.usualSeconds) else {
            throw CommandFailure(ExitStatus.configuration, "the demo takes 2 to 64 workers and 6 to 86400 seconds")
        }
        let inbox = SignalInbox()
        do {
            try await inbox.cancelling { try await ScratchDirectory.with { try await self.run(scratch: $0) } }
        } catch is CancellationError {
            throw CommandFailure(ExitStatus.signalled(inbox.received ?? SIGINT))
        }
    }

    private func run(scratch: String) async throws {
        var url = try self.storage.url()
        if url == .sqlite(path: nil) { url = .sqlite(path: "\(scratch)/locks.db") }
        guard url != .memory else {
            throw CommandFailure(ExitStatus.configuration, "the memory store has one process, the demo several")
        }
        let directory = self.directory ?? (access("Sources", R_OK | X_OK) == 0 ? "Sources" : ".")
        guard access(directory, R_OK | X_OK) == 0 else {
            let problem = Errno.text
            throw CommandFailure(
                ExitStatus.configuration,
                "cannot index \(TerminalText.escaped(directory)): \(problem)"
            )
        }
        let demo = DemoRun(
            workers: self.workers,
            seconds: try self.seconds(on: url),
            directory: directory,
            format: self.output.format
        )
        let (verdict, problems) = try await demo.run(on: url, scratch: scratch)
        for problem in problems { Output.note("demo: \(problem)") }
        try Output.line(self.json(verdict, store: url, isOK: problems.isEmpty).text)
        if !problems.isEmpty { throw CommandFailure(ExitStatus.failure) }
    }

    private func json(_ verdict: DemoVerdict, store: StoreURL, isOK: Bool) -> JSONValue {
        .object([
            .init("demo", .string(isOK ? "ok" : "failed")),
            .init("store", .string(store.scheme)),
            .init("workers", .integer(Int64(self.workers))),
            .init("requests", .integer(verdict.requests)),
            .init("rebuilds", .integer(Int64(verdict.rebuilds))),
            .init("expiries", .integer(Int64(verdict.expiries))),
            .init("overlaps", .integer(Int64(verdict.overlaps))),
            .init("refused_stale_writes", .integer(Int64(verdict.refusedStaleWrites))),
            .init("takeover_ms", verdict.takeover.map { .decimal(Double($0) / 1e6, places: 1) } ?? .null),
        ])
    }
}

/// One worker process of `holdfast demo`.
package struct DemoWorkerCommand: AsyncParsableCommand {
    /// Not shown by `--help`.
    package static let configuration = CommandConfiguration(commandName: "demo-worker", shouldDisplay: false)

    @Argument var number: Int
    @Argument var directory: String
    @Argument var scratch: String
    @Argument var end: Int64
    @OptionGroup var storage: StoreOptions

    /// Makes the command, for the parser.
    package init() {}

    /// Works.
    package func run() async throws {
        let worker = DemoWorker(
            number: self.number,
            directory: self.directory,
            scratch: self.scratch,
            end: self.end
        )
        let leases = worker.leases
        try await self.storage.withService(observer: leases) { service, _ in
            try await worker.run(on: service, leases)
        }
    }
}
