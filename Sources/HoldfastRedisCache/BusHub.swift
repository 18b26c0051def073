// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
import HoldfastCore
import HoldfastRedis
import NIOCore
import Synchronization

/// Who listens to a bus, and whether messages come; all in one order, on one event loop.
final class BusHub: Sendable {
    private struct State {
        var next = 0
        /// Those that the event loop has not added yet.
        var pending: Set<Int> = []
        var handlers: [Int: @Sendable (CacheBusEvent) -> Void] = [:]
        var isListening = false
    }

    private let loop: any EventLoop
    private let state = Mutex(State())

    init(_ loop: any EventLoop) { self.loop = loop }

    /// Adds a handler, which is told at once if messages come already.
    func add(_ handler: @escaping @Sendable (CacheBusEvent) -> Void) -> SignalSubscription {
        let number = self.state.withLock { state in
            defer { state.next += 1 }
            state.pending.insert(state.next)
            return state.next
        }
        self.loop.execute {
            let isListening = self.state.withLock { state -> Bool in
                // It may have been cancelled by now.
                guard state.pending.remove(number) != nil else { return false }
                state.handlers[number] = handler
                return state.isListening
            }
            if isListening { handler(.listening) }
        }
        return SignalSubscription { [weak self] in
            self?.state.withLock { state in
                state.pending.remove(number)
                state.handlers[number] = nil
            }
        }
    }

    /// Takes what the connection for messages says.
    func receive(_ event: Subscription.Event) {
        // Only a cluster that changes says so from elsewhere.
        if self.loop.inEventLoop { self.take(event) } else { self.loop.execute { self.take(event) } }
    }

    private func take(_ event: Subscription.Event) {
        let (events, handlers) = self.state.withLock { state in
            (Self.events(for: event, isListening: &state.isListening), Array(state.handlers.values))
        }
        for event in events { for handler in handlers { handler(event) } }
    }

    private static func events(for event: Subscription.Event, isListening: inout Bool) -> [CacheBusEvent] {
        let wasListening = isListening
        switch event {
        case .message(let message): return [.message(message)]
        case .began, .interrupted:
            isListening = true
            return wasListening ? [.interrupted, .listening] : [.listening]
        case .lost:
            isListening = false
            return wasListening ? [.interrupted] : []
        case .rearranged: return wasListening ? [.interrupted, .listening] : []
        case .changed: return []
        }
    }
}
