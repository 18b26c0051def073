// SPDX-License-Identifier: Apache-2.0

public import Holdfast
public import HoldfastCore
import Synchronization

/// Runs caches: their loads, deadlines and sweeps.
///
/// ```swift
/// let caches = try CacheService()
/// let products = try caches.cache("products", of: Product.self, keyedBy: Int.self) { $0.options.timeToLive = .seconds(60) }
/// // Somebody has to run it: a task group, a ServiceGroup, or `withCacheService`.
/// group.addTask { try await caches.run() }
///
/// let product = try await products.value(for: 42) { try await database.product(42) }
/// ```
///
/// Loads belong to the service and not to a caller: they run in its tasks, without the callers' task-local values (the
/// tracing context aside), and end with it.
public final class CacheService: Sendable {
    enum Phase: Sendable {
        case idle, running, draining, stopped
    }

    struct State: Sendable {
        var phase = Phase.idle
        var caches: [String: any ServedCache] = [:]
        var starting: [UInt64: WakeSlot] = [:]
        var nextStart: UInt64 = 0
        /// Loads under way, those given up aside.
        var loads = 0
        /// Who waits for all loads to end.
        var drained: WakeSlot?
        /// Why the service cannot go on.
        var failure: (any Error)?
    }

    typealias Job = @Sendable () async -> Void

    let configuration: CacheServiceConfiguration
    let locks: GuardedLocks?
    /// What entries in the tier say of who wrote them.
    let name: String
    let tier: GuardedTier?
    let bus: BusPort?
    let clock: CacheClock
    let timers: CacheTimers
    let graph = LoadGraph()
    let observer: (any CacheObserver)?
    let stopRequest = WakeSlot()
    /// Woken when the service cannot go on.
    let failed = WakeSlot()
    let state = Mutex(State())
    let jobs: (stream: AsyncStream<Job>, input: AsyncStream<Job>.Continuation)
    private let flights = Atomic<UInt64>(0)
    private let generator: Mutex<any RandomNumberGenerator & Sendable>

    /// Makes a service.
    ///
    /// Nothing is sent and nothing runs before ``run()``.
    ///
    /// - Parameters:
    ///   - configuration: Limits.
    ///   - tier: What shared caches share; `nil` for caches that are this process' own. The service runs it.
    ///   - bus: How processes tell each other what changed; without one, what others change is noticed when an entry's
    ///     time to live is over. The service runs it.
    ///   - locks: Lets one process load for all; it must be run by somebody too. Without, each process loads once.
    ///   - observer: Told of what happens.
    ///   - clock: What lifetimes are counted on; another one in tests only.
    ///   - generator: Where jitter comes from.
    /// - Throws: ``CacheError`` with code ``CacheError/Code/invalidArgument`` when a setting is out of its range.
    public init(
        configuration: CacheServiceConfiguration = CacheServiceConfiguration(),
        tier: (any CacheTier)? = nil,
        bus: (any CacheBus)? = nil,
        locks: LockService? = nil,
        observer: (any CacheObserver)? = nil,
        clock: any LeaseClock = ContinuousClock(),
        generator: any RandomNumberGenerator & Sendable = SystemRandomNumberGenerator()
    ) throws(CacheError) {
        try configuration.validate()
        self.configuration = configuration
        let time = CacheClock(clock)
        self.observer = observer
        self.clock = time
        self.timers = CacheTimers(time)
        // Bounded by the limit for loads and the number of caches.
        let (stream, input) = AsyncStream<Job>.makeStream(bufferingPolicy: .unbounded)
        self.jobs = (stream, input)
        let host = ServiceGate.Host(clock: time, timers: self.timers) { input.yield(Self.inContext($0)) }
        let limit = tier?.timeout ?? CacheLimits.longestWait
        self.locks = locks.map { GuardedLocks($0, host, limit: limit) }
        var generator = generator
        let origin = generator.next()
        self.name = (locks?.identity ?? .current(instance: origin)).name
        self.generator = Mutex(generator)
        self.tier = tier.map { tier in
            GuardedTier(tier, host, retries: configuration.tierRetries) {
                observer?.observe(.tierOutage(tier: tier.name, error: $0))
            }
        }
        let hasSides = self.tier?.hasSides ?? false
        self.bus = bus.map { BusPort($0, origin: origin, hasSides: hasSides, clock: time) }
        (tier as? FallbackTier)?.watch { [weak self] in self?.tierSwitched($0, named: tier?.name ?? "") }
    }

    /// The tier is another one from now on, with other versions, or could not become one.
    private func tierSwitched(_ change: FallbackTier.Switch, named name: String) {
        if case .failed(let error) = change { return self.observe(.tierReturnFailed(tier: name, error: error)) }
        for cache in self.state.withLock({ Array($0.caches.values) }) { cache.forgetVersions() }
        switch change {
        case .toSecondary(let error): self.observe(.tierFellBack(tier: name, error: error))
        case .toPrimary: self.observe(.tierReturned(tier: name))
        case .failed: break
        }
    }

    /// Makes a cache that is this process' own.
    ///
    /// - Parameters:
    ///   - name: Its name, one of its own in this service: 1 to ``CacheLimits/maximumNamespace`` bytes.
    ///   - value: What it keeps.
    ///   - key: How that is called.
    ///   - configure: Changes the defaults.
    /// - Returns: The cache.
    /// - Throws: ``CacheError`` with code ``CacheError/Code/invalidArgument`` when the name is taken or a setting is out of
    ///   its range.
    public func cache<Key: Hashable & Sendable, Value: Sendable>(
        _ name: String,
        of value: Value.Type = Value.self,
        keyedBy key: Key.Type = Key.self,
        configure: (inout CacheConfiguration<Key, Value>) -> Void = { _ in }
    ) throws(CacheError) -> Cache<Key, Value> {
        var configuration = CacheConfiguration<Key, Value>()
        configure(&configuration)
        try configuration.validate()
        try Self.check(name)
        let cache = Cache(name: name, configuration: configuration, service: self)
        return try self.add(cache) { for key in $0 { cache.remove(key) } }
    }

    /// Adds a cache under its name.
    ///
    /// - Parameters:
    ///   - cache: The cache.
    ///   - forget: Has it forget keys that are not in the source as it has them.
    /// - Returns: The cache.
    /// - Throws: ``CacheError`` with code ``CacheError/Code/invalidArgument`` when the name is taken.
    func add<Key: Hashable & Sendable, Value: Sendable>(
        _ cache: Cache<Key, Value>,
        _ forget: @escaping @Sendable ([Key]) async throws -> Void
    ) throws(CacheError) -> Cache<Key, Value> {
        let name = cache.name
        let isTaken = self.state.withLock { state in
            guard state.caches[name] == nil else { return true }
            state.caches[name] = cache
            return false
        }
        guard !isTaken else { throw CacheError(.invalidArgument, "there is a cache named \(name) already") }
        if let behind = cache.source?.behind {
            self.jobs.input.yield {
                do {
                    try await behind.run { keys in
                        do {
                            try await forget(keys)
                        } catch {
                            cache.invalidationFailed(error, count: keys.count)
                        }
                    }
                } catch {
                    self.state.withLock { if $0.failure == nil { $0.failure = error } }
                    self.failed.wake(.stopped)
                }
            }
        }
        return cache
    }

    static func check(_ name: String) throws(CacheError) {
        guard (1...CacheLimits.maximumNamespace).contains(name.utf8.count) else {
            throw CacheError(.invalidArgument, "a cache's name has 1 to \(CacheLimits.maximumNamespace) bytes")
        }
        guard name.utf8.allSatisfy({ $0 > 0x20 && $0 != 0x7F && !"{}:*?[]\\".utf8.contains($0) }) else {
            throw CacheError(.invalidArgument, "a cache's name has no spaces, control characters, or any of {}:*?[]\\")
        }
    }

    /// What all caches of the service did so far.
    ///
    /// - Returns: Statistics by the caches' names.
    public func statistics() -> [String: CacheStatistics] {
        self.state.withLock { $0.caches }.mapValues { $0.statistics() }
    }

    /// Whether messages of other processes come.
    ///
    /// While they do not, what is in the memory of shared caches is checked against the tier every
    /// ``CacheServiceConfiguration/sweepInterval``. `false` without a bus.
    public var isListening: Bool { self.bus?.isListening ?? false }

    // MARK: - For caches

    func nextFlight() -> FlightID { FlightID(number: self.flights.add(1, ordering: .relaxed).newValue) }

    func random() -> UInt64 { self.generator.withLock { $0.next() } }

    /// Reserves a place among the loads, if there is one and the service runs.
    ///
    /// Asked under the lock of the part where the load is noted: what is admitted before the service stops is found there
    /// when it does, and told.
    func admitLoad() -> Bool {
        self.state.withLock { state in
            guard state.phase == .running, state.loads < self.configuration.maximumLoads else { return false }
            state.loads += 1
            return true
        }
    }

    func loadEnded() {
        let drained = self.state.withLock { state in
            state.loads -= 1
            return state.loads == 0 ? state.drained : nil
        }
        drained?.wake(.finished)
    }

    /// Waits until the service runs.
    ///
    /// - Throws: ``CacheError`` with code ``CacheError/Code/notRunning``, or `CancellationError`.
    func awaitStart() async throws {
        let waiting = self.state.withLock { state -> (WakeSlot, UInt64)? in
            guard state.phase == .idle else { return nil }
            let slot = WakeSlot()
            state.nextStart += 1
            state.starting[state.nextStart] = slot
            return (slot, state.nextStart)
        }
        if let (slot, number) = waiting {
            defer { self.state.withLock { _ = $0.starting.removeValue(forKey: number) } }
            let limit = self.configuration.startupLimit
            let reasons = await withTaskGroup(of: Void.self) { group in
                group.addTask {
                    try? await self.clock.sleeper.sleep(for: limit)
                    if !Task.isCancelled { slot.wake(.timer) }
                }
                defer { group.cancelAll() }
                return await slot.wait()
            }
            if reasons.contains(.cancelled) { throw CancellationError() }
            guard reasons.contains(.admitted) else {
                throw CacheError(
                    .notRunning,
                    "nobody runs the cache service; call run() in a task of yours, or use withCacheService"
                )
            }
        }
        switch self.state.withLock({ $0.phase }) {
        case .idle, .running: break
        case .draining, .stopped: throw CacheError(.notRunning, "the cache service has stopped")
        }
    }

    func observe(_ event: @autoclosure () -> CacheEvent) {
        if let observer = self.observer { observer.observe(event()) }
    }
}

/// What a service does with its caches, whatever they keep.
protocol ServedCache: AnyObject, Sendable {
    /// Doubts what is in memory: news of other processes may be missing.
    func suspect()
    /// Takes all that the tier has for newer than what is in memory: it is another tier than before.
    func forgetVersions()
    /// Takes note of what other processes changed.
    func receive(_ changes: [BusMessage.Change])
    /// Removes what has expired.
    func sweep()
    /// What happened so far.
    func statistics() -> CacheStatistics
    /// Writes to the source what waits for more to come, and takes no more.
    func beginDrain()
    /// Waits until all is written, or the time is over.
    func drained(by time: Int64) async
    /// Ends all loads: the service stops.
    func stop()
}
