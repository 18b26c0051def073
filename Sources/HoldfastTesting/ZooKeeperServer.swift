// SPDX-License-Identifier: Apache-2.0

import Glibc
import HoldfastCore
import Synchronization

/// A real ZooKeeper server for tests: on a free port of the loopback device, in a directory of its own, without
/// flushes to disk, and with short sessions.
///
/// The server is stopped by its pid when the object goes away; should the test process die first, a watcher process
/// kills it. Methods that talk to the server block their thread for a moment (at most ``patience``), which is for
/// tests only.
public final class ZooKeeperServer: Sendable {
    /// What makes a server one of an ensemble.
    struct Member: Sendable {
        let id: Int
        /// Lines `server.N=…` of all members.
        let servers: [String]
        /// Whether it lets clients read while it has no majority.
        var readsAlone = false
        /// How many ticks a new leader and its followers wait for each other.
        ///
        /// Whoever was chosen and cannot be reached keeps the others for so long.
        var patience = 25
    }

    /// How long to wait for the server's answers.
    public static let patience: Duration = .seconds(5)
    /// How long a server may take to come up: a Java program on a busy machine.
    public static let startLimit: Duration = .seconds(30)
    /// The server's tick: sessions may be 2 to 300 of them long.
    public static let tick: Duration = .milliseconds(200)

    private static let jars = ["zookeeper.jar", "slf4j-simple.jar"]

    private let child = Mutex<ChildProcess?>(nil)
    private let readsAlone: Bool
    /// The server's private directory.
    public let directory: String
    /// The port.
    public let port: UInt16

    /// Starts a server and waits until it answers.
    ///
    /// - Throws: ``LockError`` when a program is missing or the server does not come up.
    public convenience init() async throws {
        // The port is free when it is picked; should another process be quicker, the server does not come up.
        try self.init(port: LoopbackSocket.freePort(), member: nil)
        try await self.start()
    }

    init(port: UInt16, member: Member?) throws {
        self.port = port
        self.readsAlone = member?.readsAlone ?? false
        // Memory, where there is some: the server writes a log.
        let base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : nil
        self.directory = try TemporaryDirectory.make(prefix: "holdfast-zookeeper-", in: base)
        var lines = [
            "tickTime=200", "minSessionTimeout=400", "maxSessionTimeout=60000", "initLimit=\(member?.patience ?? 25)",
            "syncLimit=10",
            "dataDir=\(self.directory)", "clientPort=\(port)", "clientPortAddress=127.0.0.1", "maxClientCnxns=0",
            "4lw.commands.whitelist=*", "admin.enableServer=false",
        ]
        if let member {
            lines += member.servers
            try Self.write("\(member.id)", to: "\(self.directory)/myid")
        }
        try Self.write(lines.joined(separator: "\n") + "\n", to: "\(self.directory)/zoo.cfg")
    }

    deinit {
        self.kill()
        TemporaryDirectory.remove(self.directory)
    }

    /// The address, as a client library wants it.
    public var hosts: String { "127.0.0.1:\(self.port)" }

    /// The URL of the server.
    public var url: String { "zookeeper://\(self.hosts)" }

    /// The pid, or `nil` while the server is down.
    public var pid: Int32? { self.child.withLock { $0?.pid } }

    /// Starts the server, again after ``kill()`` with all that it knew, and waits until it answers.
    ///
    /// - Throws: ``LockError`` when a program is missing or the server does not come up.
    public func start() async throws {
        try self.launch()
        try await self.awaitAnswers()
    }

    /// Starts the server again after ``kill()``, and does not wait: alone it may have no majority.
    ///
    /// - Throws: ``LockError`` when a program is missing.
    public func launchAgain() throws { try self.launch() }

    func launch() throws {
        guard let java = ChildProcess.find("java") else {
            throw LockError(.storeUnavailable, "java not found; run `make bootstrap`")
        }
        let jars = Self.jars.map { "/usr/share/java/\($0)" }
        guard access(jars[0], R_OK) == 0 else {
            throw LockError(.storeUnavailable, "\(jars[0]) not found; run `make bootstrap`")
        }
        let child = try ChildProcess(
            java,
            [
                "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx192m", "-Dzookeeper.forceSync=no",
                "-Dreadonlymode.enabled=\(self.readsAlone)", "-Dzookeeper.admin.enableServer=false",
                "-Dorg.slf4j.simpleLogger.logFile=\(self.directory)/server.log",
                "-cp", jars.joined(separator: ":"), "org.apache.zookeeper.server.quorum.QuorumPeerMain",
                "\(self.directory)/zoo.cfg",
            ]
        )
        self.child.withLock { $0 = child }
    }

    func awaitAnswers() async throws {
        let deadline = ContinuousClock.now.advanced(by: Self.startLimit)
        while ContinuousClock.now < deadline {
            if let text = try? self.command("srvr"), text.contains("Mode:") { return }
            if self.child.withLock({ $0?.hasExited ?? true }) { break }
            try await Task.sleep(for: .milliseconds(20))
        }
        self.kill()
        throw LockError(.storeUnavailable, "ZooKeeper did not come up on port \(self.port)")
    }

    /// Stops the server with SIGKILL and waits for its end; does nothing when it is down.
    public func kill() { self.child.withLock { $0.take() }?.kill() }

    /// Stops the server with SIGSTOP: connections stay open and nothing is answered.
    public func pause() { self.child.withLock { $0 }?.signal(SIGSTOP) }

    /// Lets a paused server go on.
    public func resume() { self.child.withLock { $0 }?.signal(SIGCONT) }

    /// Sends a four-letter word, such as `srvr` or `dump`.
    ///
    /// - Parameter word: The word.
    /// - Returns: The answer.
    /// - Throws: ``LockError`` when the server does not answer.
    public func command(_ word: String) throws -> String {
        var socket = try LoopbackSocket(port: self.port, patience: Self.patience)
        defer { socket.close() }
        try socket.write(Array(word.utf8))
        return String(decoding: try socket.rest(), as: UTF8.self)
    }

    /// What the server does: `standalone`, `leader`, `follower`, or `nil` when it does not answer.
    public var mode: String? {
        guard let text = try? self.command("srvr"), let mark = text.firstRange(of: "Mode: ") else { return nil }
        return String(text[mark.upperBound...].prefix { $0 != "\n" })
    }

    // MARK: - Sessions

    /// The session that an ephemeral node lives with.
    ///
    /// - Parameter path: The whole path of a node; the first whose path begins with it is taken.
    /// - Returns: The session's id, or `nil` when there is no such node.
    /// - Throws: ``LockError`` when the server does not answer.
    public func session(ofNode path: String) throws -> Int64? {
        var session: Int64?
        for line in try self.command("dump").split(separator: "\n") {
            if line.hasPrefix("0x"), line.hasSuffix(":") {
                session = UInt64(line.dropFirst(2).dropLast(), radix: 16).map { Int64(bitPattern: $0) }
            } else if line.hasPrefix("\t\(path)") {
                return session
            }
        }
        return nil
    }

    /// Ends a session as if its time were over: the server removes its nodes, and its owner learns when it asks next.
    ///
    /// Takes the session over on a connection of its own, which takes no more than its id, and closes it.
    ///
    /// - Parameter session: The session's id.
    /// - Throws: ``LockError`` when the server does not answer, or its owner takes it back again and again.
    public func expire(_ session: Int64) throws {
        // ConnectRequest: protocol version, last transaction seen, timeout, session, password, read-only.
        var connect: [UInt8] = []
        connect.append(bigEndian: Int32(0))
        connect.append(bigEndian: Int64(0))
        connect.append(bigEndian: Int32(10_000))
        connect.append(bigEndian: session)
        connect.append(bigEndian: Int32(16))
        connect += Self.password(of: session)
        connect.append(0)
        // RequestHeader: transaction id, and the operation that closes a session.
        var close: [UInt8] = []
        close.append(bigEndian: Int32(1))
        close.append(bigEndian: Int32(-11))
        for _ in 0..<20 {
            var socket = try LoopbackSocket(port: self.port, patience: Self.patience)
            defer { socket.close() }
            try socket.send(frame: connect)
            try socket.send(frame: close)
            // Its owner may take it back before the second; then the connection ends.
            guard let answer = try? socket.frame(), answer.count >= 16 else { continue }
            let answered = answer[8..<16].reduce(0 as UInt64) { $0 << 8 | UInt64($1) }
            guard Int64(bitPattern: answered) == session else { return }
            _ = try? socket.rest()
        }
        throw LockError(.storeUnavailable, "the session's owner takes it back again and again")
    }

    /// The password of a session: what `java.util.Random(id ^ 0xB3415C00)` gives, as the server makes it.
    private static func password(of session: Int64) -> [UInt8] {
        var seed = (UInt64(bitPattern: session) ^ 0xB341_5C00 ^ 0x5_DEEC_E66D) & ((1 << 48) - 1)
        var password: [UInt8] = []
        for _ in 0..<4 {
            seed = (seed &* 0x5_DEEC_E66D &+ 0xB) & ((1 << 48) - 1)
            let word = UInt32(truncatingIfNeeded: seed >> 16)
            // `Random.nextBytes` gives each word from its lowest byte up.
            for shift in [0, 8, 16, 24] as [UInt32] { password.append(UInt8(truncatingIfNeeded: word >> shift)) }
        }
        return password
    }

    private static func write(_ text: String, to path: String) throws {
        let file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw LockError(.storeUnavailable, "cannot write \(path): error \(errno)") }
        defer { close(file) }
        let bytes = Array(text.utf8)
        guard Glibc.write(file, bytes, bytes.count) == bytes.count else {
            throw LockError(.storeUnavailable, "cannot write \(path): error \(errno)")
        }
    }
}

extension [UInt8] {
    fileprivate mutating func append(bigEndian number: some FixedWidthInteger) {
        Swift.withUnsafeBytes(of: number.bigEndian) { self.append(contentsOf: $0) }
    }
}

extension LoopbackSocket {
    /// Sends a frame: its length in four bytes, and the bytes.
    fileprivate func send(frame: [UInt8]) throws {
        var bytes: [UInt8] = []
        bytes.append(bigEndian: Int32(frame.count))
        try self.write(bytes + frame)
    }

    /// Reads a frame.
    fileprivate mutating func frame() throws -> [UInt8] {
        let length = try self.bytes(4).reduce(0) { $0 << 8 | Int($1) }
        guard (0...1 << 20).contains(length) else { throw LockError(.storeCorrupted, "a frame of \(length) bytes") }
        return try self.bytes(length)
    }
}
