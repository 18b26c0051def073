// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore
internal import Synchronization

/// A clock that stands still until a test moves it.
///
/// A test waits until the code under test sleeps, and then moves the clock: no test has to sleep, and none can come too
/// early.
///
/// ```swift
/// let clock = ManualClock()
/// async let work: Void = codeUnderTest(clock: clock)
/// await clock.nextTimerScheduled()       // it sleeps now
/// clock.advance(by: .seconds(10))        // and is woken
/// ```
///
/// Sleepers wake in the order of their deadlines, each exactly once; a sleeper that is cancelled throws
/// `CancellationError` at once and leaves nothing behind.
public final class ManualClock: LeaseClock {
    /// Instants are those of `ContinuousClock`, so that leases need not be generic over their clock.
    public typealias Instant = ContinuousClock.Instant

    private let state: Mutex<ManualClockState>

    /// Where the clock began.
    public let start: Instant

    /// Makes a clock.
    ///
    /// - Parameter start: Where it begins; which instant that is means nothing.
    public init(start: Instant = ContinuousClock().now) {
        self.start = start
        self.state = Mutex(ManualClockState(now: start))
    }

    /// The time, as it was last set.
    public var now: Instant { self.state.withLock { $0.now } }
    /// One nanosecond.
    public var minimumResolution: Duration { .nanoseconds(1) }
    /// How far the clock was moved since it was made.
    public var elapsed: Duration { self.start.duration(to: self.now) }
    /// How many sleepers wait at present.
    public var timerCount: Int { self.state.withLock { $0.timers.count } }
    /// When the next sleeper wakes, or `nil` when nobody sleeps.
    public var nextDeadline: Instant? { self.state.withLock { $0.timers.first?.deadline } }

    /// Suspends until the clock is moved to a deadline or past it.
    ///
    /// - Parameters:
    ///   - deadline: When to wake; the past and the present return at once.
    ///   - tolerance: Ignored.
    /// - Throws: `CancellationError` as soon as the task is cancelled.
    public func sleep(until deadline: Instant, tolerance: Duration? = nil) async throws {
        try Task.checkCancellation()
        let id = self.state.withLock { $0.makeID() }
        defer { self.state.withLock { $0.settle(id) } }
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                let wakes = self.state.withLock { $0.insert(id: id, at: deadline, .wake(continuation)) }
                Self.perform(wakes)
            }
        } onCancel: {
            Self.perform(self.state.withLock { $0.cancel(id) })
        }
    }

    // MARK: - Moving

    /// Moves the clock forward.
    ///
    /// - Parameter duration: How far; at least zero.
    public func advance(by duration: Duration) { self.advance(to: self.now.advanced(by: duration)) }

    /// Moves the clock forward, and stops at each deadline on the way in order to wake its sleepers.
    ///
    /// What the sleepers then do runs on their own executors and may come after this returns.
    ///
    /// - Parameter instant: Where to; the past is ignored.
    public func advance(to instant: Instant) {
        while let timer = self.state.withLock({ $0.next(until: instant) }) { Self.perform([timer]) }
    }

    // MARK: - Waiting for sleepers

    /// Waits until code under test begins to sleep.
    ///
    /// Each sleeper is reported once, in the order in which they began; one that began before the call counts.
    ///
    /// - Returns: When that sleeper will wake; the present time when the waiting task is cancelled.
    @discardableResult
    public func nextTimerScheduled() async -> Instant {
        await self.rendezvous(.next)
        return self.state.withLock { $0.lastReported }
    }

    /// Waits until at least so many sleepers wait at once, or the waiting task is cancelled.
    ///
    /// - Parameter count: How many.
    public func timers(atLeast count: Int) async { await self.rendezvous(.count(count)) }

    private func rendezvous(_ condition: ManualClockState.Condition) async {
        let id = self.state.withLock { $0.makeID() }
        defer { self.state.withLock { $0.settle(id) } }
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let resume = self.state.withLock { $0.wait(id: id, for: condition, continuation) }
                if resume { continuation.resume() }
            }
        } onCancel: {
            Self.perform(self.state.withLock { $0.cancel(id) })
        }
    }

    // MARK: - For the simulation

    /// Calls a function when the clock gets to an instant, on the thread that moves it.
    ///
    /// - Parameters:
    ///   - delay: After how long; zero calls it at once.
    ///   - action: What to do; must not block.
    /// - Returns: An id for ``cancel(_:)``.
    @discardableResult
    package func schedule(after delay: Duration, _ action: @escaping @Sendable () -> Void) -> UInt64 {
        let (id, due) = self.state.withLock { state in
            let id = state.makeID()
            return (id, state.insert(id: id, at: state.now.advanced(by: delay), .call(action)))
        }
        Self.perform(due)
        return id
    }

    /// Forgets a scheduled call, if it did not happen yet.
    package func cancel(_ id: UInt64) { self.state.withLock { $0.forget(id) } }

    private static func perform(_ actions: [ManualClockState.Action]) {
        for action in actions {
            switch action {
            case .wake(let continuation): continuation.resume()
            case .interrupt(let continuation): continuation.resume(throwing: CancellationError())
            case .call(let function): function()
            case .proceed(let continuation): continuation.resume()
            }
        }
    }
}
