// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// A shared tier behind a breaker: while it does not work, callers learn that at once.
final class GuardedTier: Sendable {
    /// The tier itself.
    let tier: any CacheTier
    /// Whether versions may be of one of two tiers.
    let hasSides: Bool
    private let clock: CacheClock
    private let retries: RetryPolicy
    private let gate: ServiceGate

    /// Puts a breaker before a tier.
    ///
    /// - Parameters:
    ///   - tier: The tier.
    ///   - host: What it needs of the cache service.
    ///   - retries: How often calls are repeated.
    ///   - onOutage: Told when the breaker opens.
    init(
        _ tier: any CacheTier,
        _ host: ServiceGate.Host,
        retries: RetryPolicy,
        onOutage: @escaping @Sendable (any Error) -> Void
    ) {
        self.tier = tier
        self.hasSides = tier is FallbackTier
        self.clock = host.clock
        self.retries = retries
        let name = tier.name
        self.gate = ServiceGate(
            host,
            isOutage: { ($0 as? CacheError)?.code == .tierUnavailable },
            refusal: {
                CacheError(
                    .tierUnavailable,
                    "the \(name) tier was not waited for, since it or the locks did not answer a moment ago"
                )
            },
            onOutage: onOutage
        )
    }

    /// What people call it.
    var name: String { self.tier.name }

    /// Whether it is asked.
    var circuit: CircuitState { self.gate.circuit }

    /// Does the tier's own work.
    func run() async throws { try await self.tier.run() }

    /// Asks the tier for something.
    ///
    /// - Parameters:
    ///   - kind: What the call does, for whether it is repeated when the tier fails.
    ///   - patience: That of the load that asks; `nil` for a caller who cannot go on without the tier.
    ///   - call: The call.
    /// - Returns: The answer.
    /// - Throws: What the call throws, or ``CacheError`` with code ``CacheError/Code/tierUnavailable`` without asking.
    func ask<Answer: Sendable>(
        _ kind: TierCall,
        by patience: LoadPatience? = nil,
        _ call: @escaping @Sendable (any CacheTier) async throws -> Answer
    ) async throws -> Answer {
        try await self.gate.ask(by: patience) { try await self.insist(self.retries.repetitions(of: kind), call) }
    }

    /// Makes a call, and again while it fails for want of the tier.
    private func insist<Answer: Sendable>(
        _ repetitions: Int,
        _ call: (any CacheTier) async throws -> Answer
    ) async throws -> Answer {
        // What ran into a timeout is not repeated.
        let end = self.clock.now.after(min(self.retries.within, (self.tier.timeout ?? .seconds(60)) / 2))
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
