// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import Synchronization

/// Writes what was changed in a cache to its source, some time after.
///
/// A shell around ``WriteQueue``: decides under a lock, and calls the writer and the journal outside of it.
final class WriteBehind<Key: Hashable & Sendable, Value: Sendable>: Sendable {
    typealias Queue = WriteQueue<Key, Value>

    enum Phase: Sendable {
        /// The journal is not read yet.
        case starting
        case open
        /// Nothing is taken any more.
        case closing
        /// The journal cannot be used.
        case failed(any Error)
    }

    struct State: Sendable {
        var phase = Phase.starting
        var queue: Queue
        var generator: SplitMix64
        var lastVersion: UInt64
        /// Changes on their way into the journal, which have room already.
        var reserved = 0
        /// Calls of the writer that are under way.
        var calls = 0
        /// Who waits for room or for the journal, in order.
        var waiting: [WakeSlot] = []
        /// Who waits until nothing is to be written.
        var drained: WakeSlot?
        /// Who waits until nothing is on its way into the journal.
        var arrived: WakeSlot?

        mutating func finish(_ batch: [Queue.Change], _ outcome: Queue.Outcome, now: Int64) -> Queue.Verdict {
            self.queue.finish(batch, outcome, now: now, using: &self.generator)
        }

        /// Whether all that came is written or dead.
        var isIdle: Bool { self.queue.count == 0 && self.reserved == 0 && self.calls == 0 }
    }

    let name: String
    let writer: any CacheWriter<Key, Value>
    let options: WriteBehindOptions
    let link: JournalLink<Key, Value>?
    let service: CacheService
    let state: Mutex<State>
    /// Wakes the task that calls the writer.
    let wake = WakeSlot()

    init(
        _ name: String,
        _ writing: CacheWriting<Key, Value>,
        _ options: WriteBehindOptions,
        _ link: JournalLink<Key, Value>?,
        service: CacheService
    ) {
        self.name = name
        self.writer = writing.writer
        self.options = options
        self.link = link
        self.service = service
        self.state = Mutex(
            State(
                queue: Queue(options),
                generator: SplitMix64(seed: service.random()),
                lastVersion: options.firstVersion - 1
            )
        )
    }

    /// What the source will have for a key once all is written; `nil` when nothing is to be written.
    func pending(_ key: Key) -> CacheAction<Value>? { self.state.withLock { $0.queue.pending(key) } }

    // MARK: - Taking a change

    private enum Admission: Sendable {
        case version(UInt64)
        case wait(WakeSlot)
        case fail(any Error)
    }

    /// Takes a change: into the journal, if there is one, and into the queue.
    ///
    /// Never for one key twice at the same time.
    ///
    /// - Throws: ``CacheError`` or `CancellationError`; nothing was taken then.
    func take(_ action: CacheAction<Value>, for key: Key) async throws {
        try await self.service.awaitStart()
        let version = try await self.admit(key)
        if let link = self.link {
            do {
                try await link.journal.append([link.record(action, for: key, version: version)])
            } catch {
                self.arrive { _ in }
                throw error
            }
        }
        let now = self.service.clock.now
        self.arrive { $0.queue.offer(action, for: key, version: version, now: now) }
        self.wake.wake(.signal)
    }

    /// A change is no more on its way into the journal.
    private func arrive(_ change: (inout State) -> Void) {
        let (arrived, waiting) = self.state.withLock { state in
            state.reserved -= 1
            change(&state)
            return (state.reserved == 0 ? state.arrived : nil, self.takeNext(&state))
        }
        arrived?.wake(.finished)
        for slot in waiting { slot.wake(.admitted) }
        self.tellIfDrained()
    }

    private func admit(_ key: Key) async throws -> UInt64 {
        while true {
            switch self.state.withLock({ self.admission(key, &$0) }) {
            case .version(let version): return version
            case .fail(let error): throw error
            case .wait(let slot):
                guard await slot.wait().contains(.cancelled) else { continue }
                let waiting = self.state.withLock { state in
                    state.waiting.removeAll { $0 === slot }
                    return self.takeNext(&state)
                }
                // He may have been woken for room that he does not take.
                for slot in waiting { slot.wake(.admitted) }
                throw CancellationError()
            }
        }
    }

    private func admission(_ key: Key, _ state: inout State) -> Admission {
        switch state.phase {
        case .failed(let error): return .fail(error)
        case .closing: return .fail(CacheError(.notRunning, "the cache service has stopped"))
        case .starting: break
        case .open:
            if state.queue.hasRoom(for: key, besides: state.reserved) {
                state.reserved += 1
                state.lastVersion += 1
                return .version(state.lastVersion)
            }
            guard self.options.overflow == .wait else {
                return .fail(
                    CacheError(
                        .writerFull,
                        "\(self.options.capacity) changes of \(self.name) wait to be written already"
                    )
                )
            }
        }
        let slot = WakeSlot()
        state.waiting.append(slot)
        return .wait(slot)
    }

    /// Those who may look again whether there is room.
    func takeNext(_ state: inout State) -> [WakeSlot] {
        guard !state.waiting.isEmpty else { return [] }
        guard case .open = state.phase else {
            defer { state.waiting = [] }
            return state.waiting
        }
        let room = max(0, self.options.capacity - state.queue.count - state.reserved)
        let next = Array(state.waiting.prefix(room))
        state.waiting.removeFirst(next.count)
        return next
    }

    /// Wakes who waits until nothing is to be written.
    func tellIfDrained() {
        self.state.withLock { $0.isIdle ? $0.drained.take() : nil }?.wake(.finished)
    }

    // MARK: - Dead letters

    /// The dead letters, by version.
    func letters() -> [DeadLetter<Key, Value>] {
        self.state.withLock { $0.queue.letters }.values.sorted { $0.change.version < $1.change.version }
    }

    /// Has dead letters be tried again.
    func revive(_ keys: [Key]) -> Int {
        let now = self.service.clock.now
        let count = self.state.withLock { $0.queue.revive(keys, now: now) }
        self.wake.wake(.signal)
        return count
    }

    /// Forgets dead letters.
    func discard(_ keys: [Key]) async throws -> Int {
        let versions = self.state.withLock { $0.queue.discard(keys) }
        if let link = self.link, !versions.isEmpty {
            try await link.journal.append(versions.map { JournalRecord(.settled, version: $0) })
        }
        return versions.count
    }
}
