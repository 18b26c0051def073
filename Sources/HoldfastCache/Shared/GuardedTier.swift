// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import Synchronization

/// A shared tier behind a breaker: while it does not work, callers learn that at once.
final class GuardedTier: Sendable {
    /// The tier itself.
    let tier: any CacheTier
    /// Whether versions may be of one of two tiers.
    let hasSides: Bool
    private let clock: CacheClock
    private let retries: RetryPolicy
    private let breaker = Mutex(CircuitBreaker())
    /// Told when the breaker opens.
    private let onOutage: @Sendable (any Error) -> Void

    init(
        _ tier: any CacheTier,
        clock: CacheClock,
        retries: RetryPolicy,
        onOutage: @escaping @Sendable (any Error) -> Void
    ) {
        self.tier = tier
        self.hasSides = tier is FallbackTier
        self.clock = clock
        self.retries = retries
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
    /// - Parameters:
    ///   - kind: What the call does, for whether it is repeated when the tier fails.
    ///   - call: The call.
    /// - Returns: The answer.
    /// - Throws: What the call throws, or ``CacheError`` with code ``CacheError/Code/tierUnavailable`` without asking.
    func ask<Answer: Sendable>(
        _ kind: TierCall,
        _ call: (any CacheTier) async throws -> Answer
    ) async throws -> Answer {
        guard self.breaker.withLock({ $0.admits(at: self.clock.now) }) else {
            throw CacheError(
                .tierUnavailable,
                "the \(self.name) tier did not work a moment ago, and was not asked again"
            )
        }
        do {
            let answer = try await self.insist(self.retries.repetitions(of: kind), call)
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

    /// Makes a call, and again while it fails for want of the tier.
    private func insist<Answer: Sendable>(
        _ repetitions: Int,
        _ call: (any CacheTier) async throws -> Answer
    ) async throws -> Answer {
        let end = self.clock.now.after(self.retries.within)
        var pauses = RetrySchedule(base: self.retries.shortestPause, cap: self.retries.longestPause)
        var generator = SystemRandomNumberGenerator()
        for repetition in 0..<repetitions {
            do {
                return try await call(self.tier)
            } catch let error as CacheError where error.code == .tierUnavailable {
                guard self.clock.now < end, self.circuit == .closed else { throw error }
                if repetition > 0 { try await self.clock.sleeper.sleep(for: pauses.next(using: &generator)) }
            }
        }
        return try await call(self.tier)
    }
}
