// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import HoldfastRedis
import HoldfastTesting
import Synchronization
import Testing

/// Requests with ids and owners of their own.
enum Make {
    static let process = ProcessIdentity(instance: 7, host: "host", pid: 1, started: 2, program: "tests")
    private static let serial = Atomic<UInt64>(1)

    static func request(
        _ resource: Resource,
        mode: LockMode = .exclusive,
        lease: Duration = .seconds(10),
        contention: LockRequest.Contention = .queue,
        acceptance: Duration = .milliseconds(300),
        waitLimit: Duration? = nil,
        lockDelay: Duration = .zero,
        priority: Int = 0,
        fairness: LockRequest.Fairness = .fair,
        holding: [String] = [],
        label: String? = nil
    ) -> LockRequest {
        var generator = SystemRandomNumberGenerator()
        let serial = Self.serial.wrappingAdd(1, ordering: .relaxed).newValue
        return LockRequest(
            id: RequestID(using: &generator),
            resource: resource,
            mode: mode,
            owner: OwnerID(process: Self.process, serial: serial, label: label),
            lease: lease,
            contention: contention,
            waitLimit: waitLimit,
            acceptance: acceptance,
            lockDelay: lockDelay,
            priority: priority,
            fairness: fairness,
            holding: holding
        )
    }
}

extension RedisServer {
    /// The address for tests in which no call may be given up because the machine is busy.
    var calm: String { self.url + "?timeout=10s" }
}

/// Signals of a store that a test can wait for.
final class Signals: Sendable {
    let stream: AsyncStream<StoreSignal>
    private let subscription: SignalSubscription

    init(of store: any LockStore) {
        let (stream, continuation) = AsyncStream.makeStream(of: StoreSignal.self)
        self.stream = stream
        self.subscription = store.subscribe { continuation.yield($0) }
    }

    deinit { self.subscription.cancel() }

    /// Waits for a signal and gives how long that took; `nil` when it did not come in time.
    func first(
        within limit: Duration = .seconds(5),
        where matches: @escaping @Sendable (StoreSignal) -> Bool
    ) async -> Duration? {
        let start = ContinuousClock.now
        return await withTaskGroup(of: Duration?.self) { group in
            group.addTask {
                for await signal in self.stream where matches(signal) { return start.duration(to: .now) }
                return nil
            }
            group.addTask {
                try? await Task.sleep(for: limit)
                return nil
            }
            defer { group.cancelAll() }
            return await group.next() ?? nil
        }
    }
}

extension AcquireReply {
    var token: FencingToken? {
        if case .granted(let token) = self { token } else { nil }
    }

    var place: Waiting? {
        if case .waiting(let waiting) = self { waiting } else { nil }
    }

    var isBusy: Bool {
        if case .busy = self { true } else { false }
    }
}

/// Waits until something holds.
func eventually(_ what: Comment, within limit: Duration = .seconds(10), _ holds: () async throws -> Bool) async throws {
    let end = ContinuousClock.now.advanced(by: limit)
    while ContinuousClock.now < end {
        if try await holds() { return }
        try await Task.sleep(for: .milliseconds(5))
    }
    Issue.record(what)
}

/// Connects a majority, by requests of which none that was given up stays in the way of the next.
func warm(_ store: RedisQuorumLockStore) async throws {
    try await eventually("no connections") {
        (try? await store.acquire(Make.request("warm", contention: .fail)).token) != nil
    }
}

/// A counter that is read, and written later: only mutual exclusion keeps it right. Refuses tokens that do not rise.
final class Tally: Sendable {
    private struct State {
        var value = 0
        var last = FencingToken.zero
        var refused = 0
        var inside = 0
        var overlaps = 0
        var isOver = false
    }

    private let state = Mutex(State())

    var value: Int { self.state.withLock { $0.value } }
    var refused: Int { self.state.withLock { $0.refused } }
    var overlaps: Int { self.state.withLock { $0.overlaps } }

    var isOver: Bool {
        get { self.state.withLock { $0.isOver } }
        set { self.state.withLock { $0.isOver = newValue } }
    }

    func enter() -> Int {
        self.state.withLock { state in
            state.inside += 1
            if state.inside > 1 { state.overlaps += 1 }
            return state.value
        }
    }

    func leave(writing value: Int, _ token: FencingToken) {
        self.state.withLock { state in
            state.inside -= 1
            guard token > state.last else {
                state.refused += 1
                return
            }
            state.value = value
            state.last = token
        }
    }
}
