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
}
