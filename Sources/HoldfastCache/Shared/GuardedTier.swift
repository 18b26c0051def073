// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// A shared tier behind a breaker: while it does not work, callers learn that at once.
final class GuardedTier: Sendable {
    private let tier: any CacheTier
    private let clock: CacheClock
    private let breaker = Mutex(CircuitBreaker())
    /// Told when the breaker opens.
    private let onOutage: @Sendable (any Error) -> Void

    init(_ tier: any CacheTier, clock: CacheClock, onOutage: @escaping @Sendable (any Error) -> Void) {
        self.tier = tier
        self.clock = clock
        self.onOutage = onOutage
    }

    /// What people call it.
    var name: String { self.tier.name }

    /// Whether it is asked.
    var circuit: CircuitState { self.breaker.withLock { $0.state } }

    /// Does the tier's own work.
    func run() async throws { try await self.tier.run() }

    /// Asks the tier for something.
    ///
    /// - Parameter call: What.
    /// - Returns: The answer.
    /// - Throws: What the call throws, or ``CacheError`` with code ``CacheError/Code/tierUnavailable`` without asking.
    func ask<Answer: Sendable>(_ call: (any CacheTier) async throws -> Answer) async throws -> Answer {
        guard self.breaker.withLock({ $0.admits(at: self.clock.now) }) else {
            throw CacheError(
                .tierUnavailable,
                "the \(self.name) tier did not work a moment ago, and was not asked again"
            )
        }
        do {
            let answer = try await call(self.tier)
            self.breaker.withLock { $0.succeeded() }
            return answer
        } catch let error as CacheError where error.code == .tierUnavailable {
            let hasOpened = self.breaker.withLock { $0.failed(at: self.clock.now) }
            if hasOpened { self.onOutage(error) }
            throw error
        } catch let error as CacheError {
            // It answered, though not what was wanted.
            self.breaker.withLock { $0.succeeded() }
            throw error
        }
    }
}
