// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCache
import HoldfastCore
import HoldfastTesting
import Synchronization

/// A source that a test can look into and break.
final class Source: CacheWriter {
    typealias Change = CacheChange<String, String>

    private struct State {
        var rows: [String: String] = [:]
        var versions: [String: UInt64] = [:]
        var calls: [[Change]] = []
        var under: Set<String> = []
        var hasMixed = false
        var hasReordered = false
        var wasCancelled = false
        var failure: (@Sendable ([Change]) -> (any Error)?)?
        var gate: Gate?
    }

    private let state = Mutex(State())

    /// What it has.
    var rows: [String: String] { self.state.withLock { $0.rows } }
    /// The calls of the writer, those that failed too.
    var calls: [[Change]] { self.state.withLock { $0.calls } }
    /// Whether a key was written twice at the same time, or an older change after a newer one.
    var isBroken: Bool { self.state.withLock { $0.hasMixed || $0.hasReordered } }

    /// Whether a call was cancelled.
    var wasCancelled: Bool { self.state.withLock { $0.wasCancelled } }

    /// Has calls fail from now on; those for which nothing is given work.
    func fail(_ failure: (@Sendable ([Change]) -> (any Error)?)?) { self.state.withLock { $0.failure = failure } }

    /// Has calls wait at a gate from now on.
    func wait(at gate: Gate?) { self.state.withLock { $0.gate = gate } }

    /// Puts a value there by another way.
    func put(_ value: String, for key: String) { self.state.withLock { $0.rows[key] = value } }

    func write(_ changes: [Change]) async throws {
        let (gate, failure) = self.state.withLock { state in
            state.calls.append(changes)
            for change in changes { if !state.under.insert(change.key).inserted { state.hasMixed = true } }
            return (state.gate, state.failure)
        }
        defer { self.state.withLock { $0.under.subtract(changes.map(\.key)) } }
        await withTaskCancellationHandler {
            await gate?.pass()
        } onCancel: {
            self.state.withLock { $0.wasCancelled = true }
        }
        // Others may come in between.
        for _ in 0..<5 { await Task.yield() }
        let error = failure?(changes)
        if let error, !(error is PartialWriteFailure<String>) { throw error }
        let failed = (error as? PartialWriteFailure<String>)?.failures ?? [:]
        self.state.withLock { state in
            for change in changes where failed[change.key] == nil {
                if state.versions[change.key] ?? 0 > change.version { state.hasReordered = true }
                state.versions[change.key] = change.version
                switch change.action {
                case .set(let value): state.rows[change.key] = value
                case .remove: state.rows[change.key] = nil
                }
            }
        }
        if let error { throw error }
    }
}

/// A journal in memory that outlives what uses it, and can be full.
final class PaperJournal: WriteJournal {
    private struct State {
        var records: [JournalRecord] = []
        var isFull = false
        var isUnusable = false
        var gate: Gate?
    }

    private let state = Mutex(State())

    /// Has it be opened only when a gate is.
    func wait(at gate: Gate) { self.state.withLock { $0.gate = gate } }

    var records: [JournalRecord] { self.state.withLock { $0.records } }
    var isFull: Bool {
        get { self.state.withLock { $0.isFull } }
        set { self.state.withLock { $0.isFull = newValue } }
    }
    var isUnusable: Bool {
        get { self.state.withLock { $0.isUnusable } }
        set { self.state.withLock { $0.isUnusable = newValue } }
    }

    func open() async throws -> JournalContents {
        await self.state.withLock { $0.gate }?.pass()
        let state = self.state.withLock { $0 }
        guard !state.isUnusable else { throw CacheError(.storage, "damaged at byte 29") }
        var changes: [String: JournalRecord] = [:]
        var parked: Set<UInt64> = []
        for record in state.records {
            switch record.kind {
            case .set, .remove: changes[record.key] = record
            case .settled: changes = changes.filter { $0.value.version != record.version }
            case .parked: parked.insert(record.version)
            }
        }
        return JournalContents(
            changes: changes.values.sorted { $0.version < $1.version },
            parked: parked.intersection(changes.values.map(\.version)),
            highestVersion: state.records.map(\.version).max() ?? 0
        )
    }

    func append(_ records: [JournalRecord]) async throws {
        try self.state.withLock { state in
            guard !state.isFull else { throw CacheError(.storage, "no space left on device") }
            state.records += records
        }
    }

    func close() async {}
}

/// A cache of this process that writes to a source.
struct Written: Sendable {
    let clock: ManualClock
    let service: CacheService
    let cache: Cache<String, String>
    let source: Source
    let log: Node.Log

    init(
        _ source: Source = Source(),
        clock: ManualClock = ManualClock(),
        capacity: Int = 1000,
        service configuration: CacheServiceConfiguration = CacheServiceConfiguration(),
        _ writing: (Source) -> CacheWriting<String, String>
    ) throws {
        let log = Node.Log()
        self.clock = clock
        self.source = source
        self.log = log
        self.service = try CacheService(configuration: configuration, observer: log, clock: clock)
        let writing = writing(source)
        self.cache = try self.service.cache("test") {
            $0.writing = writing
            $0.capacity = .entries(capacity)
        }
    }

    var statistics: CacheStatistics { self.cache.statistics() }

    /// Runs it.
    func run(_ body: () async throws -> Void) async throws {
        try await withCacheService(self.service) { _ in try await body() }
    }

    /// Runs it, and has it end as a process that is killed.
    func die(_ body: () async throws -> Void) async throws {
        struct Killed: Error {}
        do {
            try await self.run {
                try await body()
                throw Killed()
            }
        } catch is Killed {}
    }

    /// Moves the clock until something is so.
    func soon(_ condition: () -> Bool) async -> Bool {
        for _ in 0..<5000 {
            if condition() { return true }
            // What was woken before must come to its end.
            try? await Task.sleep(for: .milliseconds(1))
            self.clock.advance(by: .milliseconds(100))
        }
        return condition()
    }

    /// Reads a key through the cache.
    func read(_ key: String) async throws -> String {
        try await self.cache.value(for: key) {
            guard let value = self.source.rows[key] else { throw NotFound() }
            return value
        }
    }
}
