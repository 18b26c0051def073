// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// Whether calls of a service that may be down are let through.
public enum CircuitState: String, Sendable, Hashable, CaseIterable {
    /// All of them.
    case closed
    /// None, for a while: it did not work several times in a row.
    case open
    /// One, to see whether it works again.
    case halfOpen
}

extension CircuitBreaker {
    /// What operators are told of it.
    var state: CircuitState {
        switch self.phase {
        case .closed: .closed
        case .open: .open
        case .halfOpen: .halfOpen
        }
    }
}

/// How a cache service does: what observers get every ``CacheServiceConfiguration/reportInterval``.
public struct CacheReport: Sendable, Hashable {
    /// What the caches did so far, by their names.
    public var caches: [String: CacheStatistics]
    /// How many loads are under way, those given up aside.
    public var loads: Int
    /// Whether messages of other processes come; `nil` without a bus.
    public var isListening: Bool?
    /// Whether the shared tier is asked; `nil` without one.
    public var tier: CircuitState?
    /// Whether the secondary of a ``FallbackTier`` is used; `nil` with another tier.
    public var hasFallenBack: Bool?
    /// Whether the lock service is asked; `nil` without one.
    public var locks: CircuitState?
}

extension CacheService {
    /// How the service and its caches do.
    ///
    /// - Returns: The report; caches, and parts of the memory, are read one after the other.
    public func report() -> CacheReport {
        CacheReport(
            caches: self.statistics(),
            loads: self.state.withLock { $0.loads },
            isListening: self.bus?.isListening,
            tier: self.tier?.circuit,
            hasFallenBack: (self.tier?.tier as? FallbackTier)?.isOut,
            locks: self.locks?.circuit
        )
    }
}

/// Passes events and reports on to several observers, in order.
public struct CacheObserverGroup: CacheObserver {
    private let observers: [any CacheObserver]

    /// Joins observers.
    ///
    /// - Parameter observers: Who is told.
    public init(_ observers: [any CacheObserver]) { self.observers = observers }

    /// Passes an event on.
    ///
    /// - Parameter event: What happened.
    public func observe(_ event: CacheEvent) { for observer in self.observers { observer.observe(event) } }

    /// Passes a report on.
    ///
    /// - Parameter report: How the service does.
    public func report(_ report: CacheReport) { for observer in self.observers { observer.report(report) } }
}
