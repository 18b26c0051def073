// SPDX-License-Identifier: Apache-2.0

package import ArgumentParser
import Glibc
import HoldfastCache
import Synchronization

/// `holdfast cache warm`.
package struct CacheWarmCommand: AsyncParsableCommand {
    /// What `--help` says.
    package static let configuration = CommandConfiguration(
        commandName: "warm",
        abstract: "Store many values at once.",
        discussion: """
            holdfast cache warm products products.jsonl --if-absent
            export-products | holdfast cache warm products -

            Each line is an object: {"key":"42","value":{"name":"anvil"},"ttl":"5m","tags":["shop/7"]}; ttl and tags may \
            be left out. Of several lines with one key the last counts, with --if-absent the first. Lines that are wrong are named by their number, \
            and the others are loaded all the same: the exit code is 65 then. When interrupted it says how far it got.
            """
    )

    @OptionGroup var target: CacheTarget
    @Argument(help: "A file with a JSON value on each line, or - for stdin.") var file: String
    @Flag(name: .customLong("if-absent"), help: "Leave alone what a service could still use.")
    var onlyIfAbsent = false
    @OptionGroup var output: FormatOptions

    /// Makes the command, for the parser.
    package init() {}

    /// Warms.
    package func run() async throws {
        let cache = try self.target.open()
        let work = CacheWarming(cache.editor, namespace: self.target.namespace, onlyIfAbsent: self.onlyIfAbsent)
        let inbox = SignalInbox()
        do {
            let file = self.file
            try await inbox.cancelling { try await work.load(file) }
        } catch is CancellationError {
            try self.tell(work.tally)
            throw CommandFailure(ExitStatus.signalled(inbox.received ?? SIGINT), work.tally.stop)
        } catch let error as CacheError {
            try self.tell(work.tally)
            let failure = CommandFailure(error)
            throw CommandFailure(failure.status, "\(work.tally.stop): \(failure.message ?? error.message)")
        }
        try self.tell(work.tally)
        let bad = work.tally.bad
        if let untold = work.tally.untold {
            let failure = CommandFailure(untold)
            let words = "running services were not told of what is loaded: \(failure.message ?? untold.message)"
            guard bad > 0 else { throw CommandFailure(failure.status, words) }
            Output.note(words)
        }
        if bad > 0 { throw CommandFailure(ExitStatus.dataError) }
    }

    private func tell(_ tally: CacheWarming.Tally) throws {
        guard self.output.format == .table else {
            return try Output.line(
                JSONValue.object([
                    .init("lines", .integer(tally.lines)), .init("loaded", .integer(tally.loaded)),
                    .init("kept", .integer(tally.kept)), .init("bad", .integer(tally.bad)),
                ]).text
            )
        }
        let kept = self.onlyIfAbsent ? ", left \(tally.kept) alone" : ""
        let bad = tally.bad > 0 ? ", \(tally.bad) bad" : ""
        try Output.line("loaded \(tally.loaded) of \(tally.lines) lines\(kept)\(bad)")
    }
}

/// Loads lines into a cache, a batch at a time.
final class CacheWarming: Sendable {
    /// How far it is.
    struct Tally: Sendable {
        /// Lines that were read, empty ones aside.
        var lines: Int64 = 0
        /// Values that were written.
        var loaded: Int64 = 0
        /// Values that were not, since there are some.
        var kept: Int64 = 0
        /// Lines that were wrong.
        var bad: Int64 = 0
        /// Up to which line of the file all is done.
        var done: Int64 = 0
        /// Why services were not told of some values, though these are written.
        var untold: CacheError?

        /// What is said when it ends early.
        var stop: String { "stopped after line \(self.done); \(self.loaded) values are loaded" }
    }

    /// How many bytes of values go in one batch: a batch is in memory as a whole.
    private static let batchBytes = 4 << 20
    /// How many wrong lines are named.
    private static let mostNamed: Int64 = 20

    private let editor: TierEditor
    private let namespace: String
    private let isOnlyIfAbsent: Bool
    private let state = Mutex(Tally())

    init(_ editor: TierEditor, namespace: String, onlyIfAbsent isOnlyIfAbsent: Bool) {
        self.editor = editor
        self.namespace = namespace
        self.isOnlyIfAbsent = isOnlyIfAbsent
    }

    /// How far it is.
    var tally: Tally { self.state.withLock { $0 } }

    /// Loads a file.
    ///
    /// - Throws: ``CommandFailure``, `CacheError`, or `CancellationError` between two batches.
    func load(_ file: String) async throws {
        let input = try InputReader(file)
        var progress = Progress()
        var batch: [TierEditor.Draft] = []
        var keys = Set<[UInt8]>()
        var (bytes, number) = (0, Int64(0))
        while let line = try await input.line(limit: WarmLine.limit) {
            try Task.checkCancellation()
            number += 1
            guard let draft = self.read(line, number) else { continue }
            let isRepeated = keys.contains(Array(draft.key.utf8))
            if isRepeated || batch.count == CacheLimits.maximumBatch || bytes + draft.value.count > Self.batchBytes {
                try await self.write(batch, upTo: number - 1)
                (batch, keys, bytes) = ([], [], 0)
                progress.show("line \(number) …")
            }
            batch.append(draft)
            keys.insert(Array(draft.key.utf8))
            bytes += draft.value.count
        }
        try await self.write(batch, upTo: number)
        progress.clear()
        let unnamed = self.tally.bad - Self.mostNamed
        if unnamed > 0 { Output.note("and \(unnamed) more lines are wrong") }
    }

    /// What a line says; `nil` for an empty or a wrong one.
    private func read(_ line: InputReader.Line, _ number: Int64) -> TierEditor.Draft? {
        let problem: WarmLine.Problem
        switch line {
        case .bytes(let bytes) where bytes.allSatisfy({ $0 == 0x20 || $0 == 0x09 || $0 == 0x0D }): return nil
        case .bytes(let bytes):
            do throws(WarmLine.Problem) {
                let draft = try WarmLine.draft(bytes, in: self.namespace)
                self.state.withLock { $0.lines += 1 }
                return draft
            } catch {
                problem = error
            }
        case .tooLong: problem = WarmLine.Problem(description: "it is longer than any value may be")
        }
        let bad = self.state.withLock { tally in
            tally.lines += 1
            tally.bad += 1
            return tally.bad
        }
        if bad <= Self.mostNamed { Output.note("line \(number): \(problem)") }
        return nil
    }

    private func write(_ batch: [TierEditor.Draft], upTo number: Int64) async throws {
        if !batch.isEmpty {
            let written = try await self.editor.put(batch, onlyIfAbsent: self.isOnlyIfAbsent)
            let count = Int64(written.versions.count { $0 != nil })
            self.state.withLock { tally in
                tally.loaded += count
                tally.kept += Int64(batch.count) - count
                tally.done = number
                tally.untold = tally.untold ?? written.untold
            }
            // What the server refuses, it refuses each time, and services can do without; else it may be gone.
            if let untold = written.untold, untold.code != .tierRefused {
                throw CacheError(
                    untold.code,
                    "running services were not told of the last of them: \(untold.message)",
                    underlying: untold
                )
            }
        }
        self.state.withLock { $0.done = number }
    }
}
