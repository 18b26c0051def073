// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore

/// How processes tell each other what changed.
///
/// Messages are small, and may be lost, repeated or late: the engine numbers them, notices gaps, and doubts its memory
/// after one. A bus must say when it may have lost some, if it knows.
public protocol CacheBus: Sendable {
    /// Does the bus' own work until its task is cancelled; returns at once when there is none.
    ///
    /// - Throws: ``CacheError`` when the bus cannot work at all.
    func run() async throws

    /// Sends a message to all subscribers, this process among them.
    ///
    /// - Parameter message: Its bytes, at most ``CacheLimits/maximumMessage``.
    /// - Throws: ``CacheError``; whether it was delivered is then unknown.
    func publish(_ message: [UInt8]) async throws

    /// Listens.
    ///
    /// - Parameter onEvent: Called on any thread, in order; must return soon.
    /// - Returns: What ends it.
    func subscribe(_ onEvent: @escaping @Sendable (CacheBusEvent) -> Void) -> SignalSubscription
}

/// What a subscriber of a bus learns.
public enum CacheBusEvent: Sendable, Hashable {
    /// A message, as it was published.
    case message([UInt8])
    /// The subscription works from here on; messages before may be lost.
    case listening
    /// The subscription is broken; messages are lost until it works again.
    case interrupted
}
