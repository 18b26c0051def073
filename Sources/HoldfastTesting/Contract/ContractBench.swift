// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import Synchronization

/// Two clients of one store, and shorthands for cases.
final class ContractBench: Sendable {
    /// One client: a store, the signals it got, and a process that its requests come from.
    final class Client: Sendable {
        let store: any LockStore
        let process: ProcessIdentity
        private let log: SignalLog
        private let subscription: SignalSubscription

        init(_ store: any LockStore, process: ProcessIdentity) {
            self.store = store
            self.process = process
            let log = SignalLog()
            self.log = log
            self.subscription = store.subscribe { log.append($0) }
        }

        deinit { self.subscription.cancel() }

        var signals: [StoreSignal] { self.log.signals }
    }

    let subject: StoreContract.Subject
    let a: Client
    let b: Client
    private let state: Mutex<(generator: SeededGenerator, serial: UInt64)>

    init(_ subject: StoreContract.Subject, a: any LockStore, b: any LockStore) {
        var system = SystemRandomNumberGenerator()
        self.subject = subject
        self.a = Client(a, process: .current(instance: system.next(), program: "contract-a"))
        self.b = Client(b, process: .current(instance: system.next(), program: "contract-b"))
        self.state = Mutex((SeededGenerator(seed: system.next()), 0))
    }

    // MARK: - Making requests

    func resource(_ name: String = "x") throws -> Resource { try Resource(self.subject.namePrefix + name) }

    /// Makes a request, of an owner of its own or of that of a request that is held meanwhile.
    func request(
        _ resource: Resource,
        by client: Client,
        mode: LockMode = .exclusive,
        lease: Duration = .seconds(60),
        contention: LockRequest.Contention = .queue,
        waitLimit: Duration? = nil,
        acceptance: Duration = .seconds(30),
        lockDelay: Duration = .zero,
        priority: Int = 0,
        fairness: LockRequest.Fairness = .fair,
        after outer: LockRequest? = nil
    ) -> LockRequest {
        self.state.withLock { state in
            state.serial += 1
            return LockRequest(
                id: RequestID(using: &state.generator),
                resource: resource,
                mode: mode,
                owner: outer?.owner
                    ?? OwnerID(process: client.process, serial: state.serial, label: "owner \(state.serial)"),
                lease: lease,
                contention: contention,
                waitLimit: waitLimit,
                acceptance: acceptance,
                lockDelay: lockDelay,
                priority: priority,
                fairness: fairness,
                holding: outer.map { [$0.id.reference] + $0.holding } ?? []
            )
        }
    }

    /// Sends a request that must be granted at once.
    @discardableResult
    func take(_ request: LockRequest, _ client: Client, line: Int = #line) async throws -> FencingToken {
        let reply = try await client.store.acquire(request)
        guard case .granted(let token) = reply else { throw self.broken("granted", reply, line) }
        return token
    }

    /// Sends a request that must get a place in the queue.
    @discardableResult
    func wait(_ request: LockRequest, _ client: Client, line: Int = #line) async throws -> AcquireReply.Waiting {
        let reply = try await client.store.acquire(request)
        guard case .waiting(let place) = reply else { throw self.broken("a place in the queue", reply, line) }
        return place
    }

    /// Takes a resource with a new request.
    func hold(_ resource: Resource, _ client: Client, line: Int = #line) async throws -> LockRequest {
        let request = self.request(resource, by: client)
        try await self.take(request, client, line: line)
        return request
    }

    /// Queues up with a new request.
    func enqueue(_ resource: Resource, _ client: Client, line: Int = #line) async throws -> LockRequest {
        let request = self.request(resource, by: client)
        try await self.wait(request, client, line: line)
        return request
    }

    /// Lets time pass until short leases that began before are over.
    func passShortLease() async throws { try await self.subject.pass(self.subject.shortLease * 1.5) }

    // MARK: - Judging

    func equal<Value: Equatable>(_ found: Value, _ expected: Value, line: Int = #line) throws {
        if found != expected { throw self.broken("\(expected)", found, line) }
    }

    func check(_ condition: Bool, _ message: String, line: Int = #line) throws {
        if !condition { throw StoreContract.Violation(description: "\(message) (line \(line))") }
    }

    /// Waits until a client got a signal that fits.
    func signal(
        _ client: Client,
        _ what: String,
        line: Int = #line,
        where fits: (StoreSignal) -> Bool
    ) async throws {
        // About 30 s: the last of a hundred has to wait for all others, perhaps on a busy machine.
        for _ in 0..<3000 {
            if client.signals.contains(where: fits) { return }
            try await self.subject.pass(.milliseconds(10))
        }
        throw StoreContract.Violation(description: "no signal \(what), only \(client.signals) (line \(line))")
    }

    /// Waits until a client was told that a request was granted, or that it may ask again.
    func granted(_ request: LockRequest, _ client: Client, line: Int = #line) async throws {
        guard client.store.capabilities.handsOver else { return try await self.told(request, client) }
        try await self.signal(client, "granted \(request.id)", line: line) { $0 == .granted(request.id) }
    }

    /// Waits until a client was told to ask again, or for a moment: a hint that comes while it asks is taken back.
    private func told(_ request: LockRequest, _ client: Client) async throws {
        let count = client.signals.count
        for _ in 0..<20 {
            try await self.subject.pass(.milliseconds(5))
            let news = client.signals.dropFirst(count)
            if news.contains(.check(request.id, after: .zero)) || news.contains(.granted(request.id)) { return }
        }
    }

    /// Reports that an error of this code came, and no other.
    func fails(
        _ code: LockError.Code,
        line: Int = #line,
        _ call: () async throws -> Void
    ) async throws {
        do {
            try await call()
        } catch let error as LockError where error.code == code {
            return
        }
        throw StoreContract.Violation(description: "the call went through instead of \(code) (line \(line))")
    }

    private func broken(_ expected: String, _ found: some Any, _ line: Int) -> StoreContract.Violation {
        StoreContract.Violation(description: "expected \(expected), found \(found) (line \(line))")
    }
}

/// The signals that a client got so far.
final class SignalLog: Sendable {
    private let state = Mutex<[StoreSignal]>([])

    var signals: [StoreSignal] { self.state.withLock { $0 } }

    func append(_ signal: StoreSignal) { self.state.withLock { $0.append(signal) } }
}
