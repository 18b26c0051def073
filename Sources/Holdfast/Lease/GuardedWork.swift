// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// Who is told that a lease is lost, at once and on the thread that found out.
protocol LeaseWatcher: AnyObject, Sendable {
    /// Learns of the loss; at most once.
    func leaseWasLost()
}

/// Work under a lease, which whoever notices a loss cancels from its own thread.
///
/// To ask another task to cancel it would need a thread of the pool, and when programs occupy all of those, the work
/// would go on until the lock is somebody else's. So this keeps hold of the task itself, for as long as the work runs and
/// no longer: that is what the documentation of `UnsafeCurrentTask` allows, and of it only `cancel()` is called, which
/// `Task` has too. Source: SE-0304.
final class GuardedWork: LeaseWatcher {
    private enum State {
        case unstarted
        case cancelledBefore
        case running(UnsafeCurrentTask)
        /// The handlers of the cancellation are being called.
        case cancelling
        /// So they are, and the work ended meanwhile: its task may not end before they return.
        case ending(CheckedContinuation<Void, Never>)
        case over
    }

    private let state = Mutex(State.unstarted)
    private let whenTold: (@Sendable () -> Void)?

    /// Makes work that has not begun.
    ///
    /// - Parameter whenTold: Called by whoever noticed a loss when the work may end; for tests.
    init(whenTold: (@Sendable () -> Void)? = nil) { self.whenTold = whenTold }

    /// Runs it, once, in a task of its own.
    ///
    /// - Parameter work: The work.
    /// - Returns: What it returns.
    /// - Throws: What it throws.
    func run<Result: Sendable>(_ work: @escaping @Sendable () async throws -> Result) async throws -> Result {
        try await withUnsafeCurrentTask { task in
            if let task { self.begin(task) }
            do {
                let result = try await work()
                await self.end()
                return result
            } catch {
                await self.end()
                throw error
            }
        }
    }

    func leaseWasLost() {
        guard self.cancel() else { return }
        let waiting = self.state.withLock { state -> CheckedContinuation<Void, Never>? in
            defer { state = .over }
            return if case .ending(let waiting) = state { waiting } else { nil }
        }
        waiting?.resume()
        self.whenTold?()
    }

    /// Cancels the task, if it runs.
    ///
    /// A function of its own, so that all references to the task are given up before anybody is told that it may end:
    /// its memory is the parent's, and to give up a reference after that would write into what has taken its place.
    @inline(never)
    private func cancel() -> Bool {
        let task = self.state.withLock { state -> Handle? in
            switch state {
            case .unstarted: state = .cancelledBefore
            case .running(let task):
                state = .cancelling
                return Handle(task: task)
            case .cancelledBefore, .cancelling, .ending, .over: break
            }
            return nil
        }
        // Without the lock: the work's own handlers run in here.
        task?.task.cancel()
        return task != nil
    }

    /// Carries the task through a lock.
    private struct Handle: @unchecked Sendable {
        let task: UnsafeCurrentTask
    }

    private func begin(_ task: UnsafeCurrentTask) {
        let handle = Handle(task: task)
        let isCancelled = self.state.withLock { state in
            guard case .unstarted = state else { return true }
            state = .running(handle.task)
            return false
        }
        if isCancelled { task.cancel() }
    }

    @concurrent
    private func end() async {
        let isBusy = self.state.withLock { state in
            if case .cancelling = state { return true }
            state = .over
            return false
        }
        guard isBusy else { return }
        await withCheckedContinuation { continuation in
            let isOver = self.state.withLock { state in
                guard case .cancelling = state else { return true }
                state = .ending(continuation)
                return false
            }
            if isOver { continuation.resume() }
        }
    }
}
