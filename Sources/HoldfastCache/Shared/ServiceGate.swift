// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import Synchronization

#if Tracing
import Tracing
#endif

/// The way to a service that may not work: behind a breaker, and for loads with an end to the waiting.
final class ServiceGate: Sendable {
    /// What the gate needs of the cache service.
    struct Host: Sendable {
        let clock: CacheClock
        let timers: CacheTimers
        /// Runs something in a task of the cache service.
        let launch: @Sendable (@escaping CacheService.Job) -> Void
    }

    /// How long a load waits for a call that is made to see whether the service works again, in nanoseconds; the call
    /// itself goes on.
    private static let trialWait: Int64 = 20_000_000
    /// How long nobody is let through at most: calls that try cost next to nothing.
    private static let longestPause: Int64 = 1_000_000_000

    private let host: Host
    private let breaker = Mutex(CircuitBreaker(longestPause: ServiceGate.longestPause))
    private let isOutage: @Sendable (any Error) -> Bool
    private let refusal: @Sendable () -> any Error
    /// Told when the breaker opens.
    private let onOutage: @Sendable (any Error) -> Void

    /// Makes a gate.
    ///
    /// - Parameters:
    ///   - host: What it needs of the cache service.
    ///   - isOutage: Whether an error says that the service does not work.
    ///   - refusal: The error of calls that are not made or not waited for.
    ///   - onOutage: Told when the breaker opens.
    init(
        _ host: Host,
        isOutage: @escaping @Sendable (any Error) -> Bool,
        refusal: @escaping @Sendable () -> any Error,
        onOutage: @escaping @Sendable (any Error) -> Void = { _ in }
    ) {
        self.host = host
        self.isOutage = isOutage
        self.refusal = refusal
        self.onOutage = onOutage
    }

    /// Whether calls are made.
    var circuit: CircuitState { self.breaker.withLock { $0.state } }

    /// Makes a call, if the service is believed to work.
    ///
    /// - Parameters:
    ///   - patience: That of the load that makes it; `nil` for a caller who cannot go on without the answer.
    ///   - limit: How long a load waits at most; `nil` for as long as the call takes.
    ///   - call: The call. One that a load does not wait for goes on.
    ///   - late: What to do with an answer that nobody waited for.
    /// - Returns: The answer.
    /// - Throws: What the call throws; the refusal; or `CancellationError`.
    func ask<Answer: Sendable>(
        by patience: LoadPatience?,
        within limit: Duration? = nil,
        _ call: @escaping @Sendable () async throws -> Answer,
        late: @escaping @Sendable (Answer) async -> Void = { _ in }
    ) async throws -> Answer {
        guard let patience else {
            guard self.breaker.withLock({ $0.admits(at: self.host.clock.now) }) else { throw self.refusal() }
            return try await self.make(nil, call)
        }
        if let silentSince = patience.silentSince {
            // Likely on the same server, and then the next load need not find out by waiting.
            self.breaker.withLock { $0.doubt(since: silentSince) }
            throw self.refusal()
        }
        switch self.breaker.withLock({ $0.admission(at: self.host.clock.now) }) {
        case .refused: throw self.refusal()
        case .tries: return try await self.makeApart(patience, within: Self.trialWait, isTrial: true, call, late)
        case .passes:
            guard let limit else { return try await self.make(patience, call) }
            return try await self.makeApart(patience, within: limit.nanoseconds, isTrial: false, call, late)
        }
    }

    /// Makes a call that may take as long as it likes, but whose caller does not wait for its end when he is cancelled.
    ///
    /// - Parameters:
    ///   - patience: That of the load that makes it; `nil` for another caller, who waits for the end.
    ///   - call: The call.
    ///   - late: What to do with an answer that nobody waited for.
    /// - Returns: The answer.
    /// - Throws: What the call throws, or `CancellationError`.
    func wait<Answer: Sendable>(
        by patience: LoadPatience?,
        _ call: @escaping @Sendable () async throws -> Answer,
        late: @escaping @Sendable (Answer) async -> Void
    ) async throws -> Answer {
        guard let patience else { return try await self.make(nil, call) }
        return try await self.makeApart(patience, within: nil, isTrial: false, call, late)
    }

    /// Makes a call in the caller's task.
    private func make<Answer: Sendable>(
        _ patience: LoadPatience?,
        _ call: @Sendable () async throws -> Answer
    ) async throws -> Answer {
        let start = self.host.clock.now
        do {
            let answer = try await call()
            self.breaker.withLock { $0.succeeded(at: self.host.clock.now) }
            return answer
        } catch {
            self.note(error, patience, since: start)
            throw error
        }
    }

    /// Takes note of how a call ended that gave no answer.
    private func note(_ error: any Error, _ patience: LoadPatience?, since start: Int64) {
        let now = self.host.clock.now
        if error is CancellationError {
            self.breaker.withLock { $0.withdrew(at: now) }
        } else if self.isOutage(error) {
            patience?.failed(at: now, since: start)
            if self.breaker.withLock({ $0.failed(at: now, after: now - start) }) { self.onOutage(error) }
        } else {
            // It answered, though not what was wanted.
            self.breaker.withLock { $0.succeeded(at: now) }
        }
    }

    /// Makes a call in a task of its own, so that its caller can go on before it ends.
    private func makeApart<Answer: Sendable>(
        _ patience: LoadPatience,
        within limit: Int64?,
        isTrial: Bool,
        _ call: @escaping @Sendable () async throws -> Answer,
        _ late: @escaping @Sendable (Answer) async -> Void
    ) async throws -> Answer {
        let errand = Errand<Answer>()
        let start = self.host.clock.now
        self.host.launch {
            await errand.run {
                try await self.make(patience, call)
            } late: {
                await late($0)
            }
        }
        let giveUp = { @Sendable in
            let error = self.refusal()
            guard errand.end(.failure(error)), !isTrial else { return }
            self.note(error, patience, since: start)
        }
        let alarm = limit.map { limit in
            let due = start.after(nanoseconds: limit)
            return self.host.timers.schedule(at: due) {
                let now = self.host.clock.now
                // A process that was stopped has not waited: the answer may be there, and nobody has read it.
                guard now > due.after(nanoseconds: limit) else { return giveUp() }
                _ = self.host.timers.schedule(at: now.after(nanoseconds: limit), giveUp)
            }
        }
        defer { if let alarm { self.host.timers.cancel(alarm) } }
        return try await errand.answer()
    }
}

/// A call in a task of its own, and who waits for it.
private final class Errand<Answer: Sendable>: Sendable {
    private enum State {
        case underWay
        case ended(Result<Answer, any Error>)
        /// Nobody waits for it any more.
        case left
    }

    private let state = Mutex(State.underWay)
    private let ended = WakeSlot()
    private let stop = WakeSlot()

    /// Makes the call, until it ends or whoever waits for it is cancelled.
    ///
    /// - Parameters:
    ///   - call: The call.
    ///   - late: Takes an answer that nobody waits for.
    func run(
        _ call: @escaping @Sendable () async throws -> Answer,
        late: @escaping @Sendable (Answer) async -> Void
    ) async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                do {
                    let answer = try await call()
                    if !self.end(.success(answer)) { await late(answer) }
                } catch {
                    self.end(.failure(error))
                }
                self.stop.wake(.finished)
            }
            _ = await self.stop.wait()
            group.cancelAll()
        }
    }

    /// Says what came of it, the first time.
    ///
    /// - Returns: Whether it was the first time, and somebody waits.
    @discardableResult
    func end(_ result: Result<Answer, any Error>) -> Bool {
        let isFirst = self.state.withLock { state in
            guard case .underWay = state else { return false }
            state = .ended(result)
            return true
        }
        if isFirst { self.ended.wake(.finished) }
        return isFirst
    }

    /// Waits for what comes of it.
    ///
    /// - Throws: What the call threw, or `CancellationError`, and then the call is cancelled.
    func answer() async throws -> Answer {
        _ = await self.ended.wait()
        let result = self.state.withLock { state -> Result<Answer, any Error>? in
            defer { state = .left }
            guard case .ended(let result) = state else { return nil }
            return result
        }
        guard let result else {
            self.stop.wake(.stopped)
            throw CancellationError()
        }
        return try result.get()
    }
}

extension CacheService {
    /// Something that runs in another task, with the tracing context of this one.
    static func inContext(_ job: @escaping Job) -> Job {
        #if Tracing
        let context = ServiceContext.current
        return { await ServiceContext.$current.withValue(context) { await job() } }
        #else
        return job
        #endif
    }
}
