// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import Synchronization

// Writing to the source.
extension Cache {
    /// Writes a value to the source and to the cache, as ``CacheConfiguration/writing`` says.
    ///
    /// Calls for one key take effect one after the other, in the order of coming. Loads of the key that are under way are
    /// not stored.
    ///
    /// Through: the source first. When this returns, source and cache have the value. Behind: the journal, if there is
    /// one, and the cache. The source follows; until then the value is given even when it is not in memory any more. Waits
    /// for the service to run, and, if the options say so, for room.
    ///
    /// - Parameters:
    ///   - value: The value.
    ///   - key: The key.
    ///   - options: How the entry lives in the cache; `nil` for as the cache says.
    /// - Throws: Through: what the writer throws; whether the source has the value is then not known, and the cache has
    ///   forgotten the key. Behind: ``CacheError`` with code ``CacheError/Code/writerFull``, ``CacheError/Code/storage`` or
    ///   ``CacheError/Code/notRunning``, and nothing changed. Either: ``CacheError/Code/invalidArgument``, or
    ///   `CancellationError` while waiting, and nothing changed.
    public func write(_ value: Value, for key: Key, options: CacheOptions? = nil) async throws {
        let options = options ?? self.options
        try options.validate()
        try await self.send(.set(value), key) {
            try self.set(value, for: key, options: options)
        } forget: {
            self.remove(key)
        }
    }

    /// Removes a key from the source and from the cache, as ``CacheConfiguration/writing`` says.
    ///
    /// - Parameter key: The key.
    /// - Throws: As ``write(_:for:options:)``.
    public func erase(_ key: Key) async throws {
        try await self.send(.remove, key) {
            self.remove(key)
        } forget: {
            self.remove(key)
        }
    }

    /// The changes that could not be written, by version; none when the source is written first.
    ///
    /// A change of the same key takes the place of a dead letter. With a journal they are there after a restart too.
    ///
    /// - Returns: The dead letters.
    public func deadLetters() -> [DeadLetter<Key, Value>] { self.source?.behind?.letters() ?? [] }

    /// Has dead letters be tried again, with as many attempts as new changes.
    ///
    /// When the process dies meanwhile, a journal has them as dead letters again.
    ///
    /// - Parameter keys: Theirs; `nil` for all.
    /// - Returns: How many there were.
    @discardableResult
    public func retryDeadLetters(_ keys: [Key]? = nil) -> Int {
        self.source?.behind?.revive(keys ?? self.deadLetters().map(\.change.key)) ?? 0
    }

    /// Forgets dead letters: what they would have changed stays as it is.
    ///
    /// - Parameter keys: Theirs.
    /// - Returns: How many there were.
    /// - Throws: ``CacheError`` with code ``CacheError/Code/storage`` when the journal cannot be written; they are forgotten
    ///   until the next run then.
    @discardableResult
    public func discardDeadLetters(_ keys: [Key]) async throws -> Int {
        try await self.source?.behind?.discard(keys) ?? 0
    }

    /// Changes a key in the source and in the cache.
    ///
    /// - Parameters:
    ///   - action: What becomes of it.
    ///   - key: The key.
    ///   - lock: Takes the lock that all processes write the key under, if there is one.
    ///   - apply: Changes it in the cache.
    ///   - forget: Has the cache forget it.
    /// - Throws: As ``write(_:for:options:)``, and what `lock` and `apply` throw.
    func send(
        _ action: CacheAction<Value>,
        _ key: Key,
        lock: () async throws -> Lease? = { nil },
        _ apply: () async throws -> Void,
        forget: @escaping @Sendable () async throws -> Void
    ) async throws {
        guard let source = self.source else {
            throw CacheError(
                .invalidArgument,
                "the cache \(self.name) has no writer; say `writing` in its configuration"
            )
        }
        try await source.turns.take(key) {
            if let behind = source.behind {
                // Before the cache: what it has may leave at any time, and is then taken from the queue.
                try await behind.take(action, for: key)
                return try await apply()
            }
            let lease = try await lock()
            do {
                let version = source.nextVersion(lease?.fencingToken)
                try await source.writer.write([CacheChange(key: key, action: action, version: version)])
            } catch {
                self.counts.withLock { $0.writeFailures &+= 1 }
                // It may have been written all the same.
                await self.forgetWritten(key, forget)
                await lease?.release()
                throw (error as? PartialWriteFailure<Key>)?.failures[key] ?? error
            }
            self.counts.withLock { $0.writes &+= 1 }
            do {
                // Whoever has the lock now may have written something newer, also while the cache was being changed.
                let isLost = { lease.map { (try? $0.checkValid()) == nil } ?? false }
                if !isLost() { try await apply() }
                if isLost() { try await forget() }
            } catch {
                // The source has it; what the cache has may be older.
                if error is CancellationError || Task.isCancelled { await self.forgetWritten(key, forget) }
                await lease?.release()
                throw error
            }
            await lease?.release()
        }
    }

    /// Has the cache forget what may be older than the source, also for a caller who was cancelled: then in a task of the
    /// service, which he does not wait for.
    private func forgetWritten(_ key: Key, _ forget: @escaping @Sendable () async throws -> Void) async {
        let work: CacheService.Job = {
            do {
                try await forget()
            } catch {
                self.invalidationFailed(error)
            }
        }
        guard Task.isCancelled else { return await work() }
        self.remove(key)
        if case .terminated = self.service.jobs.input.yield(work) {
            self.invalidationFailed(CacheError(.notRunning, "the cache service has stopped"))
        }
    }

    /// Counts and tells that keys could not be forgotten everywhere.
    func invalidationFailed(_ error: any Error, count: Int = 1) {
        self.counts.withLock { $0.invalidationFailures &+= UInt64(count) }
        self.service.observe(.invalidationFailed(cache: self.name, error: error))
    }

    /// What is to be written for a key, as what a load of it gives.
    func pendingLanding(_ fill: Fill) -> Landing<Value>? {
        guard let action = self.source?.behind?.pending(fill.key) else { return nil }
        let content: Content<Value> =
            switch action {
            case .set(let value): .value(value)
            case .remove: .notFound
            }
        return Landing(.success(content), LoadContext<Value>.Settings(options: fill.options), from: .queue)
    }
}
