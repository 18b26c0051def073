// SPDX-License-Identifier: Apache-2.0

import Glibc
import HoldfastCore
import HoldfastTesting

/// A program of another language that uses the same locks, for as long as this object lives.
final class Partner: Sendable {
    /// Whose locks it uses.
    enum Library: Sendable {
        case curator
        case kazoo
    }

    private static let jars = [
        "curator-recipes", "curator-framework", "curator-client", "zookeeper", "zookeeper-jute", "slf4j-api",
        "slf4j-nop", "guava", "metrics-core", "netty-all",
    ].map { "/usr/share/java/\($0).jar" }

    private let child: ChildProcess
    private let outcome: String
    private let name: String

    /// Starts a program.
    ///
    /// - Parameters:
    ///   - library: Whose locks.
    ///   - hosts: The servers.
    ///   - path: The lock's node.
    ///   - log: Where it writes.
    ///   - name: Its name in the log.
    ///   - rounds: How often it takes the lock; with 0 it holds until it is told to go.
    ///   - mode: `mutex`, `read`, `write`, or an errand of its own.
    init(
        _ library: Library,
        _ hosts: String,
        _ path: String,
        log: OverlapLog,
        name: String,
        rounds: Int = 0,
        mode: String = "mutex"
    ) async throws {
        let arguments = [hosts, path, log.path, name, "\(rounds)", mode]
        self.name = name
        self.outcome = "\(log.directory)/\(name).done"
        switch library {
        case .curator:
            let classes = try await CuratorClasses.shared.directory
            let classpath = (Self.jars + [classes]).joined(separator: ":")
            let options = ["-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", classpath]
            self.child = try ChildProcess(Self.program("java"), options + ["CuratorPartner"] + arguments)
        case .kazoo:
            // Debian's own interpreter, which has Debian's kazoo.
            self.child = try ChildProcess("/usr/bin/python3", [Self.source("KazooPartner.py")] + arguments)
        }
    }

    /// Waits until the program has ended well.
    func end() async throws {
        let limit = ContinuousClock.now.advanced(by: .seconds(60))
        while ContinuousClock.now < limit {
            if let text = OverlapLog.text(of: self.outcome), !text.isEmpty {
                guard text == "ok" else { throw LockError(.storeUnavailable, "\(self.name): \(text)") }
                return
            }
            if self.child.hasExited, OverlapLog.text(of: self.outcome) == nil {
                throw LockError(.storeUnavailable, "\(self.name) could not run; run `make bootstrap`")
            }
            try await Task.sleep(for: .milliseconds(20))
        }
        throw LockError(.storeUnavailable, "\(self.name) does not end")
    }

    static func program(_ name: String) throws -> String {
        guard let path = ChildProcess.find(name) else {
            throw LockError(.storeUnavailable, "\(name) not found; run `make bootstrap`")
        }
        return path
    }

    static func source(_ name: String) -> String {
        "\(#filePath.split(separator: "/").dropLast().reduce(into: "") { $0 += "/\($1)" })/Partners/\(name)"
    }

    fileprivate static var classpath: String { Self.jars.joined(separator: ":") }
}

/// The Java partner, compiled once.
private actor CuratorClasses {
    static let shared = CuratorClasses()

    private var compiling: Task<String, any Error>?

    var directory: String {
        get async throws {
            let task = self.compiling ?? Task { try await Self.compile() }
            self.compiling = task
            return try await task.value
        }
    }

    private static func compile() async throws -> String {
        let directory = try TemporaryDirectory.make(prefix: "holdfast-partner-")
        let source = Partner.source("CuratorPartner.java")
        let compiler = try ChildProcess(
            Partner.program("javac"),
            ["-cp", Partner.classpath, "-d", directory, source]
        )
        while !compiler.hasExited { try await Task.sleep(for: .milliseconds(50)) }
        guard access("\(directory)/CuratorPartner.class", R_OK) == 0 else {
            throw LockError(.storeUnavailable, "CuratorPartner.java does not compile; run `make bootstrap`")
        }
        return directory
    }
}

/// A file in which all holders of a lock, of whatever program, write when they enter and leave.
final class OverlapLog: Sendable {
    let directory: String
    let path: String

    init() throws {
        self.directory = try TemporaryDirectory.make(prefix: "holdfast-overlap-")
        self.path = "\(self.directory)/log"
    }

    deinit { TemporaryDirectory.remove(self.directory) }

    func enter(_ name: String, reads: Bool = false) { self.append("enter \(reads ? "r" : "w") \(name)\n") }

    func leave(_ name: String, reads: Bool = false) { self.append("leave \(reads ? "r" : "w") \(name)\n") }

    /// Tells a holder to go.
    func go() { Self.write("go", to: "\(self.path).go") }

    /// The lines so far.
    var lines: [Substring] { (Self.text(of: self.path) ?? "").split(separator: "\n") }

    /// Checks that writers were alone, and counts the turns of each.
    func verify() throws -> [String: Int] {
        var turns: [String: Int] = [:]
        var inside: [(name: Substring, reads: Bool)] = []
        for (number, line) in self.lines.enumerated() {
            let words = line.split(separator: " ")
            guard words.count == 3 else { throw LockError(.storeCorrupted, "line \(number): \(line)") }
            let reads = words[1] == "r"
            if words[0] == "leave" {
                guard let index = inside.firstIndex(where: { $0.name == words[2] && $0.reads == reads }) else {
                    throw LockError(.storeCorrupted, "line \(number): \(words[2]) was not inside")
                }
                inside.remove(at: index)
                continue
            }
            guard inside.isEmpty || (reads && inside.allSatisfy(\.reads)) else {
                throw LockError(.lost, "line \(number): \(words[2]) came in beside \(inside.map(\.name))")
            }
            inside.append((words[2], reads))
            turns[String(words[2]), default: 0] += 1
        }
        return turns
    }

    private func append(_ line: String) { Self.write(line, to: self.path) }

    private static func write(_ text: String, to path: String) {
        let file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
        guard file >= 0 else { return }
        defer { close(file) }
        let bytes = Array(text.utf8)
        _ = Glibc.write(file, bytes, bytes.count)
    }

    static func text(of path: String) -> String? {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return nil }
        defer { close(file) }
        var text: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65_536)
        while case let count = read(file, &chunk, chunk.count), count > 0 { text += chunk[..<count] }
        return String(decoding: text, as: UTF8.self)
    }
}
