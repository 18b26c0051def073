// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore
internal import Synchronization

/// A server of locks in virtual time: a `LockTable` that clients reach over simulated networks.
///
/// It does nothing on its own, like the servers of the real stores: what is over ends when the next command comes.
public final class SimulatedServer: Sendable {
    typealias Command = @Sendable (inout LockTable, Timestamp, inout [StoreSignal]) -> Void

    private struct State {
        var table: LockTable
        var clients: [SimulatedStore] = []
        var pausedUntil: ContinuousClock.Instant?
        var downUntil: ContinuousClock.Instant?
    }

    let clock: ManualClock
    /// What the stores of this server can do.
    public let capabilities: StoreCapabilities
    private let rate: Double
    private let state: Mutex<State>

    /// Makes a server in which nothing is held.
    ///
    /// - Parameters:
    ///   - clock: The time.
    ///   - rate: How fast the server's own clock runs; a lease is good for the 1 % that it may be off.
    ///   - modes: The modes that it grants.
    public init(clock: ManualClock, rate: Double = 1, modes: Set<LockMode.Kind> = Set(LockMode.Kind.allCases)) {
        self.clock = clock
        self.rate = rate
        self.capabilities = StoreCapabilities(
            name: "simulated",
            scope: .network,
            modes: modes,
            converts: true,
            showsWaits: true
        )
        self.state = Mutex(State(table: LockTable()))
    }

    /// Connects one more client.
    ///
    /// - Parameters:
    ///   - generator: Decides about the faults of this client's network.
    ///   - plan: How the network behaves at first.
    ///   - deadline: After how long a call without a reply throws.
    /// - Returns: A store for the services of one process.
    public func connect(
        generator: SeededGenerator = SeededGenerator(seed: 0),
        plan: FaultPlan = .none,
        deadline: Duration = .seconds(1)
    ) -> SimulatedStore {
        let client = SimulatedStore(server: self, generator: generator, plan: plan, deadline: deadline)
        self.state.withLock { $0.clients.append(client) }
        return client
    }

    /// The time on the server's own clock.
    public var now: Timestamp { Timestamp.zero.advanced(by: self.clock.elapsed * self.rate) }

    /// How many resources are not free, by what the server knows; those that are over but untouched count.
    public var count: Int { self.state.withLock { $0.table.count } }

    /// What is not free by now.
    public func residue() -> [ResourceStatus] {
        let now = self.now
        return self.state.withLock { state in
            var signals: [StoreSignal] = []
            state.table.expire(at: now, signals: &signals)
            return state.table.survey(.all, after: nil, at: now).resources
        }
    }

    // MARK: - Faults

    /// Stops the server for a while; commands that come meanwhile are handled afterwards.
    public func pause(for duration: Duration) {
        self.state.withLock { $0.pausedUntil = self.clock.now.advanced(by: duration) }
    }

    /// Stops the server and starts it again; commands that come meanwhile are lost, and all clients are told that
    /// they may have missed signals.
    ///
    /// - Parameters:
    ///   - duration: How long it is down.
    ///   - keepingData: Whether locks and queues survive. If not, fencing tokens go on from the server's clock.
    public func restart(after duration: Duration, keepingData: Bool) {
        let now = self.now
        let clients = self.state.withLock { state in
            state.downUntil = self.clock.now.advanced(by: duration)
            if !keepingData {
                state.table = LockTable(lastToken: FencingToken(rawValue: UInt64(max(0, now.nanoseconds) / 1000)))
            }
            return state.clients
        }
        self.clock.schedule(after: duration) {
            for client in clients { client.deliver(.interrupted) }
        }
    }

    /// Handles a command as soon as the server is awake, or never when it is down.
    func handle(_ command: @escaping Command) {
        let instant = self.clock.now
        let now = self.now
        var signals: [StoreSignal] = []
        let (wait, clients) = self.state.withLock { state -> (Duration?, [SimulatedStore]) in
            if let until = state.downUntil, instant < until { return (nil, []) }
            if let until = state.pausedUntil, instant < until { return (instant.duration(to: until), []) }
            command(&state.table, now, &signals)
            return (nil, state.clients)
        }
        if let wait { self.clock.schedule(after: wait) { self.handle(command) } }
        for signal in signals {
            for client in clients { client.deliver(signal) }
        }
    }
}
