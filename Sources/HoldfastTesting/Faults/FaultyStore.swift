// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore
internal import Synchronization

/// Any store, seen through a bad network.
///
/// Requests are delayed, lost, doubled and overtaken, replies and signals too, as the ``FaultPlan`` says. Its
/// ``run()`` carries the messages: calls wait until it runs, and fail once it ended. The base store is called with its own rules, so its own
/// faults come on top.
public final class FaultyStore: LockStore {
    private typealias Work = @Sendable () async -> Void

    private struct State {
        var generator: SeededGenerator
        var plan: FaultPlan
        var isDown = false
        /// What ends each open call when nobody carries messages any more; `nil` after that.
        var open: [Int: @Sendable () -> Void]? = [:]
        var lastCall = 0
        var handlers: [Int: @Sendable (StoreSignal) -> Void] = [:]
        var lastHandler = 0
    }

    private let base: any LockStore
    private let clock: any LeaseClock
    private let deadline: Duration
    private let state: Mutex<State>
    private let work: AsyncStream<Work>
    private let queue: AsyncStream<Work>.Continuation

    /// Puts a bad network before a store.
    ///
    /// - Parameters:
    ///   - base: The store.
    ///   - plan: How the network behaves at first.
    ///   - seed: Decides about each message.
    ///   - clock: What delays are counted on.
    ///   - deadline: After how long a call without a reply throws.
    public init(
        _ base: any LockStore,
        plan: FaultPlan,
        seed: UInt64,
        clock: any LeaseClock = ContinuousClock(),
        deadline: Duration = .seconds(1)
    ) {
        self.base = base
        self.clock = clock
        self.deadline = deadline
        self.state = Mutex(State(generator: SeededGenerator(seed: seed), plan: plan))
        (self.work, self.queue) = AsyncStream.makeStream()
    }

    /// What the base store can do.
    public var capabilities: StoreCapabilities { self.base.capabilities }

    /// How the network behaves from now on.
    public var plan: FaultPlan {
        get { self.state.withLock { $0.plan } }
        set { self.state.withLock { $0.plan = newValue } }
    }

    /// Begins an outage, or ends it and says so to the subscribers: nothing gets through in between.
    public func setDown(_ isDown: Bool) {
        self.state.withLock { $0.isDown = isDown }
        if !isDown { self.announce(.interrupted) }
    }

    // MARK: - LockStore

    /// See `LockStore`.
    public func acquire(_ request: LockRequest) async throws -> AcquireReply {
        try self.capabilities.check(request)
        return try await self.call { base in try await base.acquire(request) }
    }

    /// See `LockStore`.
    public func renew(_ renewals: [Renewal]) async throws -> [RenewReply] {
        try await self.call { base in try await base.renew(renewals) }
    }

    /// See `LockStore`.
    public func release(_ grant: GrantKey) async throws -> ReleaseReply {
        try await self.call { base in try await base.release(grant) }
    }

    /// See `LockStore`.
    public func withdraw(_ request: GrantKey) async throws -> WithdrawReply {
        try await self.call { base in try await base.withdraw(request) }
    }

    /// See `LockStore`.
    public func convert(_ conversion: Conversion) async throws -> ConvertReply {
        try await self.call { base in try await base.convert(conversion) }
    }

    /// See `LockStore`.
    public func waits(of owner: OwnerID, for resource: Resource) async throws -> [ResourceStatus] {
        try await self.call { base in try await base.waits(of: owner, for: resource) }
    }

    /// See `LockStore`.
    public func revoke(_ resource: Resource) async throws -> RevokeReply {
        try await self.call { base in try await base.revoke(resource) }
    }

    /// See `LockStore`.
    public func forceRelease(_ resource: Resource) async throws -> [Holder] {
        try await self.call { base in try await base.forceRelease(resource) }
    }

    /// See `LockStore`.
    public func status(of resource: Resource) async throws -> ResourceStatus {
        try await self.call { base in try await base.status(of: resource) }
    }

    /// See `LockStore`.
    public func survey(_ pattern: ResourcePattern, after cursor: SurveyPage.Cursor?) async throws -> SurveyPage {
        try await self.call { base in try await base.survey(pattern, after: cursor) }
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

    /// Runs the base store and carries messages until cancelled.
    ///
    /// Run it once.
    public func run() async throws {
        let subscription = self.base.subscribe { signal in self.carry(signal) }
        defer {
            subscription.cancel()
            let open = self.state.withLock { state in
                defer { state.open = nil }
                return state.open ?? [:]
            }
            for end in open.values { end() }
        }
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await self.base.run() }
            group.addTask {
                await withDiscardingTaskGroup { messages in
                    for await message in self.work { messages.addTask { await message() } }
                    messages.cancelAll()
                }
            }
            try await group.next()
            group.cancelAll()
        }
    }

    // MARK: - Network

    private func call<Reply: Sendable>(
        _ request: @escaping @Sendable (any LockStore) async throws -> Reply
    ) async throws -> Reply {
        let fate = self.state.withLock { state in
            state.isDown ? RequestFate() : state.plan.requestFate(using: &state.generator)
        }
        return try await withCheckedThrowingContinuation { continuation in
            let call = PendingCall(continuation)
            guard let id = self.register(call) else {
                call.finish(.failure(LockError(.storeUnavailable, "the faulty store is not running any more")))
                return
            }
            self.queue.yield {
                try? await self.clock.sleep(for: self.deadline)
                self.state.withLock { state in _ = state.open?.removeValue(forKey: id) }
                call.finish(.failure(LockError(.storeUnavailable, "the store did not answer in time")))
            }
            for delay in fate.arrivals {
                self.queue.yield {
                    try? await self.clock.sleep(for: delay)
                    let result: Result<Reply, any Error>
                    do {
                        result = .success(try await request(self.base))
                    } catch {
                        result = .failure(error)
                    }
                    guard let delay = fate.reply else { return }
                    try? await self.clock.sleep(for: delay)
                    call.finish(result)
                }
            }
        }
    }

    /// Notes an open call, so that it ends with ``run()`` at the latest.
    private func register(_ call: PendingCall<some Sendable>) -> Int? {
        self.state.withLock { state in
            guard state.open != nil else { return nil }
            state.lastCall += 1
            state.open?[state.lastCall] = {
                call.finish(.failure(LockError(.storeUnavailable, "the faulty store stopped running")))
            }
            return state.lastCall
        }
    }

    private func carry(_ signal: StoreSignal) {
        let arrivals = self.state.withLock { state -> [Duration] in
            if state.isDown { return [] }
            if signal == .interrupted { return [.zero] }
            return state.plan.signalArrivals(using: &state.generator)
        }
        for delay in arrivals {
            self.queue.yield {
                try? await self.clock.sleep(for: delay)
                self.announce(signal)
            }
        }
    }

    private func announce(_ signal: StoreSignal) {
        let handlers = self.state.withLock { state in state.handlers.sorted { $0.key < $1.key }.map(\.value) }
        for handler in handlers { handler(signal) }
    }
}
