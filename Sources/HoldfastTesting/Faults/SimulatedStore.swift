// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore
internal import Synchronization

/// One client of a ``SimulatedServer``, with a network of its own.
public final class SimulatedStore: LockStore {
    private struct State {
        var generator: SeededGenerator
        var plan: FaultPlan
        var isCutOff = false
        var handlers: [Int: @Sendable (StoreSignal) -> Void] = [:]
        var lastHandler = 0
        var calls = 0
    }

    private let server: SimulatedServer
    private let deadline: Duration
    private let state: Mutex<State>

    init(server: SimulatedServer, generator: SeededGenerator, plan: FaultPlan, deadline: Duration) {
        self.server = server
        self.deadline = deadline
        self.state = Mutex(State(generator: generator, plan: plan))
    }

    /// What the server can do.
    public var capabilities: StoreCapabilities { self.server.capabilities }

    /// How many calls were made.
    public var calls: Int { self.state.withLock { $0.calls } }

    /// How the network behaves from now on.
    public var plan: FaultPlan {
        get { self.state.withLock { $0.plan } }
        set { self.state.withLock { $0.plan = newValue } }
    }

    /// Cuts the client off, or heals the cut and tells the client that signals may be missing.
    public func setCutOff(_ isCutOff: Bool) {
        self.state.withLock { $0.isCutOff = isCutOff }
        if !isCutOff { self.deliver(.interrupted) }
    }

    // MARK: - LockStore

    /// See `LockStore`.
    public func acquire(_ request: LockRequest) async throws -> AcquireReply {
        try self.capabilities.check(request)
        return try await self.call { table, now, signals throws(LockError) in
            try table.acquire(request, at: now, signals: &signals)
        }
    }

    /// See `LockStore`.
    public func renew(_ renewals: [Renewal]) async throws -> [RenewReply] {
        try await self.call { table, now, signals in
            renewals.map { table.renew($0, at: now, signals: &signals) }
        }
    }

    /// See `LockStore`.
    public func release(_ grant: GrantKey) async throws -> ReleaseReply {
        try await self.call { table, now, signals in table.release(grant, at: now, signals: &signals) }
    }

    /// See `LockStore`.
    public func withdraw(_ request: GrantKey) async throws -> WithdrawReply {
        try await self.call { table, now, signals in table.withdraw(request, at: now, signals: &signals) }
    }

    /// See `LockStore`.
    public func convert(_ conversion: Conversion) async throws -> ConvertReply {
        try await self.call { table, now, signals in table.convert(conversion, at: now, signals: &signals) }
    }

    /// See `LockStore`.
    public func waits(of owner: OwnerID, for resource: Resource) async throws -> [ResourceStatus] {
        try await self.call { table, now, _ in table.waits(of: owner, at: now) }
    }

    /// See `LockStore`.
    public func revoke(_ resource: Resource) async throws -> RevokeReply {
        try await self.call { table, now, signals in
            let asked = table.revoke(resource, at: now, signals: &signals)
            return RevokeReply(asked: asked, reached: asked.count)
        }
    }

    /// See `LockStore`.
    public func forceRelease(_ resource: Resource) async throws -> [Holder] {
        try await self.call { table, now, signals in table.forceRelease(resource, at: now, signals: &signals) }
    }

    /// See `LockStore`.
    public func status(of resource: Resource) async throws -> ResourceStatus {
        try await self.call { table, now, _ in table.status(of: resource, at: now) }
    }

    /// See `LockStore`.
    public func survey(_ pattern: ResourcePattern, after cursor: SurveyPage.Cursor?) async throws -> SurveyPage {
        try await self.call { table, now, _ in table.survey(pattern, after: cursor, at: now) }
    }

    /// See `LockStore`.
    public func subscribe(_ handler: @escaping @Sendable (StoreSignal) -> Void) -> SignalSubscription {
        let id = self.state.withLock { state in
            state.lastHandler += 1
            state.handlers[state.lastHandler] = handler
            return state.lastHandler
        }
        return SignalSubscription { self.state.withLock { state in _ = state.handlers.removeValue(forKey: id) } }
    }

    /// Does nothing until it is cancelled.
    public func run() async throws { for await _ in AsyncStream<Never>.makeStream().stream {} }

    // MARK: - Network

    func deliver(_ signal: StoreSignal) {
        let arrivals = self.state.withLock { state -> [Duration] in
            if state.isCutOff { return [] }
            // A connection that broke is noticed on this side: that signal is never lost.
            if signal == .interrupted { return [.zero] }
            return state.plan.signalArrivals(using: &state.generator)
        }
        for delay in arrivals {
            self.server.clock.schedule(after: delay) {
                let handlers = self.state.withLock { state in state.handlers.sorted { $0.key < $1.key }.map(\.value) }
                for handler in handlers { handler(signal) }
            }
        }
    }

    private func call<Reply: Sendable>(
        _ command: @escaping @Sendable (inout LockTable, Timestamp, inout [StoreSignal]) throws(LockError) -> Reply
    ) async throws -> Reply {
        let fate = self.state.withLock { state in
            state.calls += 1
            return state.isCutOff ? RequestFate() : state.plan.requestFate(using: &state.generator)
        }
        let clock = self.server.clock
        return try await withCheckedThrowingContinuation { continuation in
            let call = PendingCall(continuation)
            let timer = clock.schedule(after: self.deadline) {
                call.finish(.failure(LockError(.storeUnavailable, "the simulated server did not answer in time")))
            }
            for delay in fate.arrivals {
                clock.schedule(after: delay) {
                    self.server.handle { table, now, signals in
                        let result: Result<Reply, any Error>
                        do throws(LockError) {
                            result = .success(try command(&table, now, &signals))
                        } catch {
                            result = .failure(error)
                        }
                        self.reply(result, to: call, after: fate.reply, timer: timer)
                    }
                }
            }
        }
    }

    private func reply<Reply>(
        _ result: Result<Reply, any Error>,
        to call: PendingCall<Reply>,
        after delay: Duration?,
        timer: UInt64
    ) {
        guard let delay else { return }
        let clock = self.server.clock
        clock.schedule(after: delay) {
            guard !self.state.withLock({ $0.isCutOff }) else { return }
            clock.cancel(timer)
            call.finish(result)
        }
    }
}
