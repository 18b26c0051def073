// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import NIOCore

/// What came of asking a server to tell of a key.
enum KeyTracking: Sendable {
    /// It tells when the key changes.
    case tells
    /// The key is not there any more.
    case gone
    /// It does not do that.
    case refused
    /// It did not answer, or not now.
    case failed

    /// Asks, and looks whether the key is there, with nothing in between.
    static func commands(_ key: String, for listener: Int64) -> [CommandRequest] {
        [
            .texts(["CLIENT", "TRACKING", "ON", "REDIRECT", String(listener), "OPTIN"]),
            .texts(["CLIENT", "CACHING", "YES"]),
            .texts(["GET", key]),
        ]
    }

    /// Reads the answers.
    init(_ outcomes: [CommandConnection.Outcome]) {
        for case .success(.error(let line)) in outcomes.dropLast() {
            self = RedisErrorLine(line).retry == .never ? .refused : .failed
            return
        }
        switch outcomes.last {
        case .success(.null): self = .gone
        case .success(.string): self = .tells
        // Another type of key, elsewhere, or no connection: asking will tell.
        default: self = .failed
        }
    }
}

extension CommandConnection {
    /// Has the server tell the connection for messages when a key changes.
    ///
    /// - Parameters:
    ///   - key: The key.
    ///   - listener: The number of the connection that is told.
    ///   - deadline: When to give up.
    ///   - done: Told what came of it, once, on any thread.
    func track(
        _ key: String,
        for listener: Int64,
        by deadline: NIODeadline,
        _ done: @escaping @Sendable (KeyTracking) -> Void
    ) {
        self.submit(by: deadline, all: KeyTracking.commands(key, for: listener)) { done(KeyTracking($0)) }
    }
}
