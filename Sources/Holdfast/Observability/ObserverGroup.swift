// SPDX-License-Identifier: Apache-2.0

/// Passes events on to several observers, in order.
public struct ObserverGroup: LockObserver {
    private let observers: [any LockObserver]

    /// Joins observers.
    ///
    /// - Parameter observers: Who receives the events.
    public init(_ observers: [any LockObserver]) { self.observers = observers }

    /// Passes an event on.
    ///
    /// - Parameter event: What happened.
    public func observe(_ event: LockEvent) {
        for observer in self.observers { observer.observe(event) }
    }
}
