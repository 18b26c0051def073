// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// Looks at a store again and again until it shows something, for what no store signals.
struct Patience: Sendable {
    /// The first pause: what is about to happen is seen at once.
    static let firstPause: Duration = .milliseconds(10)
    /// The longest pause: 4 looks a second for each who waits, and how late one may see it.
    static let longestPause: Duration = .milliseconds(250)

    private let engine: Engine
    private let deadline: Engine.Instant?

    /// Begins to wait.
    ///
    /// - Parameters:
    ///   - limit: How long to wait in all.
    ///   - engine: Where to look.
    /// - Throws: ``LockError`` with code ``LockError/Code/invalidArgument`` when the limit is negative.
    init(atMost limit: Duration?, _ engine: Engine) throws(LockError) {
        if let limit, limit < .zero { throw LockError(.invalidArgument, "a wait limit cannot be negative") }
        self.engine = engine
        self.deadline = limit.map { engine.clock.now.advanced(by: min($0, Limits.maximumWait)) }
    }

    /// What is left of the limit.
    var remaining: Duration? { self.deadline.map { max(.zero, self.engine.clock.now.duration(to: $0)) } }

    /// Looks until there is an answer, with growing pauses.
    ///
    /// A store that does not answer is asked again up to the service's outage limit.
    ///
    /// - Parameter look: Gives the answer, or `nil` to be called again.
    /// - Returns: The answer, or `nil` when the limit is over.
    /// - Throws: What the look throws, or `CancellationError`.
    func wait<Answer>(_ look: () async throws -> Answer?) async throws -> Answer? {
        var pause = Self.firstPause
        var outageBegan: Engine.Instant?
        while true {
            try Task.checkCancellation()
            let now = self.engine.clock.now
            do {
                if let answer = try await look() { return answer }
                outageBegan = nil
            } catch let error as LockError where error.code == .storeUnavailable {
                let began = outageBegan ?? now
                outageBegan = began
                if began.duration(to: now) >= self.engine.configuration.outageLimit { throw error }
            }
            let next = self.engine.clock.now.advanced(by: pause)
            if let deadline = self.deadline {
                if self.engine.clock.now >= deadline { return nil }
                try await self.engine.clock.sleep(until: min(next, deadline), tolerance: nil)
            } else {
                try await self.engine.clock.sleep(until: next, tolerance: nil)
            }
            pause = min(pause * 2, Self.longestPause)
        }
    }
}
