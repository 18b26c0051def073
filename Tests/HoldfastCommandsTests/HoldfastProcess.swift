// SPDX-License-Identifier: Apache-2.0

import Glibc
import HoldfastCommands
import HoldfastTesting
import Testing

/// The real `holdfast` program, started by a test; it ends with the test process at the latest.
final class HoldfastProcess: Sendable {
    /// How one run ended.
    struct Result: Sendable {
        let status: Int32
        let output: String
        let errors: String
    }

    private let child: GuardedChild
    private let files: String

    /// The program that was built beside this test bundle, or the one that `HOLDFAST_PROGRAM` names: compilers make
    /// other mistakes in programs that they optimise.
    static let program: String = {
        if let path = getenv("HOLDFAST_PROGRAM") { return String(cString: path) }
        var buffer = [CChar](repeating: 0, count: 4096)
        let count = readlink("/proc/self/exe", &buffer, buffer.count - 1)
        let path = String(decoding: buffer.prefix(max(0, count)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return path.split(separator: "/").dropLast().reduce("") { "\($0)/\($1)" } + "/holdfast"
    }()

    /// Undoes what a background job of a script is started with: Ctrl-C ignored, which what we start would inherit and,
    /// rightly, go on ignoring when a test sends it.
    private static let signalsAreHeard: Void = {
        let ignored = unsafeBitCast(SIG_IGN, to: Int.self)
        for number in [SIGINT, SIGQUIT, SIGHUP, SIGTERM] {
            var action = sigaction()
            guard sigaction(number, nil, &action) == 0 else { continue }
            if unsafeBitCast(action.__sigaction_handler.sa_handler, to: Int.self) == ignored {
                Glibc.signal(number, SIG_DFL)
            }
        }
    }()

    /// Starts `holdfast` with arguments.
    init(_ arguments: [String], in directory: TestDirectory, variables: [String: String] = [:]) throws {
        try #require(access(Self.program, X_OK) == 0, "\(Self.program) is missing; build the product holdfast")
        _ = Self.signalsAreHeard
        self.files = directory.fresh("process")
        var environment = ["PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": directory.path, "HOLDFAST": Self.program]
        environment["HOLDFAST_STORE"] = "sqlite:\(directory.path)/locks.db"
        environment.merge(variables) { $1 }
        self.child = try GuardedChild(
            ([
                "/bin/sh", "-c",
                "files=$1; shift; exec \"$HOLDFAST\" \"$@\" >\"$files.out\" 2>\"$files.err\" </dev/null",
            ]
                + ["sh", self.files] + arguments).map { CText($0) },
            environment: environment.map { CText("\($0.key)=\($0.value)") }
        )
    }

    deinit { self.child.setDeadline(0) }

    /// Runs `holdfast` to its end.
    static func run(
        _ arguments: [String],
        in directory: TestDirectory,
        variables: [String: String] = [:]
    ) async throws -> Result {
        try await HoldfastProcess(arguments, in: directory, variables: variables).end()
    }

    /// The process id, once it runs.
    var pid: Int32 {
        get async throws {
            try await eventually { self.child.process != nil }
            return try #require(self.child.process)
        }
    }

    /// Sends a signal to the program alone, not to what it started.
    func signal(_ number: Int32) async throws { kill(try await self.pid, number) }

    /// Waits for its end.
    func end() async -> Result {
        let end = await self.child.end()
        return Result(status: end.status, output: self.output, errors: self.errors)
    }

    /// What it has said so far.
    var output: String { TestDirectory.text(of: "\(self.files).out") }
    /// What it has complained about so far.
    var errors: String { TestDirectory.text(of: "\(self.files).err") }
}

/// A directory of one test's own.
final class TestDirectory: Sendable {
    let path: String

    init() throws { self.path = try TemporaryDirectory.make(prefix: "holdfast-cli-") }

    deinit { TemporaryDirectory.remove(self.path) }

    /// A name that no other file has.
    func fresh(_ name: String) -> String { "\(self.path)/\(name)-\(UInt64.random(in: 0...UInt64.max))" }

    /// The text of a file; empty when there is none.
    static func bytes(of path: String) -> [UInt8] {
        let descriptor = open(path, O_RDONLY)
        guard descriptor >= 0 else { return [] }
        defer { close(descriptor) }
        return (try? DemoIndex.bytes(from: descriptor)) ?? []
    }

    static func text(of path: String) -> String { String(decoding: Self.bytes(of: path), as: UTF8.self) }

    /// The text of a file of this directory, without its last line end.
    func text(_ name: String) -> String {
        let text = Self.text(of: "\(self.path)/\(name)")
        return text.hasSuffix("\n") ? String(text.dropLast()) : text
    }

    /// Makes a file of this directory.
    func write(_ text: String, to name: String) throws { try SecretFile.write(text, to: "\(self.path)/\(name)") }
}

/// Waits for a condition that another process brings about.
func eventually(
    within limit: Duration = .seconds(20),
    _ condition: () throws -> Bool,
    location: SourceLocation = #_sourceLocation
) async throws {
    let deadline = ContinuousClock.now + limit
    while try !condition() {
        try #require(ContinuousClock.now < deadline, "the condition did not come true", sourceLocation: location)
        try await Task.sleep(for: .milliseconds(2))
    }
}

/// Whether a process lives; a dead one that nobody has reaped does not.
func isAlive(_ pid: Int32) -> Bool {
    let stat = TestDirectory.proc("/proc/\(pid)/stat")
    guard let end = stat.lastIndex(of: ")") else { return false }
    return !stat[end...].hasPrefix(") Z") && !stat[end...].hasPrefix(") X")
}

extension TestDirectory {
    /// The text of a file of /proc, which has no size.
    static func proc(_ path: String) -> String {
        let descriptor = open(path, O_RDONLY)
        guard descriptor >= 0 else { return "" }
        defer { close(descriptor) }
        return (try? SecretFile.text(from: descriptor, named: path)) ?? ""
    }
}
