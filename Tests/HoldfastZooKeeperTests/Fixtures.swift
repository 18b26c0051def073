// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import HoldfastTesting
import HoldfastZooKeeper
import Synchronization
import Testing

/// Shorthands for tests of sessions.
enum Fixture {
    /// Twenty ticks of the test servers.
    static let session: Duration = .seconds(4)

    /// The URL of a store with a session of its own, for servers with the tick of ``ZooKeeperServer/tick``.
    static func url(_ hosts: String, _ more: String = "") -> String {
        "zookeeper://\(hosts)/locks?sharing=no&session=4s&tick=200ms&timeout=4s\(more)"
    }

    static func store(_ hosts: String, _ more: String = "") throws -> ZooKeeperLockStore {
        try ZooKeeperLockStore(url: Self.url(hosts, more))
    }

    static var configuration: LockServiceConfiguration {
        var configuration = LockServiceConfiguration()
        configuration.lease = .seconds(4)
        return configuration
    }

    static func withService<Result: Sendable>(
        _ hosts: String,
        _ more: String = "",
        _ work: @escaping @Sendable (LockService) async throws -> Result
    ) async throws -> Result {
        try await withLockService(store: try Self.store(hosts, more), configuration: Self.configuration, work)
    }

    /// A request for a store.
    static func request(
        _ resource: Resource,
        mode: LockMode = .exclusive,
        lease: Duration = .seconds(60),
        contention: LockRequest.Contention = .queue
    ) -> LockRequest {
        var generator = SystemRandomNumberGenerator()
        let process = ProcessIdentity(instance: generator.next(), host: "test", pid: 1, started: 0, program: "test")
        return LockRequest(
            id: RequestID(using: &generator),
            resource: resource,
            mode: mode,
            owner: OwnerID(process: process, serial: 1),
            lease: lease,
            contention: contention,
            acceptance: .seconds(30)
        )
    }

    /// Runs a store beside some work.
    static func running<Result: Sendable>(
        _ stores: [ZooKeeperLockStore],
        _ work: @escaping @Sendable () async throws -> Result
    ) async throws -> Result {
        try await withThrowingTaskGroup(of: Result?.self) { group in
            for store in stores {
                group.addTask {
                    try await store.run()
                    return nil
                }
            }
            group.addTask { try await work() }
            defer { group.cancelAll() }
            while let result = try await group.next() {
                if let result { return result }
            }
            throw CancellationError()
        }
    }

    /// Waits until something holds.
    static func eventually(
        within limit: Duration = .seconds(10),
        _ what: Comment,
        sourceLocation: SourceLocation = #_sourceLocation,
        _ holds: () async throws -> Bool
    ) async throws {
        let end = ContinuousClock.now.advanced(by: limit)
        while ContinuousClock.now < end {
            if try await holds() { return }
            try await Task.sleep(for: .milliseconds(10))
        }
        Issue.record(what, sourceLocation: sourceLocation)
    }
}

/// The signals of a store.
final class Signals: Sendable {
    private let log = Mutex<[StoreSignal]>([])
    private let subscription: Mutex<SignalSubscription?> = Mutex(nil)

    init(of store: ZooKeeperLockStore) {
        let subscription = store.subscribe { [weak self] signal in self?.log.withLock { $0.append(signal) } }
        self.subscription.withLock { $0 = subscription }
    }

    deinit { self.subscription.withLock { $0 }?.cancel() }

    var all: [StoreSignal] { self.log.withLock { $0 } }
}

/// A value that several tasks see.
final class Cell<Value: Sendable>: Sendable {
    fileprivate let state: Mutex<Value>

    init(_ value: Value) { self.state = Mutex(value) }

    var value: Value {
        get { self.state.withLock { $0 } }
        set { self.state.withLock { $0 = newValue } }
    }
}

extension Cell<Int> {
    /// Counts.
    func add(_ number: Int) { self.state.withLock { $0 += number } }
}
