// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import Synchronization

/// Who waits for which completion, watch or session event of the C library, by number.
///
/// The library gets numbers, never pointers: it may call back once, several times, or never (it drops completions and
/// watches when a handle is closed), so nothing of ours may hang on it. A number that is not in the table is ignored.
/// One table for the process, since a completion brings nothing but its number.
final class CallbackTable: Sendable {
    /// The table of this process.
    static let shared = CallbackTable()

    /// A call that was sent, or is about to be; an object, since it is handed on more often than it is made.
    final class Call: Sendable {
        /// The handle it was sent on.
        let handle: UInt
        /// When it was sent, or a little before.
        var sentAt: ContinuousClock.Instant { self.sent.wrappedValue }
        /// Whether its answer shows that the session is alive: reads are answered by any server, even one that has lost
        /// the others and does not know that the session has ended.
        let reachesLeader: Bool
        /// When its caller stops waiting.
        var deadline: ContinuousClock.Instant { self.end.wrappedValue }
        /// Called once.
        let done: @Sendable (CallReply) -> Void
        /// Called once, when the library is done with the call's memory.
        let free: (@Sendable () -> Void)?
        /// Called last, if the library itself has completed the call.
        let after: (@Sendable (CallReply) -> Void)?
        private let sent: Moment
        private let end: Moment

        init(
            handle: UInt,
            sentAt: ContinuousClock.Instant,
            reachesLeader: Bool,
            deadline: ContinuousClock.Instant,
            done: @escaping @Sendable (CallReply) -> Void,
            free: (@Sendable () -> Void)? = nil,
            after: (@Sendable (CallReply) -> Void)? = nil
        ) {
            self.handle = handle
            self.sent = Moment(wrappedValue: sentAt)
            self.reachesLeader = reachesLeader
            self.end = Moment(wrappedValue: deadline)
            self.done = done
            self.free = free
            self.after = after
        }
    }

    /// What is told to the owner of a handle.
    enum SessionEvent: Sendable {
        case state(Int32)
        /// A call that was sent at this instant was answered by the ensemble.
        case answered(sentAt: ContinuousClock.Instant)
    }

    /// The owner of a handle.
    private struct Owner {
        let handler: @Sendable (SessionEvent) -> Void
        /// Calls that the library has not completed.
        var pending = 0
        /// What the watches that the server keeps take in one packet, in bytes.
        var watched = 0
        /// Watches that no server keeps, and when each is due, the oldest first.
        var polled: [(number: UInt, due: ContinuousClock.Instant)] = []
    }

    /// A watch that was set, or is about to be.
    private struct Watch {
        let handle: UInt
        /// What it takes in a packet of watches; 0 when no server keeps it.
        let bytes: Int
        /// Called when the watch is given up, unless the handle is closed.
        let forget: @Sendable (UInt) -> Void
        /// Called once at most; told whether the node was deleted.
        let fire: @Sendable (Bool) -> Void
    }

    /// A call, and whether its caller has stopped waiting.
    private struct Entry {
        let call: Call
        var isLate = false
    }

    private struct State {
        var next: UInt = 1
        var calls: [UInt: Entry] = [:]
        var watches: [UInt: Watch] = [:]
        var handles: [UInt: Owner] = [:]

        mutating func number() -> UInt {
            defer { self.next += 1 }
            return self.next
        }

        /// Takes a watch out.
        mutating func takeWatch(_ number: UInt) -> Watch? {
            guard let watch = self.watches.removeValue(forKey: number) else { return nil }
            if watch.bytes > 0 { self.handles[watch.handle]?.watched -= watch.bytes }
            return watch
        }

        mutating func enter(_ call: Call) -> UInt {
            self.handles[call.handle]?.pending += 1
            let number = self.number()
            self.calls[number] = Entry(call: call)
            return number
        }
    }

    private let state = Mutex(State())
    private let strays = Atomic<Int>(0)

    /// How many watches fired for nobody.
    var strayWatches: Int { self.strays.load(ordering: .relaxed) }

    /// How many calls, watches and handles are known: zero when all sessions are closed.
    var count: Int { self.state.withLock { $0.calls.count + $0.watches.count + $0.handles.count } }

    // MARK: - For our side

    /// Enters the owner of a handle that is about to be opened.
    func addHandle(_ handler: @escaping @Sendable (SessionEvent) -> Void) -> UInt {
        self.state.withLock { state in
            let number = state.number()
            state.handles[number] = Owner(handler: handler)
            return number
        }
    }

    /// The most calls that may be unanswered on one handle.
    ///
    /// The library wakes its thread through a pipe of 64 KiB, one byte for each call, and drops the connection when the
    /// pipe is full.
    static let maximumPending = 8192
    /// How many of them are kept for what has to go on when no new locks can be asked for: releases, renewals, and the
    /// looks of those who are in a queue.
    static let reservedPending = 2048

    /// Enters a call that is about to be sent.
    ///
    /// - Parameters:
    ///   - call: The call.
    ///   - isNew: Whether it begins something new, which may be refused before anything was sent.
    /// - Returns: Its number, or `nil` when too many are unanswered.
    func add(_ call: Call, isNew: Bool = false) -> UInt? {
        self.state.withLock { state in
            let limit = isNew ? Self.maximumPending - Self.reservedPending : Self.maximumPending
            guard state.handles[call.handle]?.pending ?? 0 < limit else { return nil }
            return state.enter(call)
        }
    }

    /// Enters two calls that are sent together and begin something new, or neither.
    func add(_ first: Call, _ second: Call) -> (UInt, UInt)? {
        self.state.withLock { state in
            let limit = Self.maximumPending - Self.reservedPending
            guard state.handles[first.handle]?.pending ?? 0 < limit - 1 else { return nil }
            return (state.enter(first), state.enter(second))
        }
    }

    /// Enters a call that is about to be sent for others that are entered already.
    func enter(_ call: Call) -> UInt { self.state.withLock { $0.enter(call) } }

    /// Whether a call is unanswered, and somebody waits for it.
    func isAwaited(_ number: UInt) -> Bool { self.state.withLock { $0.calls[number]?.isLate == false } }

    /// How many bytes of watches a server may have to take back at once.
    ///
    /// After each lost connection the library sends all watches of a session in one packet, and servers end connections
    /// that send more than 1 MiB (`jute.maxbuffer`): then it would never be connected again.
    static let maximumWatched = 700 * 1024
    /// How many bytes a watch takes there besides its path.
    private static let watchOverhead = 4
    /// How soon whoever is beyond that is told to look, and how many are at each tick of the session.
    private static let (pollPause, pollsEachTick): (Duration, Int) = (.seconds(1), 10)

    /// Enters a watch that is about to be set.
    ///
    /// When the server would have too many, none is to be set: it *is polled*, which is to say that it fires after a
    /// while by itself, as if the node had changed.
    ///
    /// - Parameters:
    ///   - handle: The handle.
    ///   - path: The node.
    ///   - forget: Has the library forget a watch that is given up.
    ///   - fire: Called once at most; told whether the node was deleted.
    /// - Returns: Its number.
    func addWatch(
        on handle: UInt,
        of path: String,
        forget: @escaping @Sendable (UInt) -> Void,
        _ fire: @escaping @Sendable (_ isDeleted: Bool) -> Void
    ) -> UInt {
        self.state.withLock { state in
            let number = state.number()
            var bytes = path.utf8.count + Self.watchOverhead
            if let owner = state.handles[handle] {
                if owner.watched + bytes > Self.maximumWatched {
                    bytes = 0
                    state.handles[handle]?.polled.append((number, .now.advanced(by: Self.pollPause)))
                } else {
                    state.handles[handle]?.watched += bytes
                }
            }
            state.watches[number] = Watch(handle: handle, bytes: bytes, forget: forget, fire: fire)
            return number
        }
    }

    /// Whether no server keeps a watch; so it is when the watch has fired.
    func isPolled(_ number: UInt) -> Bool { self.state.withLock { $0.watches[number]?.bytes ?? 0 == 0 } }

    /// Gives a watch up; should the library call it, nothing happens.
    func removeWatch(_ number: UInt) {
        guard let watch = self.state.withLock({ $0.takeWatch(number) }), watch.bytes > 0 else { return }
        watch.forget(number)
    }

    /// Tells some of those whose nodes no server watches to look, the oldest first.
    func poll(on handle: UInt, at now: ContinuousClock.Instant) {
        let due = self.state.withLock { state -> [Watch] in
            guard let polled = state.handles[handle]?.polled, let first = polled.first, first.due <= now else {
                return []
            }
            var due: [Watch] = []
            var seen = 0
            for entry in polled {
                guard entry.due <= now, due.count < Self.pollsEachTick else { break }
                seen += 1
                if let watch = state.takeWatch(entry.number) { due.append(watch) }
            }
            state.handles[handle]?.polled.removeFirst(seen)
            return due
        }
        for watch in due { watch.fire(false) }
    }

    /// Ends a call that could not be sent.
    func fail(_ number: UInt, _ code: ServerCode) { self.complete(number, CallReply(code: code), isAnswer: false) }

    /// How many calls of a handle the library has not completed.
    func pending(on handle: UInt) -> Int {
        self.state.withLock { $0.handles[handle]?.pending ?? 0 }
    }

    /// Ends the waits whose time is over; the library may still complete those calls, to nobody.
    func endLate(on handle: UInt, at now: ContinuousClock.Instant) {
        let late = self.state.withLock { state in
            var late: [Call] = []
            for (number, entry) in state.calls
            where entry.call.handle == handle && !entry.isLate && entry.call.deadline <= now {
                state.calls[number]?.isLate = true
                late.append(entry.call)
            }
            return late
        }
        for call in late { call.done(CallReply(code: .late)) }
    }

    /// Ends everything that belongs to a handle after it was closed: the library will not call any more.
    func close(_ handle: UInt) {
        let calls = self.state.withLock { state in
            let numbers = state.calls.filter { $0.value.call.handle == handle }.map(\.key).sorted()
            let calls = numbers.compactMap { state.calls.removeValue(forKey: $0) }
            for number in state.watches.filter({ $0.value.handle == handle }).map(\.key) {
                state.watches[number] = nil
            }
            state.handles[handle] = nil
            return calls
        }
        for entry in calls {
            entry.call.free?()
            if !entry.isLate { entry.call.done(CallReply(code: .closing)) }
        }
    }

    // MARK: - For the library

    /// Takes a completion.
    func complete(_ number: UInt, _ reply: CallReply, isAnswer: Bool = true) {
        let (entry, handler) = self.state.withLock { state -> (Entry?, (@Sendable (SessionEvent) -> Void)?) in
            guard let entry = state.calls.removeValue(forKey: number) else { return (nil, nil) }
            guard let owner = state.handles.index(forKey: entry.call.handle) else { return (entry, nil) }
            state.handles.values[owner].pending -= 1
            let isTold = isAnswer && entry.call.reachesLeader && reply.code.isAnswer
            return (entry, isTold ? state.handles.values[owner].handler : nil)
        }
        guard let entry else { return }
        entry.call.free?()
        if isAnswer, !reply.code.isKnown { ClientLog.shared.count(unknown: reply.code) }
        handler?(.answered(sentAt: entry.call.sentAt))
        if !entry.isLate { entry.call.done(reply) }
        if isAnswer { entry.call.after?(reply) }
    }

    /// Takes a watch's event, its last.
    func fire(_ number: UInt, isDeleted: Bool) {
        guard let watch = self.state.withLock({ $0.takeWatch(number) }) else {
            self.strays.add(1, ordering: .relaxed)
            return
        }
        watch.fire(isDeleted)
    }

    /// Takes a change of a handle's state.
    func changed(_ handle: UInt, to state: Int32) {
        self.state.withLock { $0.handles[handle]?.handler }?(.state(state))
    }
}
