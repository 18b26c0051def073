// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import Synchronization

// Which of the two tiers a call goes to, and the way back.
extension FallbackTier {
    private enum Route {
        case primary, secondary, trial
        /// The primary, when it was told what is still written down.
        case review
    }

    /// Makes a call of the tier that is used now.
    ///
    /// - Parameters:
    ///   - namespace: What it is about.
    ///   - changed: What it changes there; empty for a read.
    ///   - call: The call, with the tier and whose numbers it speaks.
    /// - Returns: The answer.
    /// - Throws: What the call throws.
    func ask<Answer: Sendable>(
        _ namespace: String,
        changing changed: OutageLog = OutageLog(),
        _ call: (any CacheTier, TierSide) async throws -> Answer
    ) async throws -> Answer {
        if await self.usesPrimary(namespace) {
            let start = self.clock.now
            do {
                let answer = try await call(self.primary, .primary)
                let isOut = self.state.withLock { state in
                    if !state.isOut { state.breaker.succeeded(at: self.clock.now) }
                    return state.isOut
                }
                // An outage began meanwhile: what others put into the secondary is from before this change.
                if isOut { try await Self.tell(self.secondary, changed, in: namespace) }
                return answer
            } catch let error as CacheError where error.code == .tierUnavailable {
                guard self.fails(error, since: start) else { throw error }
            } catch let error as CacheError {
                // It answered, though not what was wanted.
                self.state.withLock { if !$0.isOut { $0.breaker.succeeded(at: self.clock.now) } }
                throw error
            }
        }
        // Somebody may have returned meanwhile.
        guard let answer = try await self.askSecondary(namespace, changed, call) else {
            return try await self.ask(namespace, changing: changed, call)
        }
        return answer
    }

    private enum Telling {
        /// Nothing is changed.
        case nobody
        /// What is to be written down first.
        case log(OutageLog)
        /// The primary too: what begins now is not in what it is being told.
        case both
    }

    /// Makes a call of the secondary; `nil` when it is not used any more.
    private func askSecondary<Answer: Sendable>(
        _ namespace: String,
        _ changed: OutageLog,
        _ call: (any CacheTier, TierSide) async throws -> Answer
    ) async throws -> Answer? {
        try await self.clear(namespace)
        let telling = self.state.withLock { state -> Telling? in
            guard state.isOut else { return nil }
            state.counts.secondaryCalls += 1
            guard !changed.isEmpty else { return .nobody }
            if state.isReturning { return .both }
            return .log(state.note(changed, in: namespace))
        }
        switch telling {
        case nil: return nil
        case .nobody?: return try await call(self.secondary, .secondary)
        case .log(let log)?:
            try await self.writeDown(log, namespace)
            return try await call(self.secondary, .secondary)
        case .both?:
            let answer = try await call(self.secondary, .secondary)
            try await self.tellPrimary(changed, in: namespace)
            return answer
        }
    }

    /// Tells the primary of a change that was made while it was being told of the outage.
    private func tellPrimary(_ changed: OutageLog, in namespace: String) async throws {
        do {
            try await Self.tell(self.primary, changed, in: namespace)
        } catch {
            let log = self.state.withLock { state -> OutageLog? in
                state.missed = error
                return state.isOut ? state.note(changed, in: namespace) : nil
            }
            // As if it had been made on the primary alone.
            guard let log else { throw error }
            try await self.writeDown(log, namespace)
        }
    }

    // MARK: - Switching

    private func usesPrimary(_ namespace: String) async -> Bool {
        let route = self.state.withLock { state -> Route in
            state.namespaces.insert(namespace)
            guard state.isOut else { return state.doubtedBefore == nil ? .primary : .review }
            return state.breaker.admits(at: self.clock.now) ? .trial : .secondary
        }
        switch route {
        case .primary: return true
        case .review:
            await self.review()
            return true
        case .secondary: return false
        case .trial: return await self.returns(namespace)
        }
    }

    /// The primary failed.
    ///
    /// - Parameters:
    ///   - error: How.
    ///   - start: When the call began.
    /// - Returns: Whether the secondary is used from now on.
    private func fails(_ error: CacheError, since start: Int64) -> Bool {
        let (isOut, hasBegun) = self.state.withLock { state -> (Bool, Bool) in
            if state.isOut { return (true, false) }
            let now = self.clock.now
            guard state.breaker.failed(at: now, after: now - start) else { return (false, false) }
            state.isOut = true
            state.switches += 1
            state.counts.outages += 1
            return (true, true)
        }
        if hasBegun { self.tell(.toSecondary(error)) }
        return isOut
    }

    /// Somebody else tries to return, since this took too long.
    private struct Overtaken: Error {}

    /// Goes back to the primary, if it works and could be told all that was changed.
    ///
    /// - Parameter namespace: One of its namespaces.
    /// - Returns: Whether the primary is used from now on.
    private func returns(_ namespace: String) async -> Bool {
        let attempt = self.state.withLock { state in
            state.attempt += 1
            return state.attempt
        }
        do {
            _ = try await self.primary.read([], in: namespace)
            var logs: [String: OutageLog] = [:]
            try self.progress(attempt) { state in
                state.isReturning = true
                state.missed = nil
                logs = state.logs
            }
            let written = try await self.writtenDownByAll { try self.progress(attempt) }
            for (namespace, log) in written?.logs ?? self.everything { logs[namespace, default: OutageLog()].add(log) }
            for (namespace, log) in logs {
                try await Self.tell(self.primary, log, in: namespace) { try self.progress(attempt) }
            }
            try self.hasReturned(attempt, telling: logs, isComplete: written != nil)
            self.tell(.toPrimary)
            await self.forget(written)
            return true
        } catch {
            let isLast = self.state.withLock { state in
                guard state.attempt == attempt, state.isOut else { return false }
                state.isReturning = false
                _ = state.breaker.failed(at: self.clock.now)
                return true
            }
            if isLast, !(error is CancellationError) { self.tell(.failed(error)) }
            return false
        }
    }

    /// Shows that an attempt to return goes on, so that nobody takes it for gone.
    ///
    /// - Throws: When somebody did, and tries himself: the last one knows best.
    private func progress(_ attempt: Int, _ change: (inout State) -> Void = { _ in }) throws {
        try self.state.withLock { state in
            guard state.attempt == attempt, state.isOut else { throw Overtaken() }
            state.breaker.progressed(at: self.clock.now)
            change(&state)
        }
    }

    /// What any process wrote down; `nil` when the secondary does not say.
    private func writtenDownByAll(_ progress: () throws -> Void) async throws -> WrittenDown? {
        do {
            return try await self.writtenDown(progress)
        } catch is CacheError {
            return nil
        }
    }

    /// Everything that this process uses, since nobody can say what others changed.
    private var everything: [String: OutageLog] {
        let namespaces = self.state.withLock { $0.namespaces }
        return Dictionary(uniqueKeysWithValues: namespaces.map { ($0, OutageLog(.all)) })
    }

    /// Ends the outage, if nothing was missed.
    private func hasReturned(_ attempt: Int, telling logs: [String: OutageLog], isComplete: Bool) throws {
        try self.state.withLock { state in
            guard state.attempt == attempt, state.isOut else { throw Overtaken() }
            if let missed = state.missed { throw missed }
            state.isReturning = false
            state.isOut = false
            state.switches += 1
            state.breaker.succeeded()
            state.leftovers.formUnion(state.namespaces)
            state.leftovers.formUnion(logs.keys)
            state.logs = [:]
            state.doubtedBefore = isComplete ? nil : self.clock.now
            if !isComplete { state.review.postpone(at: self.clock.now) }
            for log in logs.values { state.counts.replayed += log.keys.count + log.scopes.count }
        }
    }
}

extension FallbackTier.State {
    /// Adds a change to what the primary is to be told.
    ///
    /// - Returns: What is to be written down of it.
    fileprivate mutating func note(_ changed: OutageLog, in namespace: String) -> OutageLog {
        self.logs[namespace, default: OutageLog()].add(changed)
        return self.logs[namespace, default: OutageLog()].record(of: changed)
    }
}
