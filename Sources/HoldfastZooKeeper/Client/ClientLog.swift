// SPDX-License-Identifier: Apache-2.0

import CZooKeeper
import Synchronization

/// What the C library has to say, for whoever wants to hear it.
///
/// The library has one stream of lines for the process. While a server is down it writes a hundred lines a second; at
/// most ten in ten seconds are passed on, with the number of those that were not. Session ids are credentials (whoever
/// knows one can end the session), so numbers in hexadecimal are blackened.
public enum ZooKeeperLog {
    /// How bad it is.
    public enum Level: Int, Sendable, Comparable {
        /// Something failed.
        case error = 1
        /// Something is odd.
        case warning
        /// Something happened.
        case info

        /// Orders from bad to harmless.
        public static func < (left: Level, right: Level) -> Bool { left.rawValue < right.rawValue }
    }

    /// How many answers had a code that this version does not know; they were treated as refusals.
    public static var unknownCodes: Int { ClientLog.shared.unknownCodes }

    /// Passes lines on from now on, instead of whoever got them before.
    ///
    /// - Parameters:
    ///   - level: The least important lines that are wanted.
    ///   - handler: Gets lines, on threads of the library; must not block. `nil` to end.
    public static func observe(upTo level: Level = .warning, _ handler: (@Sendable (Level, String) -> Void)?) {
        ClientLog.shared.observe(upTo: level, handler)
    }
}

/// Takes the library's lines.
final class ClientLog: Sendable {
    static let shared = ClientLog()

    /// How many lines are passed on in each ``window``.
    private static let maximumLines = 10
    private static let window: Duration = .seconds(10)

    private struct State {
        var handler: (@Sendable (ZooKeeperLog.Level, String) -> Void)?
        var windowEnd: ContinuousClock.Instant = .now
        var passed = 0
        var dropped = 0
    }

    private let state = Mutex(State())
    private let unknown = Atomic<Int>(0)

    private init() {
        // Until somebody wants more; errors are few unless a server is down, and then they are counted here.
        zoo_set_debug_level(ZOO_LOG_LEVEL_ERROR)
    }

    func observe(upTo level: ZooKeeperLog.Level, _ handler: (@Sendable (ZooKeeperLog.Level, String) -> Void)?) {
        // Whoever is new has missed nothing yet.
        self.state.withLock { $0 = State(handler: handler) }
        zoo_set_debug_level(ZooLogLevel(rawValue: UInt32(handler == nil ? 1 : level.rawValue)))
    }

    /// How many answers had a code that this version does not know.
    var unknownCodes: Int { self.unknown.load(ordering: .relaxed) }

    /// Counts an answer with a code that this version does not know, and says so.
    func count(unknown code: ServerCode) {
        self.unknown.add(1, ordering: .relaxed)
        self.say(.warning, "the server answered with a code that this version does not know: \(code.rawValue)")
    }

    /// Says something of our own.
    func say(_ level: ZooKeeperLog.Level, _ text: String) {
        // In the shape of the library's lines, among which it is counted.
        let name =
            switch level {
            case .error: "ERROR"
            case .warning: "WARN"
            case .info: "INFO"
            }
        self.take(":ZOO_\(name)@holdfast@0: \(text)")
    }

    /// Takes a line such as `2026-11-23 10:00:00,000:123(0x7f):ZOO_WARN@function@12: text`.
    func take(_ line: String) {
        let now = ContinuousClock.now
        let (handler, dropped) = self.state.withLock {
            state -> ((@Sendable (ZooKeeperLog.Level, String) -> Void)?, Int) in
            guard let handler = state.handler else { return (nil, 0) }
            if now >= state.windowEnd {
                state.windowEnd = now.advanced(by: Self.window)
                state.passed = 0
            }
            guard state.passed < Self.maximumLines else {
                state.dropped += 1
                return (nil, 0)
            }
            state.passed += 1
            defer { state.dropped = 0 }
            return (handler, state.dropped)
        }
        guard let handler else { return }
        if dropped > 0 { handler(.warning, "\(dropped) more lines of the ZooKeeper client were not shown") }
        let (level, text) = Self.read(line)
        handler(level, text)
    }

    /// Takes a line apart, and blackens what may be a credential.
    static func read(_ line: String) -> (ZooKeeperLog.Level, String) {
        guard let mark = line.firstRange(of: ":ZOO_") else { return (.warning, Self.blackened(line)) }
        let rest = line[mark.upperBound...]
        let level: ZooKeeperLog.Level =
            rest.hasPrefix("ERROR") ? .error : rest.hasPrefix("WARN") ? .warning : .info
        guard let text = rest.firstRange(of: ": ") else { return (level, Self.blackened(String(rest))) }
        return (level, Self.blackened(String(rest[text.upperBound...])))
    }

    private static func blackened(_ text: String) -> String {
        var result = ""
        var rest = Substring(text)
        while let mark = rest.firstRange(of: "0x") {
            result += rest[..<mark.lowerBound]
            rest = rest[mark.upperBound...].drop { $0.isHexDigit }
            result += "0x…"
        }
        return String((result + rest).unicodeScalars.map { $0.value < 0x20 ? " " : Character($0) })
    }
}
