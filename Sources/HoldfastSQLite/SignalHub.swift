// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import Synchronization

/// Who listens to this store object, and which of its requests wait.
final class SignalHub: Sendable {
    private struct State {
        var handlers: [UInt64: @Sendable (StoreSignal) -> Void] = [:]
        var watchers: [UInt64: AsyncStream<Void>.Continuation] = [:]
        var nextKey: UInt64 = 0
        var waiting: [RequestID: Resource] = [:]
    }

    private let state = Mutex(State())

    /// Adds a handler.
    func subscribe(_ handler: @escaping @Sendable (StoreSignal) -> Void) -> SignalSubscription {
        let key = self.state.withLock { state in
            state.nextKey += 1
            state.handlers[state.nextKey] = handler
            return state.nextKey
        }
        return SignalSubscription { [weak self] in
            _ = self?.state.withLock { $0.handlers.removeValue(forKey: key) }
        }
    }

    /// Tells every handler.
    func deliver(_ signal: StoreSignal) {
        let handlers = self.state.withLock { Array($0.handlers.values) }
        for handler in handlers { handler(signal) }
    }

    /// Whether anybody listens.
    var hasHandlers: Bool { self.state.withLock { !$0.handlers.isEmpty } }

    /// Notes that a request waits, or does not any more.
    func track(_ key: GrantKey, isWaiting: Bool) {
        let watchers: [AsyncStream<Void>.Continuation] = self.state.withLock { state in
            guard isWaiting else {
                state.waiting.removeValue(forKey: key.id)
                return []
            }
            let isFirst = state.waiting.isEmpty
            state.waiting[key.id] = key.resource
            return isFirst ? Array(state.watchers.values) : []
        }
        for watcher in watchers { watcher.yield() }
    }

    /// The resources that requests of this store object wait for, and those requests.
    var waiting: [Resource: Set<RequestID>] {
        self.state.withLock { state in
            state.waiting.reduce(into: [:]) { $0[$1.value, default: []].insert($1.key) }
        }
    }

    /// Whether any request waits.
    var hasWaiting: Bool { self.state.withLock { !$0.waiting.isEmpty } }

    /// An element whenever requests begin to wait; ends with its consumer's task.
    func beginnings() -> AsyncStream<Void> {
        let (stream, continuation) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        let key = self.state.withLock { state in
            state.nextKey += 1
            state.watchers[state.nextKey] = continuation
            if !state.waiting.isEmpty { continuation.yield() }
            return state.nextKey
        }
        continuation.onTermination = { [weak self] _ in
            _ = self?.state.withLock { $0.watchers.removeValue(forKey: key) }
        }
        return stream
    }
}
