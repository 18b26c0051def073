// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore
internal import Synchronization

/// Something that a client of a lock service saw or did.
public struct HistoryEvent: Sendable, Hashable {
    /// What happened.
    public enum Kind: Sendable, Hashable {
        /// The client asked for a lock.
        case requested(LockMode)
        /// The request came back with the lock.
        case granted(LockMode, FencingToken, validUntil: ContinuousClock.Instant)
        /// The request came back without the lock: timeout, cancellation or an error.
        case notGranted
        /// The client believes in the lease for longer.
        case renewed(validUntil: ContinuousClock.Instant)
        /// The mode was changed in place; a new token after an upgrade.
        case converted(LockMode, FencingToken)
        /// The client was told that it lost the lock.
        case lost(LossReason)
        /// The client began to give the lock back.
        case releasing
        /// Giving back ended.
        case released(ReleaseReply)
        /// A fenced resource answered a write with this token.
        case wrote(FencingToken, accepted: Bool)
        /// The client was stopped, as on SIGSTOP.
        case paused
        /// The client went on.
        case resumed
        /// The last fault is over; from now on everything must work in time.
        case healed
    }

    /// The place in the history.
    public let index: Int
    /// When it happened.
    public let time: ContinuousClock.Instant
    /// Who saw or did it: a process.
    public let client: String
    /// Which attempt to get and hold a lock it belongs to; 0 for events of the client as a whole.
    public let attempt: Int
    /// The resource, or `nil` for events of the client as a whole.
    public let resource: Resource?
    /// What happened.
    public let kind: Kind
}

extension HistoryEvent: CustomStringConvertible {
    /// One line.
    public var description: String {
        "#\(self.index) \(self.client) attempt \(self.attempt) \(self.resource?.name ?? "-"): \(self.kind)"
    }
}

/// Collects events of all clients of a test, in one order and on one clock.
public final class History: Sendable {
    private struct State {
        var events: [HistoryEvent] = []
        var attempts = 0
    }

    private let clock: any LeaseClock
    private let state = Mutex(State())

    /// Makes an empty history.
    ///
    /// - Parameter clock: The clock of all events.
    public init(clock: any LeaseClock) { self.clock = clock }

    /// What was recorded so far, oldest first.
    public var events: [HistoryEvent] { self.state.withLock { $0.events } }

    /// Begins an attempt to get and hold a lock, and records the request.
    ///
    /// Call it right before the request.
    ///
    /// - Parameters:
    ///   - client: The process.
    ///   - resource: The resource.
    ///   - mode: The mode asked for.
    /// - Returns: The attempt, to record what follows.
    public func begin(_ client: String, _ resource: Resource, mode: LockMode = .exclusive) -> Attempt {
        let number = self.state.withLock { state in
            state.attempts += 1
            return state.attempts
        }
        let attempt = Attempt(history: self, client: client, number: number, resource: resource)
        attempt.record(.requested(mode))
        return attempt
    }

    /// Records an event of a client as a whole.
    ///
    /// - Parameters:
    ///   - client: The process.
    ///   - kind: What happened.
    public func record(_ client: String, _ kind: HistoryEvent.Kind) {
        self.append(client: client, attempt: 0, resource: nil, kind)
    }

    fileprivate func append(client: String, attempt: Int, resource: Resource?, _ kind: HistoryEvent.Kind) {
        self.state.withLock { state in
            state.events.append(
                HistoryEvent(
                    index: state.events.count,
                    time: self.clock.now,
                    client: client,
                    attempt: attempt,
                    resource: resource,
                    kind: kind
                )
            )
        }
    }

    /// One try to get and hold a lock.
    public struct Attempt: Sendable {
        fileprivate let history: History
        fileprivate let client: String
        fileprivate let number: Int
        fileprivate let resource: Resource

        /// Records what happened to it.
        public func record(_ kind: HistoryEvent.Kind) {
            self.history.append(client: self.client, attempt: self.number, resource: self.resource, kind)
        }
    }
}
