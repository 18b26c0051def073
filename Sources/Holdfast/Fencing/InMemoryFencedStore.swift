// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore
import Synchronization

/// A fenced value in this process' memory.
///
/// For tests, and as the model for resources of your own: check and write under one lock.
public final class InMemoryFencedStore<Value: Sendable>: FencedStore {
    private struct State {
        var fence = Fence()
        var value: Value?
    }

    private let state = Mutex(State())

    /// Makes a store in which nothing was written yet.
    public init() {}

    /// Writes the value unless a higher token was accepted before.
    ///
    /// - Parameters:
    ///   - value: The new value.
    ///   - token: The token of the writer's grant.
    /// - Throws: `LockError` with code `fenced` when a higher token was accepted before; the value is then unchanged.
    public func write(_ value: Value, fencedBy token: FencingToken) async throws {
        try self.state.withLock { state in
            try state.fence.admit(token)
            state.value = value
        }
    }

    /// Reads the value and its token.
    ///
    /// - Returns: Both, or `nil` when nothing was written yet.
    public func read() async throws -> Fenced<Value>? {
        self.state.withLock { state in state.value.map { Fenced(value: $0, token: state.fence.highest) } }
    }
}
