// SPDX-License-Identifier: Apache-2.0

public import HoldfastCache
public import HoldfastCore
import Synchronization

/// A bus in memory, for tests of caches: tells all its subscribers, in order, and fails when told to.
///
/// Several caches that share one bus are as several processes.
///
/// ```swift
/// bus.isInterrupted = true     // subscribers are told, and miss what is published
/// bus.isInterrupted = false    // and are told again
/// ```
public final class MemoryCacheBus: CacheBus {
    private struct Delivery {
        let event: CacheBusEvent
        /// Who it is for; `nil` for all.
        let subscriber: Int?
    }

    private struct State {
        var next = 0
        var handlers: [Int: @Sendable (CacheBusEvent) -> Void] = [:]
        var due: [Delivery] = []
        var isDelivering = false
        var isInterrupted = false
        var losses = 0
        var published = 0
    }

    private let gate: FaultGate
    private let state = Mutex(State())

    /// Makes a bus that works.
    ///
    /// - Parameter clock: What delays are counted on.
    public init(clock: any LeaseClock = ContinuousClock()) { self.gate = FaultGate("the memory bus", clock) }

    /// How publishing misbehaves from now on.
    public var fault: CacheFault {
        get { self.gate.fault }
        set { self.gate.fault = newValue }
    }

    /// Whether subscribers hear nothing; they are told when it begins and when it ends.
    public var isInterrupted: Bool {
        get { self.state.withLock { $0.isInterrupted } }
        set {
            self.deliver { state in
                guard state.isInterrupted != newValue else { return nil }
                state.isInterrupted = newValue
                return Delivery(event: newValue ? .interrupted : .listening, subscriber: nil)
            }
        }
    }

    /// How many messages were published so far, also those that nobody heard.
    public var published: Int { self.state.withLock { $0.published } }

    /// Loses so many of the next messages without a word.
    public func lose(next count: Int) { self.state.withLock { $0.losses += count } }

    // MARK: - CacheBus

    /// Returns at once.
    public func run() async throws {}

    /// See `CacheBus`.
    public func publish(_ message: [UInt8]) async throws {
        try CacheLimits.check(message: message)
        try await self.gate.pass {
            self.deliver { state in
                state.published += 1
                if state.isInterrupted { return nil }
                if state.losses > 0 {
                    state.losses -= 1
                    return nil
                }
                return Delivery(event: .message(message), subscriber: nil)
            }
        }
    }

    /// See `CacheBus`.
    public func subscribe(_ onEvent: @escaping @Sendable (CacheBusEvent) -> Void) -> SignalSubscription {
        let number = self.state.withLock { state in
            state.next += 1
            state.handlers[state.next] = onEvent
            return state.next
        }
        self.deliver { state in
            state.isInterrupted ? nil : Delivery(event: .listening, subscriber: number)
        }
        return SignalSubscription { [weak self] in self?.state.withLock { _ = $0.handlers.removeValue(forKey: number) }
        }
    }

    /// Adds an event, and tells whoever it is for unless another thread is at it already: so all hear one order.
    private func deliver(_ event: (inout State) -> Delivery?) {
        let isOurs = self.state.withLock { state in
            if let delivery = event(&state) { state.due.append(delivery) }
            guard !state.isDelivering, !state.due.isEmpty else { return false }
            state.isDelivering = true
            return true
        }
        guard isOurs else { return }
        while let (event, handlers) = self.nextDelivery() {
            for handler in handlers { handler(event) }
        }
    }

    private func nextDelivery() -> (CacheBusEvent, [@Sendable (CacheBusEvent) -> Void])? {
        self.state.withLock { state in
            guard !state.due.isEmpty else {
                state.isDelivering = false
                return nil
            }
            let delivery = state.due.removeFirst()
            let handlers = state.handlers.filter { delivery.subscriber == nil || delivery.subscriber == $0.key }
            return (delivery.event, Array(handlers.values))
        }
    }
}
