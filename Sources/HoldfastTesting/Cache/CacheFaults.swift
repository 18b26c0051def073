// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
import HoldfastCore
import Synchronization

/// How a ``MemoryCacheTier`` or a ``MemoryCacheBus`` misbehaves.
public enum CacheFault: Sendable, Hashable {
    /// It works.
    case none
    /// Calls throw `CacheError` with code `tierUnavailable`, and do nothing.
    case fail
    /// Calls do their work and throw the same all the same, as when a reply is lost.
    case loseReplies
    /// Calls take so long, and then do their work.
    case delay(Duration)
    /// Calls wait until the fault is another one, or their task is cancelled.
    case hang
}

/// Holds calls up, as a fault says.
final class FaultGate: Sendable {
    private struct State {
        var fault = CacheFault.none
        var next = 0
        var waiting: [Int: CheckedContinuation<Void, Never>] = [:]
        var cancelled: Set<Int> = []
    }

    private let name: String
    private let clock: any LeaseClock
    private let state = Mutex(State())

    init(_ name: String, _ clock: any LeaseClock) {
        self.name = name
        self.clock = clock
    }

    var fault: CacheFault {
        get { self.state.withLock { $0.fault } }
        set {
            let waiting = self.state.withLock { state in
                state.fault = newValue
                defer { state.waiting = [:] }
                return state.waiting
            }
            for continuation in waiting.values { continuation.resume() }
        }
    }

    /// Does a call's work, as the fault lets it.
    func pass<Value>(_ work: () throws -> Value) async throws -> Value {
        while case .hang = self.fault { try await self.wait() }
        let fault = self.fault
        if case .delay(let time) = fault {
            try await self.clock.sleep(until: self.clock.now.advanced(by: time), tolerance: nil)
        }
        if fault == .fail { throw self.failure }
        let value = try work()
        if fault == .loseReplies { throw self.failure }
        return value
    }

    private var failure: CacheError { CacheError(.tierUnavailable, "\(self.name) fails because a test told it to") }

    private func wait() async throws {
        let number = self.state.withLock { state in
            state.next += 1
            return state.next
        }
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let mayGoOn = self.state.withLock { state in
                    guard case .hang = state.fault, state.cancelled.remove(number) == nil else { return true }
                    state.waiting[number] = continuation
                    return false
                }
                if mayGoOn { continuation.resume() }
            }
        } onCancel: {
            let waiting = self.state.withLock { state in
                let waiting = state.waiting.removeValue(forKey: number)
                if waiting == nil { state.cancelled.insert(number) }
                return waiting
            }
            waiting?.resume()
        }
        self.state.withLock { _ = $0.cancelled.remove(number) }
        try Task.checkCancellation()
    }
}
