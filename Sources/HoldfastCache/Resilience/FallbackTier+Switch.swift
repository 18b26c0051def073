// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import Synchronization

// Which of the two tiers a call goes to, and the way back.
extension FallbackTier {
    /// Where the secondary keeps what was changed during outages.
    static let logNamespace = "hf-outage"
    /// How long it does, unless somebody returned before: no entry of the primary outlives it.
    private static let logLife = CacheLimits.markLife
    /// How long the primary refuses whoever loaded before the outage: longer than any load.
    private static let tombstoneLife = CacheLimits.longestLoad * 2

    private enum Route {
        case primary, secondary, trial
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
            do {
                let answer = try await call(self.primary, .primary)
                let isOut = self.state.withLock { state in
                    if !state.isOut { state.breaker.succeeded() }
                    return state.isOut
                }
                // An outage began meanwhile: what others put into the secondary is from before this change.
                if isOut { try await Self.tell(self.secondary, changed, in: namespace) }
                return answer
            } catch let error as CacheError where error.code == .tierUnavailable {
                guard self.fails(error) else { throw error }
            } catch let error as CacheError {
                // It answered, though not what was wanted.
                self.state.withLock { if !$0.isOut { $0.breaker.succeeded() } }
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
            state.logs[namespace, default: OutageLog()].add(changed)
            let written = state.written[namespace] ?? OutageLog()
            return (state.logs[namespace]?.unwritten(of: changed, besides: written)).map { .log($0) }
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

    /// Writes changes down before they take effect, for whoever returns first.
    private func writeDown(_ log: OutageLog, _ namespace: String) async throws {
        let writes = log.records(of: namespace).map { TierWrite(key: $0, payload: [1], timeToLive: Self.logLife) }
        for start in stride(from: 0, to: writes.count, by: CacheLimits.maximumBatch) {
            let some = writes[start..<min(start + CacheLimits.maximumBatch, writes.count)]
            _ = try await self.secondary.write(Array(some), in: Self.logNamespace)
        }
        self.state.withLock { if $0.isOut { $0.written[namespace, default: OutageLog()].add(log) } }
    }

    /// Tells the primary of a change that was made while it was being told of the outage.
    private func tellPrimary(_ changed: OutageLog, in namespace: String) async throws {
        do {
            try await Self.tell(self.primary, changed, in: namespace)
        } catch {
            let isOut = self.state.withLock { state in
                state.hasMissed = true
                if state.isOut { state.logs[namespace, default: OutageLog()].add(changed) }
                return state.isOut
            }
            // As if it had been made on the primary alone.
            if !isOut { throw error }
        }
    }

    // MARK: - Switching

    private func usesPrimary(_ namespace: String) async -> Bool {
        let route = self.state.withLock { state -> Route in
            state.namespaces.insert(namespace)
            guard state.isOut else { return .primary }
            return state.breaker.admits(at: self.clock.now) ? .trial : .secondary
        }
        switch route {
        case .primary: return true
        case .secondary: return false
        case .trial: return await self.returns(namespace)
        }
    }

    /// The primary failed.
    ///
    /// - Returns: Whether the secondary is used from now on.
    private func fails(_ error: CacheError) -> Bool {
        let (isOut, hasBegun) = self.state.withLock { state -> (Bool, Bool) in
            if state.isOut { return (true, false) }
            guard state.breaker.failed(at: self.clock.now) else { return (false, false) }
            state.isOut = true
            state.switches += 1
            state.counts.outages += 1
            return (true, true)
        }
        if hasBegun { self.tell(.toSecondary(error)) }
        return isOut
    }

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
            var logs = self.state.withLock { state in
                state.isReturning = true
                state.hasMissed = false
                return state.logs
            }
            let records = await self.writtenDown(&logs)
            for (namespace, log) in logs { try await Self.tell(self.primary, log, in: namespace) }
            guard self.hasReturned(attempt, telling: logs) else { return false }
            self.tell(.toPrimary)
            await self.forget(records)
            return true
        } catch {
            self.state.withLock { state in
                guard state.attempt == attempt else { return }
                state.isReturning = false
                _ = state.breaker.failed(at: self.clock.now)
            }
            return false
        }
    }

    /// Reads what any process wrote down, and adds it to what this one knows.
    ///
    /// - Returns: The records.
    private func writtenDown(_ logs: inout [String: OutageLog]) async -> [String] {
        var records: [String] = []
        do {
            var cursor: String?
            repeat {
                let page = try await self.secondary.keys(in: Self.logNamespace, prefix: "", after: cursor)
                records += page.keys
                cursor = page.next
            } while cursor != nil
        } catch {
            // Nobody can say what others changed.
            for namespace in self.state.withLock({ $0.namespaces }) {
                logs[namespace, default: OutageLog()].addEverything()
            }
        }
        for (namespace, log) in OutageLog.read(records) { logs[namespace, default: OutageLog()].add(log) }
        return records
    }

    /// Ends the outage, if nothing was missed.
    private func hasReturned(_ attempt: Int, telling logs: [String: OutageLog]) -> Bool {
        self.state.withLock { state in
            // It took so long that somebody else tried too: the last one knows best.
            guard state.attempt == attempt, state.isOut else { return false }
            state.isReturning = false
            guard !state.hasMissed else {
                _ = state.breaker.failed(at: self.clock.now)
                return false
            }
            state.isOut = false
            state.switches += 1
            state.breaker.succeeded()
            state.leftovers.formUnion(state.namespaces)
            state.leftovers.formUnion(logs.keys)
            state.logs = [:]
            state.written = [:]
            for log in logs.values { state.counts.replayed += log.keys.count + log.scopes.count }
            return true
        }
    }

    /// Makes what an outage left in the secondary invalid, as far as that works now; the next outage begins with the rest.
    private func forget(_ records: [String]) async {
        for start in stride(from: 0, to: records.count, by: CacheLimits.maximumBatch) {
            let some = Array(records[start..<min(start + CacheLimits.maximumBatch, records.count)])
            _ = try? await self.secondary.remove(some, in: Self.logNamespace, keepFor: .milliseconds(1))
        }
        for namespace in self.state.withLock({ $0.leftovers }) { try? await self.clear(namespace) }
    }

    /// Makes what an earlier outage left in the secondary invalid.
    private func clear(_ namespace: String) async throws {
        guard self.state.withLock({ $0.leftovers.contains(namespace) }) else { return }
        _ = try await self.secondary.invalidate(.all, in: namespace, keepFor: CacheLimits.markLife)
        self.state.withLock { _ = $0.leftovers.remove(namespace) }
    }

    /// Tells a tier of changes.
    private static func tell(_ tier: any CacheTier, _ log: OutageLog, in namespace: String) async throws {
        for scope in log.scopes {
            _ = try await tier.invalidate(scope, in: namespace, keepFor: CacheLimits.markLife)
        }
        let keys = log.keys
        for start in stride(from: 0, to: keys.count, by: CacheLimits.maximumBatch) {
            let some = Array(keys[start..<min(start + CacheLimits.maximumBatch, keys.count)])
            _ = try await tier.remove(some, in: namespace, keepFor: Self.tombstoneLife)
        }
    }
}
