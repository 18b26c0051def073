// SPDX-License-Identifier: Apache-2.0

package import ArgumentParser
package import HoldfastCore

/// How to ask for a lock.
package struct LockOptions: ParsableArguments {
    /// Whether others may hold it too.
    @Flag(name: .long, help: "Share the lock with others who share it: the same as --mode shared.")
    package var shared = false

    /// How to lock.
    @Option(
        name: .customLong("mode"),
        help: ArgumentHelp(
            "exclusive, shared, update (reads, one at a time) or permit:N (one of N). Default: exclusive.",
            valueName: "mode"
        ),
        transform: Self.parseMode
    )
    package var chosenMode: LockMode?

    /// The priority.
    @Option(
        name: .long,
        help: ArgumentHelp("How many seconds earlier to stand in the queue, -100 to 100.", valueName: "n")
    )
    package var priority = 0

    /// Whether the request may pass others.
    @Flag(name: .long, help: "Take the lock whenever it is free, and let others do so: faster, and not fair.")
    package var barging = false

    /// How long to wait.
    @Option(
        name: .long,
        help: ArgumentHelp(
            "How long to wait for the lock: 10s, 500ms, 0 for not at all. Default: forever.",
            valueName: "duration"
        ),
        transform: DurationText.parse
    )
    package var wait: Duration?

    /// The lease.
    @Option(
        name: .long,
        help: ArgumentHelp(
            "How long the lock lasts if its holder vanishes; renewed while it lives. 100ms to 24h.",
            valueName: "duration"
        ),
        transform: DurationText.parse
    )
    package var lease: Duration = .seconds(30)

    /// The lock delay.
    @Option(
        name: .long,
        help: ArgumentHelp("How long the lock rests after its holder vanished, at most 1m.", valueName: "duration"),
        transform: DurationText.parse
    )
    package var lockDelay: Duration = .zero

    /// The label.
    @Option(name: .long, help: ArgumentHelp("A text for people who look at the lock.", valueName: "text"))
    package var label: String?

    /// Makes options without values, for the parser.
    package init() {}

    /// What is said of names.
    package static let nameHelp: ArgumentHelp =
        "The name of the lock: 1 to 512 bytes, no control characters, no braces."

    /// The mode.
    package var mode: LockMode { self.chosenMode ?? (self.shared ? .shared : .exclusive) }
    /// The fairness.
    package var fairness: LockRequest.Fairness { self.barging ? .barging : .fair }

    private static func parseMode(_ text: String) throws -> LockMode {
        guard let mode = LockMode(text) else {
            throw ValidationError("'\(text)' is none of exclusive, shared, update and permit:N")
        }
        return mode
    }

    /// Checks what excludes each other, for the parser.
    package func validate() throws {
        if self.shared, let mode = self.chosenMode, mode != .shared {
            throw ValidationError("--shared and --mode \(mode) exclude each other")
        }
    }

    /// How long to wait for a store that does not answer: who does not want to wait for the lock does not want to wait
    /// for the store either.
    package var outageLimit: Duration { min(.seconds(5), max(.seconds(1), self.wait ?? .seconds(5))) }

    /// Says who is in the way, for somebody who did not get the lock.
    package func notAcquired(_ names: [String], _ error: LockError) -> CommandFailure {
        let name = names.map { TerminalText.escaped($0) }.joined(separator: "' and '")
        let waited = (self.wait ?? .zero) > .zero ? " within \(DurationText.short(self.wait ?? .zero))" : ""
        let holders = error.blockers.map(Self.describe).joined(separator: ", ")
        let who = holders.isEmpty ? "" : ": held by \(holders)"
        let hint = (self.wait ?? .zero) > .zero ? "`holdfast show` says who waits" : "--wait DURATION waits for it"
        return CommandFailure(
            ExitStatus.notAcquired,
            "'\(name)' \(names.count > 1 ? "were" : "was") not acquired\(waited)\(who) (\(hint))"
        )
    }

    private static func describe(_ holder: Holder) -> String {
        var text = TerminalText.escaped(holder.name)
        if let heldFor = holder.heldFor { text += " for \(DurationText.short(heldFor))" }
        if let remaining = holder.remaining { text += ", lease ends in \(DurationText.short(remaining))" }
        return text
    }
}
