// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// Asks several servers the same at once, and goes on as soon as the answers suffice.
///
/// Answers that come later are not lost: what has to be done about them is done then. Not interrupted by cancellation,
/// since a grant that nobody hears of is one that nobody releases; each question ends by its server's time limit.
final class Canvass<Answer: Sendable, Outcome: Sendable>: Sendable {
    private struct State {
        var answers: [Answer?]
        var outcome: Outcome?
        var continuation: CheckedContinuation<Outcome, Never>?
    }

    private let state: Mutex<State>
    private let decide: @Sendable ([Answer?]) -> Outcome?
    private let onDecision: @Sendable ([Answer?], Outcome) -> Void
    private let afterwards: @Sendable (Int, Answer, Outcome) -> Void

    private init(
        _ count: Int,
        _ continuation: CheckedContinuation<Outcome, Never>,
        decide: @escaping @Sendable ([Answer?]) -> Outcome?,
        onDecision: @escaping @Sendable ([Answer?], Outcome) -> Void,
        afterwards: @escaping @Sendable (Int, Answer, Outcome) -> Void
    ) {
        self.state = Mutex(State(answers: Array(repeating: nil, count: count), continuation: continuation))
        self.decide = decide
        self.onDecision = onDecision
        self.afterwards = afterwards
    }

    /// Asks.
    ///
    /// - Parameters:
    ///   - count: How many servers, at least one.
    ///   - ask: Asks one of them, which answers once, on any thread.
    ///   - decide: Says what the answers so far lead to, `nil` for "not known yet"; with all answers it must know. Changes
    ///     nothing, and is called again with each answer.
    ///   - onDecision: Called once with the answers that led to it, before anybody learns of the outcome.
    ///   - afterwards: Called once for each server's answer when the outcome is known, in no order, on any thread.
    /// - Returns: The outcome.
    @concurrent
    static func run(
        _ count: Int,
        ask: (Int, @escaping @Sendable (Answer) -> Void) -> Void,
        decide: @escaping @Sendable ([Answer?]) -> Outcome?,
        onDecision: @escaping @Sendable ([Answer?], Outcome) -> Void = { _, _ in },
        afterwards: @escaping @Sendable (Int, Answer, Outcome) -> Void = { _, _, _ in }
    ) async -> Outcome {
        await withCheckedContinuation { continuation in
            let canvass = Canvass(
                count,
                continuation,
                decide: decide,
                onDecision: onDecision,
                afterwards: afterwards
            )
            for node in 0..<count { ask(node) { canvass.took($0, from: node) } }
        }
    }

    private func took(_ answer: Answer, from node: Int) {
        var isNew = false
        let (answers, outcome, continuation) = self.state.withLock { state in
            let wasKnown = state.outcome != nil
            state.answers[node] = answer
            if !wasKnown, let outcome = self.decide(state.answers) {
                isNew = true
                state.outcome = outcome
                self.onDecision(state.answers, outcome)
            }
            defer { if isNew { state.continuation = nil } }
            return (state.answers, state.outcome, state.continuation)
        }
        guard let outcome else { return }
        guard isNew else { return self.afterwards(node, answer, outcome) }
        continuation?.resume(returning: outcome)
        for (node, answer) in answers.enumerated() { if let answer { self.afterwards(node, answer, outcome) } }
    }
}
