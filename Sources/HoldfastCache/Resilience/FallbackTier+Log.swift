// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import Synchronization

// What is written down of outages in the secondary, and who is told of it.
extension FallbackTier {
    /// Where the secondary keeps what was changed during outages.
    static let logNamespace = "hf-outage"
    /// How long it does, unless somebody returned before: no entry of the primary outlives it.
    private static let logLife = CacheLimits.markLife
    /// How long the primary refuses whoever loaded before the outage: longer than any load.
    private static let tombstoneLife = CacheLimits.longestLoad * 2
    /// What a record holds, before and after the primary was told of it.
    private static let (open, told): ([UInt8], [UInt8]) = ([1], [0])
    /// How long a record stays that was told, so that its versions go on growing.
    private static let toldLife: Duration = .seconds(60)
    /// How much younger than this process an entry must be to be believed in doubt: clocks round.
    private static let slack: Duration = .seconds(1)

    /// What was written down by any process.
    struct WrittenDown: Sendable {
        var logs: [String: OutageLog] = [:]
        /// What to write when it was told: what was written down anew since stays as it is.
        var receipts: [TierWrite] = []
    }

    /// When to read what is written down though there is no outage.
    struct Review: Sendable {
        private static let (shortestPause, longestPause) = (Duration.seconds(1), Duration.seconds(30))

        /// Not before.
        private(set) var at: Int64 = 0
        private var pause = Self.shortestPause
        /// Whether somebody does.
        var isUnderWay = false
        /// Who waits for the first time that it is done.
        var waiting: [WakeSlot] = []

        /// Whether it was never tried in vain.
        var isFirst: Bool { self.at == 0 }

        /// The secondary did not answer.
        mutating func postpone(at now: Int64) {
            self.at = now.after(self.pause)
            self.pause = min(self.pause * 2, Self.longestPause)
        }
    }

    /// Writes changes down before they take effect, for whoever returns first.
    func writeDown(_ log: OutageLog, _ namespace: String) async throws {
        let writes = log.records(of: namespace).map {
            TierWrite(key: $0, payload: Self.open, timeToLive: Self.logLife)
        }
        for some in writes.batches { _ = try await self.secondary.write(some, in: Self.logNamespace) }
    }

    /// Reads what any process wrote down.
    ///
    /// - Parameter progress: Called after each step.
    /// - Returns: What nobody has told yet.
    /// - Throws: What the secondary or `progress` throws.
    func writtenDown(_ progress: () throws -> Void = {}) async throws -> WrittenDown {
        // By bytes; a page may repeat what another one has.
        var names: [[UInt8]: String] = [:]
        var cursor: String?
        repeat {
            let page = try await self.secondary.keys(in: Self.logNamespace, prefix: "", after: cursor)
            for name in page.keys { names[Array(name.utf8)] = name }
            cursor = page.next
            try progress()
        } while cursor != nil
        var written = WrittenDown()
        var open: [String] = []
        for some in Array(names.values).batches {
            let entries = try await self.secondary.read(some, in: Self.logNamespace).entries
            for (name, entry) in zip(some, entries) where entry.payload != nil && entry.payload != Self.told {
                open.append(name)
                written.receipts.append(
                    TierWrite(
                        key: name,
                        payload: Self.told,
                        timeToLive: Self.toldLife,
                        condition: .version(entry.version)
                    )
                )
            }
            try progress()
        }
        written.logs = OutageLog.read(open)
        return written
    }

    /// Notes what was told, and makes what an outage left in the secondary invalid, as far as that works now; the next outage
    /// begins with the rest.
    func forget(_ written: WrittenDown?) async {
        for some in (written?.receipts ?? []).batches {
            _ = try? await self.secondary.write(some, in: Self.logNamespace)
        }
        for namespace in self.state.withLock({ $0.leftovers }) { try? await self.clear(namespace) }
    }

    /// Makes what an earlier outage left in the secondary invalid.
    func clear(_ namespace: String) async throws {
        guard self.state.withLock({ $0.leftovers.contains(namespace) }) else { return }
        try await Self.tell(self.secondary, OutageLog(.all), in: namespace)
        self.state.withLock { _ = $0.leftovers.remove(namespace) }
    }

    /// Tells a tier of changes; when it does not take them, of a change of everything.
    ///
    /// - Parameters:
    ///   - tier: The tier.
    ///   - log: The changes.
    ///   - namespace: Theirs; one that no tier takes has no entries either.
    ///   - progress: Called after each step.
    /// - Throws: What the tier or `progress` throws.
    static func tell(
        _ tier: any CacheTier,
        _ log: OutageLog,
        in namespace: String,
        _ progress: () throws -> Void = {}
    ) async throws {
        do {
            try await self.tellEach(tier, log, in: namespace, progress)
        } catch let error as CacheError where error.code == .invalidArgument && log.isEverything {
            return
        } catch let error as CacheError where error.isRefusal && !log.isEverything {
            try await self.tell(tier, OutageLog(.all), in: namespace, progress)
        }
    }

    private static func tellEach(
        _ tier: any CacheTier,
        _ log: OutageLog,
        in namespace: String,
        _ progress: () throws -> Void
    ) async throws {
        for scope in log.scopes {
            _ = try await tier.invalidate(scope, in: namespace, keepFor: CacheLimits.markLife)
            try progress()
        }
        for some in log.keys.batches {
            _ = try await tier.remove(some, in: namespace, keepFor: self.tombstoneLife)
            try progress()
        }
    }

    // MARK: - Review

    /// How old an entry of the primary is that is not believed any more; `nil` when all are.
    var longestBelieved: Duration? {
        let now = self.clock.now
        return self.state.withLock { $0.doubtedBefore }.map { .nanoseconds(now - $0) - Self.slack }
    }

    private enum Part {
        case none, leads
        case waits(WakeSlot)
    }

    /// Has the primary hear what is still written down of outages, by whoever ended in one.
    func review() async {
        let part = self.state.withLock { state -> Part in
            guard state.doubtedBefore != nil, state.review.at <= self.clock.now else { return .none }
            if state.review.isUnderWay {
                guard state.review.isFirst else { return .none }
                let slot = WakeSlot()
                state.review.waiting.append(slot)
                return .waits(slot)
            }
            state.review.isUnderWay = true
            return .leads
        }
        switch part {
        case .none: break
        case .waits(let slot): _ = await slot.wait()
        case .leads: await self.reviewNow()
        }
    }

    private func reviewNow() async {
        let doubted = self.state.withLock { $0.doubtedBefore }
        var failure: (any Error)?
        do {
            let written = try await self.writtenDown()
            for (namespace, log) in written.logs { try await Self.tell(self.primary, log, in: namespace) }
            self.state.withLock { state in
                // Unless an outage ended meanwhile.
                if state.doubtedBefore == doubted { state.doubtedBefore = nil }
                state.leftovers.formUnion(written.logs.keys)
                for log in written.logs.values { state.counts.replayed += log.keys.count + log.scopes.count }
            }
            if !written.receipts.isEmpty { await self.forget(written) }
        } catch {
            failure = error
        }
        let waiting = self.state.withLock { state in
            state.review.isUnderWay = false
            if failure != nil, !(failure is CancellationError) { state.review.postpone(at: self.clock.now) }
            defer { state.review.waiting = [] }
            return state.review.waiting
        }
        for slot in waiting { slot.wake(.signal) }
        if let failure, !(failure is CancellationError) { self.tell(.failed(failure)) }
    }
}

extension CacheError {
    /// Whether the tier works, and does not do what it is asked for.
    fileprivate var isRefusal: Bool { self.code == .invalidArgument || self.code == .tierRefused }
}
