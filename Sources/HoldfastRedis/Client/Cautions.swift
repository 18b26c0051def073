// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// A server that is used all the same, and should be set otherwise.
public struct RedisCaution: Sendable, Hashable {
    /// The server, as `host:port`.
    public let server: String
    /// What can happen, and what to do about it.
    public let message: String
}

/// Passes on what connections find, each thing once.
package final class Cautions: Sendable {
    private struct State {
        var handler: (@Sendable (RedisCaution) -> Void)?
        var said: [RedisCaution] = []
    }

    /// How many are remembered: a server that names ever new masters costs no memory.
    private static let limit = 100

    private let state = Mutex(State())

    /// Starts with nothing said.
    package init() {}

    /// Says what to do; what was found before is said at once.
    func handle(_ handler: @escaping @Sendable (RedisCaution) -> Void) {
        let said = self.state.withLock { state in
            state.handler = handler
            return state.said
        }
        for caution in said { handler(caution) }
    }

    /// Says something, unless it was said.
    func say(_ message: String, of server: String) {
        let caution = RedisCaution(server: server, message: message)
        let handler = self.state.withLock { state -> (@Sendable (RedisCaution) -> Void)? in
            guard !state.said.contains(caution), state.said.count < Self.limit else { return nil }
            state.said.append(caution)
            return state.handler
        }
        handler?(caution)
    }
}
