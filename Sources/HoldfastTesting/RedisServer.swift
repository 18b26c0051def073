// SPDX-License-Identifier: Apache-2.0

import Glibc
import HoldfastCore
import Synchronization

/// A real `redis-server` for tests: on a free port of the loopback device, in a directory of its own, without
/// persistence.
///
/// The server is stopped by its pid when the object goes away; should the test process die first, a watcher process
/// kills it. Methods that talk to the server block their thread for a moment (at most ``patience``), which is for
/// tests only.
public final class RedisServer: Sendable {
    private struct State {
        var child: ChildProcess?
        var port: UInt16
    }

    /// How long to wait for the server's answers.
    public static let patience: Duration = .seconds(5)

    private let state: Mutex<State>
    private let arguments: [String]
    private let hasOwnClock: Bool
    /// The server's private directory.
    public let directory: String

    /// Starts a server and waits until it answers.
    ///
    /// - Parameters:
    ///   - arguments: More arguments for `redis-server`, such as `["--maxmemory", "4mb"]`.
    ///   - hasOwnClock: Whether its wall clock can be set with ``setClock(ahead:)``; needs libfaketime.
    /// - Throws: ``LockError`` when a program is missing or the server does not come up.
    public init(arguments: [String] = [], hasOwnClock: Bool = false) async throws {
        self.directory = try TemporaryDirectory.make(prefix: "holdfast-redis-")
        self.arguments = arguments
        self.hasOwnClock = hasOwnClock
        self.state = Mutex(State(child: nil, port: 0))
        // The port is free when it is picked, but another process may be quicker: try a few.
        for attempt in 1... {
            let port = try LoopbackSocket.freePort()
            self.state.withLock { $0.port = port }
            do {
                try await self.start()
                return
            } catch {
                if attempt == 3 { throw error }
            }
        }
    }

    deinit {
        self.kill()
        TemporaryDirectory.remove(self.directory)
    }

    /// A port of loopback that nobody uses now, for a second one of a server.
    ///
    /// - Throws: ``LockError`` when there is none.
    public static func freePort() throws -> UInt16 { try LoopbackSocket.freePort() }

    /// The port.
    public var port: UInt16 { self.state.withLock { $0.port } }

    /// The URL of the server's database 0.
    public var url: String { "redis://127.0.0.1:\(self.port)" }

    /// The pid, or `nil` while the server is down.
    public var pid: Int32? { self.state.withLock { $0.child?.pid } }

    /// Starts the server again after ``kill()``, on the same port and empty, and waits until it answers.
    ///
    /// - Throws: ``LockError`` when the program is missing or the server does not come up.
    public func start() async throws {
        let port = self.port
        guard let program = ChildProcess.find("redis-server") else {
            throw LockError(.storeUnavailable, "redis-server not found; run `make bootstrap`")
        }
        if self.hasOwnClock { try self.setClock(ahead: .zero) }
        let clock = try self.hasOwnClock ? self.ownClock() + [program] : []
        let child = try ChildProcess(
            self.hasOwnClock ? "/usr/bin/env" : program,
            clock + [
                "--port", "\(port)", "--bind", "127.0.0.1", "--dir", self.directory, "--save", "", "--appendonly",
                "no", "--logfile", "redis.log", "--daemonize", "no", "--enable-debug-command", "local",
            ] + self.arguments
        )
        self.state.withLock { $0.child = child }
        let deadline = ContinuousClock.now.advanced(by: Self.patience)
        while ContinuousClock.now < deadline {
            // Any reply will do: a server with a password answers NOAUTH, one that loads its data LOADING.
            if (try? self.execute("PING")) != nil { return }
            if child.hasExited { break }
            try await Task.sleep(for: .milliseconds(5))
        }
        self.kill()
        throw LockError(.storeUnavailable, "redis-server did not come up on port \(port); see its log for why")
    }

    /// Stops the server with SIGKILL and waits for its end.
    ///
    /// Does nothing when it is down.
    public func kill() {
        guard let child = self.state.withLock({ $0.child.take() }) else { return }
        child.kill()
        // What libfaketime leaves behind of a killed process.
        if self.hasOwnClock {
            for name in ["faketime_shm_\(child.pid)", "sem.faketime_sem_\(child.pid)"] { unlink("/dev/shm/\(name)") }
        }
    }

    /// Sets the clock of a server that has its own, from one call of the server to the next.
    ///
    /// - Parameter offset: How far it is ahead of the machine's clock; negative for behind. Whole milliseconds.
    /// - Throws: ``LockError`` when the server has no clock of its own.
    public func setClock(ahead offset: Duration) throws {
        guard self.hasOwnClock, let file = fopen("\(self.directory)/clock", "w") else {
            throw LockError(.invalidArgument, "the server has no clock of its own")
        }
        let milliseconds = offset.components.seconds * 1000 + offset.components.attoseconds / 1_000_000_000_000_000
        fputs("\(milliseconds < 0 ? "-" : "+")\(Double(milliseconds.magnitude) / 1000)\n", file)
        fclose(file)
    }

    /// What runs a program under a clock that a file sets; libc's allocator goes first, since jemalloc hangs while
    /// libfaketime starts.
    private func ownClock() throws -> [String] {
        let places = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib"]
        let libraries = places.map { "\($0)/faketime/libfaketimeMT.so.1" }
        guard let library = libraries.first(where: { access($0, R_OK) == 0 })
        else {
            throw LockError(.storeUnavailable, "libfaketime not found; run `make bootstrap`")
        }
        return [
            "LD_PRELOAD=\(library):libc.so.6", "FAKETIME_TIMESTAMP_FILE=\(self.directory)/clock", "FAKETIME_NO_CACHE=1",
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
        ]
    }

    /// Kills the server and starts it again: it comes back without any data.
    ///
    /// - Throws: ``LockError`` when the server does not come up.
    public func restart() async throws {
        self.kill()
        try await self.start()
    }

    /// Stops the server with SIGSTOP: connections stay open and nothing is answered.
    public func pause() { self.state.withLock { $0.child }?.signal(SIGSTOP) }

    /// Lets a paused server go on.
    public func resume() { self.state.withLock { $0.child }?.signal(SIGCONT) }

    /// Sends one command on a connection of its own, as a foreign client would, and gives the reply as text.
    ///
    /// - Parameter command: The command and its arguments.
    /// - Returns: The reply; `(nil)` for null, elements of arrays one to a line, errors as the server's error line.
    /// - Throws: ``LockError`` when the server does not answer.
    @discardableResult
    public func execute(_ command: String...) throws -> String { try self.execute(command) }

    /// Sends one command on a connection of its own, as a foreign client would, and gives the reply as text.
    ///
    /// - Parameter command: The command and its arguments.
    /// - Returns: The reply; `(nil)` for null, elements of arrays one to a line, errors as the server's error line.
    /// - Throws: ``LockError`` when the server does not answer.
    @discardableResult
    public func execute(_ command: [String]) throws -> String { try Self.execute(command, port: self.port) }

    package static func execute(_ command: [String], port: UInt16) throws -> String {
        var socket = try LoopbackSocket(port: port, patience: Self.patience)
        defer { socket.close() }
        var text = "*\(command.count)\r\n"
        for argument in command { text += "$\(argument.utf8.count)\r\n\(argument)\r\n" }
        try socket.write(Array(text.utf8))
        return try Self.reply(from: &socket)
    }

    /// Waits, at most 30 s, until something holds that servers of ours agree on among themselves.
    static func until(_ what: String, _ holds: () throws -> Bool) async throws {
        for _ in 0..<3000 {
            if (try? holds()) == true { return }
            try await Task.sleep(for: .milliseconds(10))
        }
        throw LockError(.storeUnavailable, "after 30 s it was not so that \(what)")
    }

    private static func reply(from socket: inout LoopbackSocket) throws -> String {
        let line = try socket.line()
        let rest = String(line.dropFirst())
        switch line.first {
        case "+", "-", ":": return rest
        case "$":
            guard let count = Int(rest), count >= 0 else { return "(nil)" }
            return String(decoding: try socket.bytes(count + 2).dropLast(2), as: UTF8.self)
        case "*":
            guard let count = Int(rest), count >= 0 else { return "(nil)" }
            return try (0..<count).map { _ in try Self.reply(from: &socket) }.joined(separator: "\n")
        default: throw LockError(.storeCorrupted, "not a Redis reply: \(line)")
        }
    }
}
