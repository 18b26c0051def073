// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import HoldfastTesting
import Synchronization
import Testing

@Suite("The engine in simulated trouble") struct SimulationTests {
    @Test("A thousand minutes of faults break no promise", arguments: 0..<20 as Range<UInt64>)
    func faults(block: UInt64) throws {
        var granted = 0
        for seed in block * 50..<(block + 1) * 50 {
            let outcome = try SimulatedWorld.run(seed: seed)
            #expect(outcome.violations.isEmpty, "seed \(seed): \(outcome.violations)")
            granted += outcome.count { if case .granted = $0 { true } else { false } }
        }
        // A simulation in which nothing happens would prove nothing.
        #expect(granted > 50 * 20)
    }

    @Test(
        "When the server loses its data, tokens still rise and every loss is announced",
        arguments: 0..<4 as Range<UInt64>
    )
    func lostData(block: UInt64) throws {
        var options = SimulatedWorld.Options()
        options.losesData = true
        for seed in block * 25..<(block + 1) * 25 {
            let outcome = try SimulatedWorld.run(seed: seed, options: options)
            #expect(outcome.violations.isEmpty, "seed \(seed): \(outcome.violations)")
        }
    }

    @Test("Faults do what they should: leases are lost, and late writes are refused")
    func faultsBite() throws {
        var losses = 0
        var refusals = 0
        for seed in 0..<30 as Range<UInt64> {
            let outcome = try SimulatedWorld.run(seed: seed)
            losses += outcome.count { if case .lost = $0 { true } else { false } }
            refusals += outcome.count { if case .wrote(_, accepted: false) = $0 { true } else { false } }
        }
        #expect(losses > 0 && refusals > 0, "\(losses) losses, \(refusals) refusals")
    }

    @Test("A broken store is found out", arguments: MistakenStore.Mistake.allCases)
    func mutants(mistake: MistakenStore.Mistake) throws {
        var options = SimulatedWorld.Options()
        options.wrap = { MistakenStore($0, mistake) }
        for seed in 0..<100 as Range<UInt64> {
            let found = Set(try SimulatedWorld.run(seed: seed, options: options).violations.map(\.rule))
            if !found.isDisjoint(with: mistake.breaks) { return }
        }
        Issue.record("\(mistake) was not found in 100 minutes")
    }

    @Test("The same seed gives the same history")
    func replay() throws {
        // Histories hold instants of clocks that began at different times: compare without them.
        func lines(_ seed: UInt64) throws -> [String] {
            try SimulatedWorld.run(seed: seed).events.map { event in
                switch event.kind {
                case .granted(let mode, let token, validUntil: _): "\(event.client) granted \(mode) \(token)"
                case .renewed: "\(event.client) renewed"
                default: "\(event)"
                }
            }
        }
        #expect(try lines(3) == lines(3))
        #expect(try lines(3) != lines(4))
    }
}

/// A store with a mistake that other lock services were shipped with.
final class MistakenStore: LockStore {
    enum Mistake: CaseIterable, Sendable {
        /// Every fifth waiter is told that it holds the lock.
        case grantsTwice
        /// A release frees the resource, whoever holds it.
        case releasesForOthers
        /// A lease ends earlier than its holder was told.
        case cutsLeases
        /// The tokens of a client count by themselves.
        case countsTokensPerClient

        var breaks: Set<HistoryChecker.Rule> {
            switch self {
            case .grantsTwice, .releasesForOthers, .cutsLeases: [.exclusion, .honest]
            case .countsTokensPerClient: [.fence]
            }
        }
    }

    private let base: SimulatedStore
    private let mistake: Mistake
    private let count = Mutex<UInt64>(0)

    init(_ base: SimulatedStore, _ mistake: Mistake) {
        self.base = base
        self.mistake = mistake
    }

    var capabilities: StoreCapabilities { self.base.capabilities }

    private func next() -> UInt64 {
        self.count.withLock { count in
            count += 1
            return count
        }
    }

    func acquire(_ request: LockRequest) async throws -> AcquireReply {
        let reply = try await self.base.acquire(request)
        switch (self.mistake, reply) {
        case (.grantsTwice, .waiting):
            let number = self.next()
            return number.isMultiple(of: 5) ? .granted(FencingToken(rawValue: 1_000_000 + number)) : reply
        case (.countsTokensPerClient, .granted): return .granted(FencingToken(rawValue: self.next()))
        default: return reply
        }
    }

    func renew(_ renewals: [Renewal]) async throws -> [RenewReply] {
        guard self.mistake == .cutsLeases else { return try await self.base.renew(renewals) }
        return try await self.base.renew(renewals.map { Renewal(key: $0.key, lease: $0.lease / 2) })
    }

    func release(_ grant: GrantKey) async throws -> ReleaseReply {
        guard self.mistake == .releasesForOthers else { return try await self.base.release(grant) }
        _ = try await self.base.forceRelease(grant.resource)
        return .released
    }

    func withdraw(_ request: GrantKey) async throws -> WithdrawReply { try await self.base.withdraw(request) }

    func convert(_ conversion: Conversion) async throws -> ConvertReply {
        try await self.base.convert(conversion)
    }

    func waits(of owner: OwnerID, for resource: Resource) async throws -> [ResourceStatus] {
        try await self.base.waits(of: owner, for: resource)
    }

    func revoke(_ resource: Resource) async throws -> RevokeReply { try await self.base.revoke(resource) }

    func forceRelease(_ resource: Resource) async throws -> [Holder] { try await self.base.forceRelease(resource) }

    func status(of resource: Resource) async throws -> ResourceStatus { try await self.base.status(of: resource) }

    func survey(_ pattern: ResourcePattern, after cursor: SurveyPage.Cursor?) async throws -> SurveyPage {
        try await self.base.survey(pattern, after: cursor)
    }

    func subscribe(_ handler: @escaping @Sendable (StoreSignal) -> Void) -> SignalSubscription {
        self.base.subscribe(handler)
    }

    func run() async throws { try await self.base.run() }
}
