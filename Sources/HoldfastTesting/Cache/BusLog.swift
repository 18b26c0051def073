// SPDX-License-Identifier: Apache-2.0

public import HoldfastCache
import HoldfastCore
import Synchronization

/// What a subscriber of a bus heard, for tests.
public final class BusLog: Sendable {
    private final class Events: Sendable {
        let state = Mutex<[CacheBusEvent]>([])

        init() {}
    }

    /// How long to wait for an event: the last of a hundred has to wait for all others, perhaps on a busy machine.
    private static let patience: Duration = .seconds(20)

    private let log: Events
    private let subscription: SignalSubscription

    /// Begins to listen.
    public init(_ bus: any CacheBus) {
        let log = Events()
        self.log = log
        self.subscription = bus.subscribe { event in log.state.withLock { $0.append(event) } }
    }

    deinit { self.subscription.cancel() }

    /// All so far, in order.
    public var events: [CacheBusEvent] { self.log.state.withLock { $0 } }

    /// The messages among events.
    public static func messages(_ events: [CacheBusEvent]) -> [[UInt8]] {
        events.compactMap { if case .message(let bytes) = $0 { bytes } else { nil } }
    }

    /// Listens no more.
    public func cancel() { self.subscription.cancel() }

    /// Waits until what was heard is as it should be.
    ///
    /// - Parameters:
    ///   - what: What is waited for, for the error.
    ///   - holds: Whether it is so.
    /// - Throws: ``TierContract/Violation`` when that takes too long.
    public func wait(_ what: String, _ holds: ([CacheBusEvent]) -> Bool) async throws {
        let end = ContinuousClock.now.advanced(by: Self.patience)
        while !holds(self.events) {
            guard .now < end else {
                let heard = self.events.suffix(10).map { event in
                    if case .message(let bytes) = event { "message of \(bytes.count) bytes" } else { "\(event)" }
                }
                throw TierContract.Violation(description: "waited for \(what), heard only \(heard)")
            }
            try await Task.sleep(for: .milliseconds(5))
        }
    }
}
