// SPDX-License-Identifier: Apache-2.0

import Foundation
import GRDB
import HoldfastCore
import HoldfastSQLite
import Synchronization

/// A directory of its own for one test, removed at its end.
final class Sandbox: Sendable {
    let directory: String

    init() throws {
        self.directory = NSTemporaryDirectory() + "/holdfast-sqlite-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: self.directory, withIntermediateDirectories: true)
        chmod(self.directory, 0o700)
    }

    deinit { try? FileManager.default.removeItem(atPath: self.directory) }

    var file: String { self.directory + "/locks.db" }

    func store() -> SQLiteLockStore { SQLiteLockStore(path: self.file) }

    /// Changes the file behind the store's back.
    @discardableResult
    func sql(_ text: String) throws -> [Row] {
        var configuration = Configuration()
        // A store that was left a moment ago may still be closing the file.
        configuration.busyMode = .timeout(5)
        let queue = try DatabaseQueue(path: self.file, configuration: configuration)
        return try queue.writeWithoutTransaction { try Row.fetchAll($0, sql: text) }
    }
}

func request(
    _ resource: Resource,
    mode: LockMode = .exclusive,
    lease: Duration = .seconds(30),
    contention: LockRequest.Contention = .queue,
    waitLimit: Duration? = nil,
    acceptance: Duration = .seconds(1),
    lockDelay: Duration = .zero,
    priority: Int = 0,
    label: String? = nil
) -> LockRequest {
    var generator = SystemRandomNumberGenerator()
    let process = ProcessIdentity(instance: 7, host: "test", pid: 42, started: 1, program: "suite")
    return LockRequest(
        id: RequestID(using: &generator),
        resource: resource,
        mode: mode,
        owner: OwnerID(process: process, serial: generator.next(), label: label),
        lease: lease,
        contention: contention,
        waitLimit: waitLimit,
        acceptance: acceptance,
        lockDelay: lockDelay,
        priority: priority
    )
}

/// Signals of a store, to be awaited.
final class Inbox: Sendable {
    private let seen = Mutex<[StoreSignal]>([])
    private let subscription: SignalSubscription
    private let stream: AsyncStream<StoreSignal>

    init(_ store: some LockStore) {
        let (stream, continuation) = AsyncStream.makeStream(of: StoreSignal.self)
        self.stream = stream
        self.subscription = store.subscribe { continuation.yield($0) }
    }

    deinit { self.subscription.cancel() }

    /// Waits for a signal and gives it, skipping others.
    func next(where isWanted: (StoreSignal) -> Bool) async -> StoreSignal? {
        for await signal in self.stream where isWanted(signal) { return signal }
        return nil
    }

    /// Waits until a request is granted.
    func granted(_ id: RequestID) async { _ = await self.next { $0 == .granted(id) } }
}

extension AcquireReply {
    var token: FencingToken? {
        if case .granted(let token) = self { token } else { nil }
    }

    var place: Waiting? {
        if case .waiting(let place) = self { place } else { nil }
    }

    var isBusy: Bool {
        if case .busy = self { true } else { false }
    }
}

/// A process that does nothing until it is killed.
final class Sleeper: Sendable {
    private let process: Process

    init() throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/sleep")
        process.arguments = ["600"]
        try process.run()
        self.process = process
    }

    deinit { kill(self.process.processIdentifier, SIGKILL) }

    var pid: Int32 { self.process.processIdentifier }

    /// Field 22 of its `stat`.
    var started: Int64 {
        let text = SmallFile.text("/proc/\(self.pid)/stat") ?? ""
        let fields = text.split(separator: ")").last?.split(separator: " ") ?? []
        return fields.count > 19 ? Int64(fields[19]) ?? 0 : 0
    }

    func signal(_ number: Int32) { kill(self.pid, number) }
}
