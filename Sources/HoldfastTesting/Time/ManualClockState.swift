// SPDX-License-Identifier: Apache-2.0

/// The timers of a ``ManualClock`` as a value: it decides, the clock acts.
struct ManualClockState {
    /// What to do once the state's lock is open again.
    enum Action {
        case wake(CheckedContinuation<Void, any Error>)
        case interrupt(CheckedContinuation<Void, any Error>)
        case call(@Sendable () -> Void)
        case proceed(CheckedContinuation<Void, Never>)
    }

    /// What somebody waits for who wants to move the clock.
    enum Condition {
        case next
        case count(Int)
    }

    struct Timer {
        let id: UInt64
        let deadline: ContinuousClock.Instant
        let action: Action
        var isReported = false
    }

    private struct Watcher {
        let id: UInt64
        let condition: Condition
        let continuation: CheckedContinuation<Void, Never>
    }

    private(set) var now: ContinuousClock.Instant
    /// By deadline, then in the order of their coming.
    private(set) var timers: [Timer] = []
    /// The deadline of the timer that was reported last.
    private(set) var lastReported: ContinuousClock.Instant
    private var watchers: [Watcher] = []
    /// Ids that were cancelled before they were inserted.
    private var cancelled: Set<UInt64> = []
    private var lastID: UInt64 = 0

    init(now: ContinuousClock.Instant) {
        self.now = now
        self.lastReported = now
    }

    mutating func makeID() -> UInt64 {
        self.lastID += 1
        return self.lastID
    }

    /// Adds a timer.
    ///
    /// - Returns: What is due at once.
    mutating func insert(id: UInt64, at deadline: ContinuousClock.Instant, _ action: Action) -> [Action] {
        if self.cancelled.remove(id) != nil { return [Self.interrupted(action)].compactMap { $0 } }
        if deadline <= self.now { return [action] }
        var low = 0
        var high = self.timers.count
        while low < high {
            let middle = (low + high) / 2
            if self.timers[middle].deadline <= deadline { low = middle + 1 } else { high = middle }
        }
        self.timers.insert(Timer(id: id, deadline: deadline, action: action), at: low)
        return self.notifyWatchers()
    }

    /// Moves the clock to the next timer that ends by an instant, or to the instant itself.
    mutating func next(until instant: ContinuousClock.Instant) -> Action? {
        guard let first = self.timers.first, first.deadline <= instant else {
            self.now = max(self.now, instant)
            return nil
        }
        self.timers.removeFirst()
        self.now = max(self.now, first.deadline)
        return first.action
    }

    /// Cancels a sleeper or a watcher, also one that is not there yet.
    mutating func cancel(_ id: UInt64) -> [Action] {
        if let index = self.timers.firstIndex(where: { $0.id == id }) {
            return [Self.interrupted(self.timers.remove(at: index).action)].compactMap { $0 }
        }
        if let index = self.watchers.firstIndex(where: { $0.id == id }) {
            return [.proceed(self.watchers.remove(at: index).continuation)]
        }
        self.cancelled.insert(id)
        return []
    }

    /// Forgets a cancellation that came when the sleeper or watcher had gone on already.
    mutating func settle(_ id: UInt64) { self.cancelled.remove(id) }

    /// Removes a timer that is a call; one that happened already is no matter.
    mutating func forget(_ id: UInt64) {
        if let index = self.timers.firstIndex(where: { $0.id == id }) { self.timers.remove(at: index) }
    }

    /// Registers a watcher.
    ///
    /// - Returns: Whether it can go on at once.
    mutating func wait(id: UInt64, for condition: Condition, _ continuation: CheckedContinuation<Void, Never>) -> Bool {
        if self.cancelled.remove(id) != nil || self.satisfies(condition) { return true }
        self.watchers.append(Watcher(id: id, condition: condition, continuation: continuation))
        return false
    }

    private mutating func notifyWatchers() -> [Action] {
        var actions: [Action] = []
        var index = 0
        while index < self.watchers.count {
            if self.satisfies(self.watchers[index].condition) {
                actions.append(.proceed(self.watchers.remove(at: index).continuation))
            } else {
                index += 1
            }
        }
        return actions
    }

    private mutating func satisfies(_ condition: Condition) -> Bool {
        switch condition {
        case .count(let count): return self.timers.count >= count
        case .next:
            let unreported = self.timers.indices.filter { !self.timers[$0].isReported }
            guard let index = unreported.min(by: { self.timers[$0].id < self.timers[$1].id }) else { return false }
            self.timers[index].isReported = true
            self.lastReported = self.timers[index].deadline
            return true
        }
    }

    private static func interrupted(_ action: Action) -> Action? {
        switch action {
        case .wake(let continuation): .interrupt(continuation)
        case .interrupt, .call, .proceed: nil
        }
    }
}
