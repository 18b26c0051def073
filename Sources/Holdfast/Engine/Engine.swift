// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import Synchronization

/// The shared state of a service: who waits, what is held, what is due when.
///
/// Everything that decides is in the pure values of ``State``; this class guards them with one lock, and acts after it.
final class Engine: Sendable {
    typealias Instant = ContinuousClock.Instant

    /// What a deadline belongs to.
    enum TimerKey: Hashable, Sendable {
        case lease(RequestID)
        case wait(RequestID)
        case cleanUp(RequestID)

        private var id: RequestID {
            switch self {
            case .lease(let id), .wait(let id), .cleanUp(let id): id
            }
        }

        /// Hashes the id alone: one request rarely has two of them.
        func hash(into hasher: inout Hasher) { hasher.combine(self.id) }

        /// What dictionaries ask for: an id is random.
        func _rawHashValue(seed: Int) -> Int { self.id._rawHashValue(seed: seed) }
    }

    /// A request that waits in this process or in the store.
    struct Waiting {
        let slot: WakeSlot
        /// When the caller's patience ends.
        let deadline: Instant?
        /// What the store handed over to it, until it wakes.
        var handOver: HandOver?
    }

    /// A lock that the store handed over, accepted already.
    struct HandOver {
        let token: FencingToken
        /// What its lease counts from.
        let since: Instant
    }

    /// Something that has to be given back and could not be.
    struct CleanUp {
        let key: GrantKey
        let until: Instant
        var schedule: RetrySchedule
    }

    enum Phase {
        case idle
        case running
        case stopped
    }

    struct State {
        var phase = Phase.idle
        var gate = LocalGate()
        var waiting: [RequestID: Waiting] = [:]
        /// Grants whose signal overtook the reply that said to wait for it, and what was handed over with them.
        ///
        /// There is room for far more than hand-overs can overtake their replies at once.
        var earlyGrants = EarlySignals<HandOver?>(capacity: 256)
        /// Losses whose signal overtook the reply that granted the lock.
        ///
        /// Those of locks that were given back already are among them, and are looked through at each grant.
        var earlyLosses = EarlySignals<LossReason>(capacity: 32)
        var starting: [RequestID: WakeSlot] = [:]
        var leases: [RequestID: LeaseCore] = [:]
        /// Grants that are being taken up.
        var resuming: Set<RequestID> = []
        var cleanUps: [RequestID: CleanUp] = [:]
        var wheel: DeadlineWheel<TimerKey>
        /// What the timekeeper sleeps for.
        var armed: Instant?
    }

    let store: any LockStore
    let configuration: LockServiceConfiguration
    let capabilities: StoreCapabilities
    let clock: any LeaseClock
    let identifiers: IdentifierSource
    let identity: ProcessIdentity
    let origin: Instant
    /// Which time this service lives in: services of different simulations never meet.
    ///
    /// `nil` for the machine's.
    let world: ObjectIdentifier?
    /// Where the timekeeper runs; `nil` in a simulation, which has one thread for all.
    let keeper: Keeper?
    /// Where the timekeeper sleeps.
    let nudge = WakeSlot()
    /// Where `run()` waits to be told to end in an orderly way.
    let stopRequest = WakeSlot()
    /// What follows from the configured lease.
    private let usualSpans: LeaseTimeline.Spans
    /// Whether what a store says of instants means anything here.
    let isSystemClock: Bool
    private let observer: (any LockObserver)?
    let state: Mutex<State>

    init(
        store: any LockStore,
        configuration: LockServiceConfiguration,
        observer: (any LockObserver)?,
        clock: any LeaseClock,
        generator: any RandomNumberGenerator & Sendable
    ) {
        self.store = store
        self.configuration = configuration
        self.capabilities = store.capabilities
        self.observer = observer
        self.usualSpans = LeaseTimeline.Spans(lease: configuration.lease, policy: configuration.timeline)
        self.isSystemClock = clock is ContinuousClock
        self.clock = clock
        self.identifiers = IdentifierSource(generator)
        self.identity = .current(instance: self.identifiers.word(), program: configuration.program)
        self.origin = clock.now
        self.world = type(of: clock) is AnyClass ? ObjectIdentifier(clock as AnyObject) : nil
        self.keeper = clock is ContinuousClock ? Keeper() : nil
        self.state = Mutex(State(wheel: DeadlineWheel(origin: self.origin)))
    }

    /// The time.
    ///
    /// Never inlined: in an asynchronous function, whatever is of a size unknown to the compiler is allocated by its task.
    @inline(never)
    var now: Instant { self.isSystemClock ? ContinuousClock.now : self.clock.now }

    /// The life of a lease that was asked for at an instant.
    func timeline(_ lease: Duration, from instant: Instant) -> LeaseTimeline {
        guard lease != self.usualSpans.lease else { return LeaseTimeline(self.usualSpans, requestedAt: instant) }
        return LeaseTimeline(lease: lease, requestedAt: instant, policy: self.configuration.timeline)
    }

    /// Whether anybody listens.
    var isObserved: Bool { self.observer != nil }

    func observe(_ event: @autoclosure () -> LockEvent) {
        if let observer = self.observer { observer.observe(event()) }
    }

    /// Sets a deadline, and wakes the timekeeper if it sleeps for a later one.
    func setTimer(_ key: TimerKey, at instant: Instant) {
        let mustNudge = self.state.withLock { Self.setTimer(key, at: instant, &$0) }
        if mustNudge { self.nudge.wake(.timer) }
    }

    /// Sets a deadline at the first of several instants, if there is any.
    func setTimer(_ key: TimerKey, atFirstOf instants: [Instant?]) {
        if let first = instants.compactMap(\.self).min() { self.setTimer(key, at: first) }
    }

    static func setTimer(_ key: TimerKey, at instant: Instant, _ state: inout State) -> Bool {
        state.wheel.set(key, at: instant)
        return Self.armed(for: instant, &state)
    }

    /// - Returns: Whether the timekeeper has to be woken to be in time.
    private static func armed(for instant: Instant, _ state: inout State) -> Bool {
        guard let armed = state.armed, instant < armed else { return state.armed == nil }
        // Said once: whoever comes before the timekeeper has looked need not say it again.
        state.armed = instant
        return true
    }

    /// The gate's view of time, for the order of its queue.
    func timestamp(_ instant: Instant) -> Timestamp {
        Timestamp.zero.advanced(by: self.origin.duration(to: instant))
    }

    func lossError(of core: LeaseCore) -> LockError {
        let resource = core.key.resource
        return switch core.loss {
        case .expired: LockError(.lost, "the lock on \(resource) was lost: its lease ended in the store")
        case .forced: LockError(.lost, "the lock on \(resource) was lost: it was taken away by force")
        case .deadline:
            LockError(.lost, "the lock on \(resource) was lost: no renewal was confirmed before its deadline")
        case .stopped: LockError(.lost, "the lock on \(resource) was lost: the lock service stopped")
        case nil:
            core.isHeld
                ? LockError(.lost, "the lock on \(resource) was lost: its deadline is over")
                : LockError(.lost, "the lock on \(resource) was released")
        }
    }

    // MARK: - Signals

    /// Takes a signal of the store.
    func receive(_ signal: StoreSignal) {
        switch signal {
        case .granted(let id): self.granted(id, nil)
        case .handedOver(let id, let token, let since):
            // On another clock it asks.
            self.granted(id, self.isSystemClock ? HandOver(token: token, since: since) : nil)
        case .check(let id, let after):
            self.checkLater(id, after: after)
        case .lost(let id, let reason):
            let core = self.state.withLock { state in
                let core = state.leases[id]
                if core == nil { state.earlyLosses.insert(id, reason) }
                return core
            }
            if let core, core.end(reason) { self.forget(core, because: reason) }
        case .revokeRequested(let id):
            guard let core = self.state.withLock({ $0.leases[id] }) else { return }
            if core.askToRelease() { self.observe(.revokeRequested(core.grant)) }
        case .interrupted:
            self.observe(.signalsInterrupted)
            for id in self.state.withLock({ Array($0.waiting.keys) }) {
                self.checkLater(id, after: self.identifiers.jitter(upTo: Self.interruptionSpread))
            }
        case .doubted:
            for core in self.state.withLock({ Array($0.leases.values) }) { core.doubt() }
        }
    }

    /// Wakes a waiting request that has the lock: with what was handed over to it, or to ask.
    private func granted(_ id: RequestID, _ handOver: HandOver?) {
        let slot = self.state.withLock { state -> WakeSlot? in
            guard let slot = state.waiting[id]?.slot else {
                state.earlyGrants.insert(id, handOver)
                return nil
            }
            if let handOver { state.waiting[id]?.handOver = handOver }
            return slot
        }
        slot?.wake(.signal)
    }

    /// Over how long waiting requests spread their checks when signals were interrupted.
    private static let interruptionSpread: Duration = .milliseconds(100)

    private func checkLater(_ id: RequestID, after delay: Duration) {
        let instant = self.now.advanced(by: delay)
        let mustNudge = self.state.withLock { state -> Bool in
            guard state.waiting[id] != nil else { return false }
            // What was to be looked at sooner still is.
            state.wheel.pull(.wait(id), to: instant)
            return Self.armed(for: instant, &state)
        }
        if mustNudge { self.nudge.wake(.timer) }
    }

    /// Takes a lost lease out of the books and says so.
    func forget(_ core: LeaseCore, because reason: LossReason) {
        self.state.withLock { state in
            guard state.leases[core.key.id] === core else { return }
            state.leases[core.key.id] = nil
            state.wheel.clear(.lease(core.key.id))
        }
        self.observe(.lost(core.grant, reason: reason, held: core.acquiredAt.duration(to: self.now)))
    }
}
