// SPDX-License-Identifier: Apache-2.0

#if Metrics
import HoldfastCore
public import Metrics

/// Counts lock events with swift-metrics, under the names of ``LockNames``.
///
/// Handles for the common events are made once. No resource is ever a dimension, so the number of series is bounded by
/// stores × modes × outcomes.
public struct MetricsObserver: LockObserver {
    private let store: String
    private let factory: any MetricsFactory
    private let renewed: Counter
    private let renewalLost: Counter
    private let renewalUnknown: Counter
    private let renewal: Timer
    private let interruptions: Counter
    private let modes: [LockMode.Kind: ModeMeters]

    private struct ModeMeters: Sendable {
        let held: Timer
        let outcomes: [String: (wait: Timer, count: Counter)]
    }

    /// Makes an observer and its meters.
    ///
    /// - Parameters:
    ///   - store: The store's short name, such as `service.capabilities.name`.
    ///   - factory: Where meters are made; the process' own by default.
    public init(store: String, factory: (any MetricsFactory)? = nil) {
        let factory = factory ?? MetricsSystem.factory
        self.store = store
        self.factory = factory
        func renewals(_ outcome: String) -> Counter {
            Counter(
                label: LockNames.renewalsTotal,
                dimensions: [(LockNames.store, store), (LockNames.outcome, outcome)],
                factory: factory
            )
        }
        self.renewed = renewals("renewed")
        self.renewalLost = renewals("lost")
        self.renewalUnknown = renewals("unknown")
        self.renewal = Timer(
            label: LockNames.renewalSeconds,
            dimensions: [(LockNames.store, store)],
            factory: factory
        )
        self.interruptions = Counter(
            label: LockNames.interruptionsTotal,
            dimensions: [(LockNames.store, store)],
            factory: factory
        )
        var modes: [LockMode.Kind: ModeMeters] = [:]
        for kind in LockMode.Kind.allCases { modes[kind] = Self.meters(kind, store, factory) }
        self.modes = modes
    }

    private static func meters(_ kind: LockMode.Kind, _ store: String, _ factory: any MetricsFactory) -> ModeMeters {
        let base = [(LockNames.store, store), (LockNames.mode, kind.rawValue)]
        var outcomes: [String: (wait: Timer, count: Counter)] = [:]
        for outcome in ["free", "waited", "reentered", "resumed", "busy", "timeout", "deadlock", "cancelled", "failed"]
        {
            let dimensions = base + [(LockNames.outcome, outcome)]
            outcomes[outcome] = (
                Timer(label: LockNames.waitSeconds, dimensions: dimensions, factory: factory),
                Counter(label: LockNames.acquisitionsTotal, dimensions: dimensions, factory: factory)
            )
        }
        return ModeMeters(
            held: Timer(label: LockNames.heldSeconds, dimensions: base, factory: factory),
            outcomes: outcomes
        )
    }

    /// Counts an event.
    ///
    /// - Parameter event: What happened.
    public func observe(_ event: LockEvent) {
        switch event {
        case .acquired(let acquisition):
            self.count(acquisition.grant.mode, acquisition.path.rawValue, acquisition.waited)
        case .notAcquired(let failure): self.count(failure.mode, failure.outcome.rawValue, failure.waited)
        case .released(let grant, let reply, let held):
            self.modes[grant.mode.kind]?.held.recordNanoseconds(held.nanoseconds)
            self.rare(LockNames.releasesTotal, (LockNames.outcome, reply.rawValue))
        case .renewed(let renewals):
            self.renewed.increment(by: renewals.renewed)
            self.renewalLost.increment(by: renewals.lost)
            self.renewalUnknown.increment(by: renewals.unknown)
            self.renewal.recordNanoseconds(renewals.duration.nanoseconds)
        case .lost(_, let reason, _): self.rare(LockNames.lossesTotal, (LockNames.reason, reason.rawValue))
        case .revokeRequested: self.rare(LockNames.revocationsTotal)
        case .abandoned: self.rare(LockNames.abandonedTotal)
        case .outlived: self.rare(LockNames.outlivedTotal)
        case .cleanUpFailed: self.rare(LockNames.cleanUpFailuresTotal)
        case .deadlock: self.rare(LockNames.deadlocksTotal)
        case .converted(let grant, _): self.rare(LockNames.conversionsTotal, (LockNames.mode, grant.mode.kind.rawValue))
        case .signalsInterrupted: self.interruptions.increment()
        }
    }

    private func count(_ mode: LockMode, _ outcome: String, _ waited: Duration) {
        guard let meters = self.modes[mode.kind]?.outcomes[outcome] else { return }
        meters.wait.recordNanoseconds(waited.nanoseconds)
        meters.count.increment()
    }

    private func rare(_ label: String, _ dimension: (String, String)? = nil) {
        let dimensions = [(LockNames.store, self.store)] + (dimension.map { [$0] } ?? [])
        Counter(label: label, dimensions: dimensions, factory: self.factory).increment()
    }
}
#endif
