// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import Synchronization

// Writing, in a task of the service.
extension WriteBehind {
    /// Reads the journal, and then writes what is due until the task is cancelled.
    ///
    /// - Parameter forget: Has the cache forget keys: of changes that became dead letters, or that were in the journal, of
    ///   which it may have loaded the old value before the journal was read, or the tier may have it.
    /// - Throws: What the journal throws when it cannot be opened.
    func run(_ forget: @escaping @Sendable ([Key]) async -> Void) async throws {
        let restored: [Key]
        do {
            restored = try await self.start()
        } catch {
            let waiting = self.state.withLock { state in
                state.phase = .failed(error)
                return self.takeNext(&state)
            }
            for slot in waiting { slot.wake(.stopped) }
            self.tellIfDrained()
            throw error
        }
        await withDiscardingTaskGroup { group in
            if !restored.isEmpty { group.addTask { await forget(restored) } }
            while !Task.isCancelled {
                let now = self.service.clock.now
                let (batch, next) = self.state.withLock { state -> ([CacheChange<Key, Value>], Int64?) in
                    guard state.calls < self.options.concurrentBatches else { return ([], nil) }
                    let batch = state.queue.nextBatch(now: now)
                    if !batch.isEmpty { state.calls += 1 }
                    return (batch, state.queue.nextLook)
                }
                if batch.isEmpty {
                    await self.sleep(until: next)
                } else {
                    group.addTask { await self.write(batch, forget) }
                }
            }
        }
        await self.finish()
    }

    private func sleep(until next: Int64?) async {
        let alarm = next.map { time in self.service.timers.schedule(at: time) { self.wake.wake(.timer) } }
        _ = await self.wake.wait()
        if let alarm { self.service.timers.cancel(alarm) }
    }

    // MARK: - The beginning and the end

    /// Reads the journal.
    ///
    /// - Returns: The keys that were in it.
    private func start() async throws -> [Key] {
        self.link?.journal.watch { [weak service = self.service, name = self.name] error in
            service?.observe(.journalNotShortened(cache: name, error: error))
        }
        let contents = try await self.link?.journal.open() ?? JournalContents()
        guard contents.highestVersion <= CacheLimits.highestVersion else {
            throw CacheError(.storage, "the journal of \(self.name) has a version that no program gave")
        }
        let now = self.service.clock.now
        let changes = contents.changes.map { ($0, self.link?.change($0)) }
        let waiting = self.state.withLock { state in
            for case (let record, let change?) in changes {
                let isParked = contents.parked.contains(record.version)
                state.queue.restore(
                    change.action,
                    for: change.key,
                    version: record.version,
                    isParked: isParked,
                    now: now
                )
            }
            state.lastVersion = max(state.lastVersion, contents.highestVersion)
            state.phase = state.queue.isDraining ? .closing : .open
            return self.takeNext(&state)
        }
        for slot in waiting { slot.wake(.admitted) }
        if contents.tornBytes > 0 {
            self.service.observe(.journalTorn(cache: self.name, bytes: contents.tornBytes))
        }
        let unreadable = changes.count { $0.1 == nil }
        if unreadable > 0 { self.service.observe(.journalUnreadable(cache: self.name, count: unreadable)) }
        return changes.compactMap { $0.1?.key }
    }

    /// Writes without waiting for more to come, and takes nothing any more.
    func beginDrain() {
        let waiting = self.state.withLock { state in
            state.queue.isDraining = true
            if case .open = state.phase { state.phase = .closing }
            return self.takeNext(&state)
        }
        for slot in waiting { slot.wake(.stopped) }
        self.wake.wake(.signal)
    }

    /// Waits until all is written or dead, or the time is over.
    func drained(by time: Int64) async {
        let slot = WakeSlot()
        self.state.withLock { $0.drained = slot }
        self.tellIfDrained()
        let alarm = self.service.timers.schedule(at: time) { slot.wake(.timer) }
        _ = await slot.wait()
        self.service.timers.cancel(alarm)
    }

    private func finish() async {
        let arrived = WakeSlot()
        let (waiting, mustWait) = self.state.withLock { state in
            state.phase = .closing
            state.arrived = arrived
            return (self.takeNext(&state), state.reserved > 0)
        }
        for slot in waiting { slot.wake(.stopped) }
        if mustWait { _ = await arrived.waitUncancelled() }
        let left = self.state.withLock { $0.queue.count + (self.link == nil ? $0.queue.letters.count : 0) }
        if left > 0 {
            self.service.observe(.writesLeft(cache: self.name, count: left, isJournaled: self.link != nil))
        }
        await self.link?.journal.close()
        self.tellIfDrained()
    }

    // MARK: - Writing

    /// Calls the writer, and takes note of what became of the changes.
    private func write(_ batch: [CacheChange<Key, Value>], _ forget: @Sendable ([Key]) async -> Void) async {
        let began = self.service.clock.now
        let outcome = await self.outcome(batch)
        let now = self.service.clock.now
        let verdict = self.state.withLock { $0.finish(batch, outcome, now: now) }
        self.tell(batch, outcome, verdict, duration: .nanoseconds(now - began))
        if !verdict.parked.isEmpty { await forget(verdict.parked.map(\.change.key)) }
        if let link = self.link {
            let records =
                verdict.written.map { JournalRecord(.settled, version: $0.version) }
                + verdict.parked.map { JournalRecord(.parked, version: $0.change.version) }
            do {
                if !records.isEmpty { try await link.journal.append(records) }
            } catch {
                // Then they are written once more by the next run.
                self.service.observe(.journalFailed(cache: self.name, error: error))
            }
        }
        let waiting = self.state.withLock { state in
            state.calls -= 1
            return self.takeNext(&state)
        }
        for slot in waiting { slot.wake(.admitted) }
        self.tellIfDrained()
        self.wake.wake(.signal)
    }

    private func tell(
        _ batch: [CacheChange<Key, Value>],
        _ outcome: Queue.Outcome,
        _ verdict: Queue.Verdict,
        duration: Duration
    ) {
        if !verdict.written.isEmpty {
            self.service.observe(.written(cache: self.name, count: verdict.written.count, duration: duration))
        }
        let error: (any Error)? =
            switch outcome {
            case .written, .interrupted: nil
            case .failed(let failure): failure.error
            case .partial(let failures): failures.values.first?.error
            }
        if let error {
            let count = batch.count - verdict.written.count
            self.service.observe(.writeFailed(cache: self.name, count: count, error: error))
        }
        for letter in verdict.parked {
            let attempts = letter.change.attempt
            guard let error = letter.error else { continue }
            self.service.observe(.writeParked(cache: self.name, attempts: attempts, error: error))
        }
        if verdict.hasNoRoom { self.service.observe(.deadLettersFull(cache: self.name)) }
    }

    private func outcome(_ batch: [CacheChange<Key, Value>]) async -> Queue.Outcome {
        let end = WakeSlot()
        let limit = self.options.attemptLimit
        let alarm = self.service.timers.schedule(at: self.service.clock.now.after(limit)) { end.wake(.timer) }
        let (result, isLate) = await withTaskGroup(of: Result<Void, any Error>.self) { group in
            group.addTask {
                defer { end.wake(.finished) }
                do {
                    return .success(try await self.writer.write(batch))
                } catch {
                    return .failure(error)
                }
            }
            let reasons = await end.wait()
            if !reasons.contains(.finished) { group.cancelAll() }
            // It may still write: nobody else may write its keys before it has ended.
            return (await group.next() ?? .success(()), reasons.contains(.timer) && !reasons.contains(.finished))
        }
        self.service.timers.cancel(alarm)
        guard case .failure(let error) = result else { return .written }
        if let partial = error as? PartialWriteFailure<Key> {
            let keys = Set(batch.map(\.key))
            let failures = partial.failures.filter { keys.contains($0.key) }.mapValues(self.failure)
            if !failures.isEmpty { return .partial(failures) }
        }
        if isLate {
            let error = CacheError(
                .deadline,
                "a writer of \(self.name) did not end within \(limit.brief)",
                underlying: error
            )
            return .failed(Queue.Failure(error: error))
        }
        return Task.isCancelled ? .interrupted : .failed(self.failure(error))
    }

    private func failure(_ error: any Error) -> Queue.Failure {
        Queue.Failure(error: error, isPermanent: self.options.isPermanent(error))
    }
}
