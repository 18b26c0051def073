// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import NIOCore

/// A master and our connections to it: one for commands, one for messages, which is made when somebody waits, and one for
/// commands that wait for replicas.
package final class RedisMaster: Sendable {
    /// How it is reached.
    package let configuration: RedisConfiguration
    /// For commands.
    package let connection: CommandConnection
    /// For messages.
    package let subscription: Subscription
    /// For commands that wait for replicas, where any do.
    let patient: PatientConnection?

    init(
        _ configuration: RedisConfiguration,
        _ connection: CommandConnection,
        _ subscription: Subscription,
        patient: PatientConnection? = nil
    ) {
        self.configuration = configuration
        self.connection = connection
        self.subscription = subscription
        self.patient = patient
    }

    /// Where it is.
    package var address: RedisAddress { RedisAddress(host: self.configuration.host, port: self.configuration.port) }

    /// Where the server is that answers now: behind Sentinel the one that was found last, and of a socket its path.
    package var place: String {
        self.configuration.socketPath ?? (self.connection.found ?? self.address).description
    }

    /// Where to send messages to us.
    var channel: String { self.subscription.messages }

    /// Leaves, with those connections that lead to it, a server that is not the master any more.
    func startAnew(unlessAt address: RedisAddress) {
        self.connection.startAnew(unlessAt: address)
        self.patient?.startAnew(unlessAt: address)
        self.subscription.startAnew(unlessAt: address)
    }

    /// Closes for good.
    func close() {
        self.connection.close()
        self.patient?.close()
        self.subscription.close()
    }

    /// What came of asking a server to tell of a key.
    enum Tracking: Sendable {
        /// It tells when the key changes.
        case tells
        /// The key is not there any more.
        case gone
        /// It does not do that.
        case refused
        /// It did not answer, or not now.
        case failed
    }

    /// Has the server tell the connection for messages when a key changes.
    ///
    /// - Parameters:
    ///   - key: The key.
    ///   - listener: The number of the connection that is told.
    ///   - deadline: When to give up.
    /// - Returns: What came of it.
    func track(_ key: String, for listener: Int64, by deadline: NIODeadline) async -> Tracking {
        let outcomes = await self.connection.send(
            by: deadline,
            all: [
                { $0.command(["CLIENT", "TRACKING", "ON", "REDIRECT", String(listener), "OPTIN"]) },
                { $0.command(["CLIENT", "CACHING", "YES"]) },
                { $0.command(["GET", key]) },
            ]
        )
        for case .success(.error(let line)) in outcomes.dropLast() {
            return RedisErrorLine(line).retry == .never ? .refused : .failed
        }
        switch outcomes.last {
        case .success(.null): return .gone
        case .success(.string): return .tells
        // Another type of key, elsewhere, or no connection: asking will tell.
        default: return .failed
        }
    }
}
