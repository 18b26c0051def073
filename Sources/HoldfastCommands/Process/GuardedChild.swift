// SPDX-License-Identifier: Apache-2.0

import CHoldfastProcess
import Glibc
import Synchronization

/// A command in a process group of its own, with a guard that kills the group at a deadline and when this process dies.
///
/// See CHoldfastProcess.h for what the guard covers and what it does not.
package final class GuardedChild: Sendable {
    /// How a command ended.
    package enum End: Sendable, Hashable {
        /// It exited.
        case exited(Int32)
        /// A signal ended it.
        case signalled(Int32)
        /// It could not be started; an error number.
        case notStarted(Int32)

        /// The exit code for it, as shells give it.
        package var status: Int32 {
            switch self {
            case .exited(let code): code
            case .signalled(let signal): ExitStatus.signalled(signal)
            case .notStarted(let number): number == ENOENT ? ExitStatus.notFound : ExitStatus.notExecutable
            }
        }
    }

    private struct State {
        var handle: UInt = 0
        var process: Int32?
        var end: End?
        var wasKilledAtDeadline = false
        /// When the group is killed at the latest since it was asked to end.
        var killAt = Int64.max
        var waiters: [CheckedContinuation<End, Never>] = []
    }

    private let state = Mutex(State())
    private let stopsWithChild: Bool

    /// Starts a command.
    ///
    /// - Parameters:
    ///   - arguments: The command and its arguments; at least one.
    ///   - environment: The command's whole environment, as `NAME=value`.
    ///   - output: A descriptor for its stdout, or `nil` for ours.
    ///   - terminal: Whether it gets the terminal when we have it, and we stop when it is stopped.
    ///   - deadline: When its group is killed, in nanoseconds of boot time.
    /// - Throws: ``CommandFailure`` when no process can be made.
    package init(
        _ arguments: [CText],
        environment: [CText],
        output: Int32? = nil,
        terminal: Bool = false,
        deadline: Int64 = .max
    ) throws {
        self.stopsWithChild = terminal
        let context = Unmanaged.passRetained(self)  // released at the last event
        let handle = Self.withCStrings(arguments) { arguments in
            Self.withCStrings(environment) { environment in
                hf_child_start(
                    arguments,
                    environment,
                    output ?? -1,
                    terminal ? 1 : 0,
                    deadline,
                    { event, value, context in
                        guard let context else { return }
                        GuardedChild.received(event, value, Unmanaged<GuardedChild>.fromOpaque(context))
                    },
                    context.toOpaque()
                )
            }
        }
        guard let handle else {
            let problem = Errno.text
            context.release()
            throw CommandFailure(ExitStatus.unavailable, "cannot start a process: \(problem)")
        }
        self.state.withLock { $0.handle = UInt(bitPattern: handle) }
    }

    deinit {
        // The last event was delivered: until then the C side holds a reference.
        let handle = self.state.withLock { $0.handle }
        if handle != 0 { hf_child_free(OpaquePointer(bitPattern: handle)) }
    }

    /// Whether the group was killed because the deadline passed.
    package var wasKilledAtDeadline: Bool { self.state.withLock { $0.wasKilledAtDeadline } }

    /// The command's process id while it runs.
    package var process: Int32? { self.state.withLock { $0.end == nil ? $0.process : nil } }

    /// Waits for the end of the command and of its whole group.
    ///
    /// Not interrupted by cancellation: a command that was asked to stop is still waited for.
    package func end() async -> End {
        await withCheckedContinuation { continuation in
            let end = self.state.withLock { state -> End? in
                if state.end == nil { state.waiters.append(continuation) }
                return state.end
            }
            if let end { continuation.resume(returning: end) }
        }
    }

    /// Waits for the ends of several children; if the task is cancelled they are killed, and still waited for.
    package static func ends(of children: [GuardedChild]) async -> [End] {
        await withTaskCancellationHandler {
            var ends: [End] = []
            for child in children { ends.append(await child.end()) }
            return ends
        } onCancel: {
            for child in children { child.setDeadline(0) }
        }
    }

    /// Sends a signal to the group.
    package func signal(_ number: Int32) {
        self.withHandle { hf_child_signal($0, number) }
    }

    /// Moves the deadline; one in the past kills the group now.
    ///
    /// A group that was asked to end gets no more time by it.
    ///
    /// - Parameter deadline: Nanoseconds of boot time.
    package func setDeadline(_ deadline: Int64) { self.moveDeadline(deadline, isLast: false) }

    /// Asks the group to end, and kills it if it has not by a time.
    ///
    /// - Parameter deadline: Nanoseconds of boot time.
    package func stop(killAt deadline: Int64) {
        self.moveDeadline(deadline, isLast: true)
        self.signal(SIGTERM)
        self.signal(SIGCONT)
    }

    private func moveDeadline(_ deadline: Int64, isLast: Bool) {
        // Under the lock, so that whoever comes with news of another lock does not undo a stop; it does not block.
        self.state.withLock { state in
            if isLast { state.killAt = min(state.killAt, deadline) }
            guard state.end == nil, let handle = OpaquePointer(bitPattern: state.handle) else { return }
            hf_child_set_deadline(handle, min(state.killAt, deadline))
        }
    }

    private func withHandle(_ body: (OpaquePointer) -> Void) {
        // The handle lives as long as self.
        let handle = self.state.withLock { $0.end == nil ? $0.handle : 0 }
        if let handle = OpaquePointer(bitPattern: handle) { body(handle) }
    }

    private static func received(_ event: Int32, _ value: Int32, _ child: Unmanaged<GuardedChild>) {
        switch hf_child_event(UInt32(event)) {
        case HF_CHILD_STARTED: child.takeUnretainedValue().state.withLock { $0.process = value }
        case HF_CHILD_STOPPED: child.takeUnretainedValue().stopped()
        case HF_CHILD_DEADLINE: child.takeUnretainedValue().state.withLock { $0.wasKilledAtDeadline = true }
        case HF_CHILD_EXITED: child.takeRetainedValue().ended(.exited(value))
        case HF_CHILD_EXEC_FAILED: child.takeRetainedValue().ended(.notStarted(value))
        default: child.takeRetainedValue().ended(.signalled(value))
        }
    }

    private func stopped() {
        if self.stopsWithChild { hf_stop_self() }
    }

    private func ended(_ end: End) {
        let waiters = self.state.withLock { state in
            state.end = end
            defer { state.waiters = [] }
            return state.waiters
        }
        for waiter in waiters { waiter.resume(returning: end) }
    }

    private static func withCStrings<Result>(
        _ strings: [CText],
        _ body: (UnsafePointer<UnsafeMutablePointer<CChar>?>) -> Result
    ) -> Result {
        let pointers = UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>.allocate(capacity: strings.count + 1)
        for (index, string) in strings.enumerated() {
            let copy = UnsafeMutablePointer<CChar>.allocate(capacity: string.bytes.count + 1)
            for (offset, byte) in string.bytes.enumerated() { copy[offset] = CChar(bitPattern: byte) }
            copy[string.bytes.count] = 0
            pointers[index] = copy
        }
        pointers[strings.count] = nil
        defer {
            for index in strings.indices { pointers[index]?.deallocate() }
            pointers.deallocate()
        }
        return body(pointers)
    }
}
