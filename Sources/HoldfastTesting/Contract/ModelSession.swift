// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// The state of one ``ModelRun``.
struct ModelSession {
    /// A command for both sides.
    enum Command {
        case acquire(LockRequest)
        case renew([Renewal])
        case release(GrantKey)
        case withdraw(GrantKey)
        case convert(Conversion)
        case waits(LockRequest)
        case revoke(Resource)
        case forceRelease(Resource)
        case status(Resource)
        case pass(Duration)
    }

    private static let long: Duration = .seconds(3600)
    /// How often a model ends what is over.
    private static let step: Duration = .milliseconds(50)

    private let options: ModelRun
    private let bench: ContractBench
    private let seed: UInt64
    private let resources: [Resource]
    private let modes: [LockMode]
    private var generator: SeededGenerator
    private var model = LockTable()
    private var now: Timestamp = .zero
    private var signals: [StoreSignal] = []
    private var requests: [(request: LockRequest, client: ContractBench.Client)] = []
    private var tokens: [(resource: Resource, model: FencingToken, store: FencingToken)] = []
    private var withdrawn: Set<RequestID> = []
    private var log: [String] = []

    init(_ options: ModelRun, _ bench: ContractBench, seed: UInt64, prefix: String) throws {
        self.options = options
        self.bench = bench
        self.seed = seed
        self.resources = [try bench.resource(prefix + "x"), try bench.resource(prefix + "y")]
        var generator = SeededGenerator(seed: seed)
        let known = bench.a.store.capabilities.modes
        let all: [LockMode] = [.exclusive, .exclusive, .shared, .shared, .update]
        // Permits and the other modes are for different resources; a permit's count has to be the same for all.
        let permits = [LockMode.permit(of: 2)]
        let usesPermits = known.contains(.permit) && generator.chance(0.2)
        self.modes = usesPermits ? permits : all.filter { known.contains($0.kind) }
        self.generator = generator
    }

    mutating func run() async throws {
        for _ in 0..<self.options.commands {
            let command = self.draw()
            self.log.append(Self.describe(command))
            try await self.apply(command)
            // Real time passes for the store; for the model a little, so that arrivals are in order.
            self.now = self.now.advanced(by: .microseconds(1))
        }
        try await self.compareSignals()
        for resource in self.resources { _ = try await self.bench.a.store.forceRelease(resource) }
        for (request, client) in self.requests { _ = try await client.store.withdraw(request.key) }
        for resource in self.resources {
            let status = try await self.bench.a.store.status(of: resource)
            // A resource may rest after force; nobody may hold it or wait for it.
            try self.equal(status.holders.count + status.waiters.count, 0, "left at the end")
        }
    }

    // MARK: - Drawing commands

    private mutating func draw() -> Command {
        guard let known = self.requests.randomElement(using: &self.generator) else {
            return .acquire(self.newRequest())
        }
        let resource = self.resources[Int.random(in: 0..<2, using: &self.generator)]
        switch Int.random(in: 0..<100, using: &self.generator) {
        case ..<34: return .acquire(self.newRequest())
        case ..<48: return .acquire(known.request)
        case ..<58: return .renew(self.renewals())
        case ..<74: return .release(known.request.key)
        case ..<80: return .withdraw(known.request.key)
        case ..<84: return .status(resource)
        case ..<87: return .revoke(resource)
        case ..<90: return .forceRelease(resource)
        case ..<95 where self.bench.a.store.capabilities.converts:
            let mode = self.modes.randomElement(using: &self.generator) ?? .exclusive
            let waits = self.generator.chance(0.6)
            return .convert(Conversion(known.request.key, to: mode, contention: waits ? .queue : .fail))
        case ..<97 where self.bench.a.store.capabilities.showsWaits: return .waits(known.request)
        default:
            return self.options.passesTime
                ? .pass(self.bench.subject.shortLease * (self.isTied ? 1.4 : 2)) : .release(known.request.key)
        }
    }

    private mutating func newRequest() -> LockRequest {
        let abilities = self.bench.a.store.capabilities
        let client = self.generator.chance(0.5) ? self.bench.a : self.bench.b
        let waits = abilities.queues && self.generator.chance(0.8)
        let outer = self.generator.chance(0.3) ? self.requests.randomElement(using: &self.generator) : nil
        let request = self.bench.request(
            self.resources[Int.random(in: 0..<2, using: &self.generator)],
            by: client,
            mode: self.modes.randomElement(using: &self.generator) ?? .exclusive,
            lease: self.duration(),
            contention: waits ? .queue : .fail,
            waitLimit: waits && self.generator.chance(0.2) ? self.duration() : nil,
            acceptance: self.duration(),
            lockDelay: abilities.delaysAfterLoss && self.generator.chance(0.1) ? .seconds(60) : .zero,
            priority: self.generator.chance(0.2) && abilities.prioritizes ? 50 : 0,
            // Where nobody is promised a turn, everybody may be passed.
            fairness: (self.generator.chance(0.15) && abilities.barges) || !abilities.handsOver ? .barging : .fair,
            after: outer?.request
        )
        self.requests.append((request, client))
        return request
    }

    /// Short enough to run out at the next step of time, or too long to run out at all.
    private mutating func duration() -> Duration {
        self.options.passesTime && self.generator.chance(0.4) ? self.bench.subject.shortLease : Self.long
    }

    private mutating func renewals() -> [Renewal] {
        (0..<Int.random(in: 1...3, using: &self.generator)).compactMap { _ in
            self.requests.randomElement(using: &self.generator).map { Renewal(key: $0.request.key, lease: Self.long) }
        }
    }

    // MARK: - Applying them

    private mutating func apply(_ command: Command) async throws {
        switch command {
        case .acquire(let request):
            let found = try await self.client(of: request.key).acquire(request)
            let expected = try self.model.acquire(request, at: self.now, signals: &self.signals)
            try self.compare(found, expected, of: request.resource)
        case .renew(let renewals):
            let found = try await self.renew(renewals)
            try self.equal(found, renewals.map { self.model.renew($0, at: self.now, signals: &self.signals) }, "renew")
        case .release(let key):
            let found = try await self.client(of: key).release(key)
            try self.equal(found, self.model.release(key, at: self.now, signals: &self.signals), "release")
        case .withdraw(let key):
            let found = try await self.client(of: key).withdraw(key)
            self.withdrawn.insert(key.id)
            try self.equal(found, self.model.withdraw(key, at: self.now, signals: &self.signals), "withdraw")
        case .convert(let conversion):
            let found = try await self.client(of: conversion.key).convert(conversion)
            let expected = self.model.convert(conversion, at: self.now, signals: &self.signals)
            try self.compare(found, expected, of: conversion.key.resource)
        case .waits(let request):
            try await self.compareWaits(request)
        case .revoke(let resource):
            let found = try await self.bench.b.store.revoke(resource)
            try self.compare(found.asked, self.model.revoke(resource, at: self.now, signals: &self.signals), "revoke")
        case .forceRelease(let resource):
            let found = try await self.bench.b.store.forceRelease(resource)
            let expected = self.model.forceRelease(resource, at: self.now, signals: &self.signals)
            try self.compare(found, expected, "forceRelease")
        case .status(let resource):
            let found = try await self.bench.b.store.status(of: resource)
            try self.compare(found, self.model.status(of: resource, at: self.now))
        case .pass(let duration):
            try await self.bench.subject.pass(duration)
            let end = self.now.advanced(by: duration)
            // A store that ends by itself what is over does so at its time, not when it is asked next.
            while self.isTied, self.now.advanced(by: Self.step) < end {
                self.now = self.now.advanced(by: Self.step)
                self.model.expire(at: self.now, signals: &self.signals)
            }
            self.now = end
        }
    }

    /// Renews all at once, or each by the client that it belongs to.
    private func renew(_ renewals: [Renewal]) async throws -> [RenewReply] {
        guard self.isTied else { return try await self.bench.a.store.renew(renewals) }
        var replies: [RenewReply] = []
        for renewal in renewals { replies += try await self.client(of: renewal.key).renew([renewal]) }
        return replies
    }

    /// Whether grants belong to the client that took them: then others do not see all about them.
    private var isTied: Bool { self.bench.a.store.capabilities.sessionLease != nil }

    private func client(of key: GrantKey) -> any LockStore {
        self.requests.first { $0.request.id == key.id }?.client.store ?? self.bench.a.store
    }

    // MARK: - Comparing

    private mutating func compare(_ found: AcquireReply, _ expected: AcquireReply, of resource: Resource) throws {
        switch (found, expected) {
        case (.granted(let found), .granted(let expected)): try self.compare(found, expected, of: resource)
        case (.finished, .finished): break
        case (.busy(let found), .busy(let expected)): try self.compare(found, expected, "blockers")
        case (.waiting(let found), .waiting(let expected)):
            try self.equal(found.position, expected.position, "position")
            try self.compare(found.blockers, expected.blockers, "blockers")
            if !self.isTied { try self.near(found.checkAfter, expected.checkAfter, "checkAfter") }
        default: throw self.divergence("acquire", "\(found)", "\(expected)")
        }
    }

    private mutating func compare(_ found: ConvertReply, _ expected: ConvertReply, of resource: Resource) throws {
        switch (found, expected) {
        case (.converted(let found), .converted(let expected)): try self.compare(found, expected, of: resource)
        case (.busy(let found), .busy(let expected)): try self.compare(found, expected, "blockers")
        case (.waiting(let found), .waiting(let expected)):
            try self.compare(found.blockers, expected.blockers, "blockers")
            if !self.isTied { try self.near(found.checkAfter, expected.checkAfter, "checkAfter") }
        case (.lost, .lost): break
        default: throw self.divergence("convert", "\(found)", "\(expected)")
        }
    }

    /// Tokens are different numbers on both sides, but in the same order, at least for each resource.
    private mutating func compare(
        _ found: FencingToken,
        _ expected: FencingToken,
        of resource: Resource
    ) throws {
        let isOneOrder = !self.isTied && self.bench.a.store.capabilities.handsOver
        for pair in self.tokens where pair.resource == resource || isOneOrder {
            guard (pair.model < expected) == (pair.store < found), (pair.model == expected) == (pair.store == found)
            else {
                throw self.divergence("token order", "\(found), was \(pair.store)", "\(expected), was \(pair.model)")
            }
        }
        self.tokens.append((resource, expected, found))
    }

    private mutating func compare(_ found: [Holder], _ expected: [Holder], _ what: String) throws {
        try self.equal(found.map(\.reference), expected.map(\.reference), what)
        try self.equal(found.map(\.owner), expected.map(\.owner), what)
        try self.equal(found.map(\.mode), expected.map(\.mode), what)
        if !self.isTied {
            try self.equal(found.map(\.isAccepting), expected.map(\.isAccepting), "\(what): accepting")
        }
        for (found, expected) in zip(found, expected) where !self.isTied {
            if let left = found.remaining, let right = expected.remaining { try self.near(left, right, "remaining") }
        }
    }

    private mutating func compare(_ found: ResourceStatus, _ expected: ResourceStatus) throws {
        try self.compare(found.holders, expected.holders, "status")
        try self.equal(found.waiters.map(\.reference), expected.waiters.map(\.reference), "waiters")
        try self.equal(found.waiters.map(\.mode), expected.waiters.map(\.mode), "waiters")
        try self.equal(found.restingFor == nil, expected.restingFor == nil, "resting")
    }

    private mutating func compareWaits(_ request: LockRequest) async throws {
        // A store need not know of a wait that nobody asked about.
        for (other, client) in self.requests { _ = try await client.store.waits(of: other.owner, for: other.resource) }
        let found = try await self.client(of: request.key).waits(of: request.owner, for: request.resource)
        let expected = self.model.waits(of: request.owner, at: self.now)
        try self.equal(Set(found.map(\.resource)), Set(expected.map(\.resource)), "waits")
        for status in found {
            guard let other = expected.first(where: { $0.resource == status.resource }) else { continue }
            try self.compare(status, other)
            try self.equal(status.waiters.map(\.holding), other.waiters.map(\.holding), "holding")
            try self.equal(status.waiters.map(\.fairness), other.waiters.map(\.fairness), "fairness")
            try self.equal(status.waiters.map(\.priority), other.waiters.map(\.priority), "priority")
        }
        let graphs = (WaitForGraph(found), WaitForGraph(expected))
        try self.equal(graphs.0.deadlocks.count, graphs.1.deadlocks.count, "deadlocks")
    }

    /// Signals come when they like, perhaps twice; in the end those that matter are the same.
    private func compareSignals() async throws {
        let expected = Set(self.signals.filter(self.matters))
        let own = Set(self.requests.map(\.request.id))
        for signal in expected {
            var attempts = 0
            while !self.bench.a.signals.contains(signal), !self.bench.b.signals.contains(signal) {
                // About 5 s: signals may take a while on a busy machine.
                guard attempts < 500 else { throw self.divergence("signals", "none", "\(signal)") }
                attempts += 1
                try await self.bench.subject.pass(.milliseconds(10))
            }
        }
        for signal in self.bench.a.signals + self.bench.b.signals
        where self.matters(signal) && !expected.contains(signal) {
            guard let id = Self.request(of: signal), own.contains(id) else { continue }
            throw self.divergence("signals", "\(signal)", "none")
        }
    }

    private func matters(_ signal: StoreSignal) -> Bool {
        switch signal {
        case .lost: true
        // Who withdraws with the grant on its way may never hear of it.
        case .granted(let id):
            self.bench.a.store.capabilities.handsOver && (!self.isTied || !self.withdrawn.contains(id))
        // Who gives a lock back at once may never hear that somebody asked.
        case .revokeRequested: !self.isTied
        // The model's requests do not accept unasked.
        case .handedOver: true
        case .check, .interrupted, .doubted: false
        }
    }

    private static func request(of signal: StoreSignal) -> RequestID? {
        switch signal {
        case .granted(let id), .handedOver(let id, _, since: _), .lost(let id, _), .revokeRequested(let id),
            .check(let id, after: _):
            id
        case .interrupted, .doubted: nil
        }
    }

    private func near(_ found: Duration, _ expected: Duration, _ what: String) throws {
        let difference = found > expected ? found - expected : expected - found
        if difference > self.options.tolerance { throw self.divergence(what, "\(found)", "\(expected)") }
    }

    private func equal<Value: Equatable>(_ found: Value, _ expected: Value, _ what: String) throws {
        if found != expected { throw self.divergence(what, "\(found)", "\(expected)") }
    }

    private func divergence(_ what: String, _ found: String, _ expected: String) -> ModelRun.Divergence {
        let commands = self.log.enumerated().map { "  \($0.offset): \($0.element)" }.joined(separator: "\n")
        return ModelRun.Divergence(
            description: "seed \(self.seed), \(what): expected \(expected), found \(found), after\n\(commands)"
        )
    }

    private static func describe(_ command: Command) -> String {
        switch command {
        case .acquire(let request):
            "acquire \(request.id) \(request.resource) \(request.mode) \(request.contention) lease \(request.lease)"
                + " limit \(request.waitLimit.map { "\($0)" } ?? "-") acceptance \(request.acceptance)"
                + " delay \(request.lockDelay) priority \(request.priority)"
        case .renew(let renewals): "renew \(renewals.map(\.key.id))"
        case .release(let key): "release \(key.id)"
        case .withdraw(let key): "withdraw \(key.id)"
        case .convert(let conversion): "convert \(conversion.key.id) \(conversion.mode) \(conversion.contention)"
        case .waits(let request): "waits \(request.id)"
        case .revoke(let resource): "revoke \(resource)"
        case .forceRelease(let resource): "forceRelease \(resource)"
        case .status(let resource): "status \(resource)"
        case .pass(let duration): "pass \(duration)"
        }
    }
}
