// SPDX-License-Identifier: Apache-2.0

/// The life of one lease as its holder may believe it: pure, with time passed in.
///
/// The deadline counts from when the winning request was *sent*, less a drift allowance, so it is never later than the
/// store's own. A renewal whose outcome is unknown moves nothing; only a reply, or the deadline, ends the lease.
public struct LeaseTimeline: Sendable, Hashable {
    /// A point in time.
    public typealias Instant = ContinuousClock.Instant

    /// What a timeline needs to know besides the lease.
    public struct Policy: Sendable, Hashable {
        /// How long before the deadline the holder must stop, as a part of the lease.
        public var marginFraction: Double
        /// Where in the lease renewals are sent, as a part of it.
        public var renewalFraction: Double

        /// Makes a policy.
        ///
        /// - Parameters:
        ///   - marginFraction: How long before the deadline the holder must stop; above 0, at most 0.5.
        ///   - renewalFraction: Where in the lease renewals are sent; above 0, below 1 less the margin.
        public init(marginFraction: Double = 0.1, renewalFraction: Double = 1.0 / 3) {
            self.marginFraction = marginFraction
            self.renewalFraction = renewalFraction
        }
    }

    /// A lease and what follows from it: worked out once for all leases of a length.
    package struct Spans: Sendable, Hashable {
        /// The lease.
        package let lease: Duration
        let margin: Duration
        let cadence: Duration
        let validity: Duration
        let window: Int64

        /// Works them out.
        ///
        /// - Parameters:
        ///   - lease: How long the lease was asked for.
        ///   - policy: Margins.
        package init(lease: Duration, policy: Policy) {
            self.lease = lease
            self.margin = lease * policy.marginFraction
            self.cadence = lease * policy.renewalFraction
            self.validity = LeaseTimeline.validity(of: lease)
            self.window = (self.cadence / 8).nanoseconds
        }
    }

    /// What to do now.
    public enum Action: Sendable, Hashable {
        /// Nothing before this instant.
        case wait(until: Instant)
        /// Send a renewal.
        case renew
        /// Stop the holder's work: the margin is reached. Comes once.
        case stop
    }

    /// How long a renewal lasts.
    public var lease: Duration { self.spans.lease }
    /// Until when the holder may believe that it holds the lock.
    public private(set) var validUntil: Instant
    /// When the holder's work must be stopped unless a renewal is confirmed before.
    public private(set) var stopAt: Instant
    /// When to renew next.
    public private(set) var renewAt: Instant
    /// Why the lease ended, or `nil` while it is believed.
    public private(set) var loss: LossReason?
    /// Renewals with an unknown outcome since the last confirmed one.
    public private(set) var doubts = 0

    /// How much earlier than ``renewAt`` a renewal may be sent, so that many leases are renewed together: an eighth of
    /// the time between renewals.
    public var renewalWindow: Duration { self.cadence / 8 }
    /// The same in nanoseconds.
    package var renewalWindowNanoseconds: Int64 { self.spans.window }

    private let spans: Spans
    private var margin: Duration { self.spans.margin }
    private var cadence: Duration { self.spans.cadence }
    private var isRenewing = false

    /// Starts a lease.
    ///
    /// - Parameters:
    ///   - lease: How long it was asked for.
    ///   - requestedAt: When the winning request was sent.
    ///   - policy: Margins.
    public init(lease: Duration, requestedAt: Instant, policy: Policy = Policy()) {
        self.init(Spans(lease: lease, policy: policy), requestedAt: requestedAt)
    }

    /// Starts a lease of a length that was looked at before.
    ///
    /// - Parameters:
    ///   - spans: The length and what follows from it.
    ///   - requestedAt: When the winning request was sent.
    package init(_ spans: Spans, requestedAt: Instant) {
        self.spans = spans
        self.validUntil = requestedAt.advanced(by: spans.validity)
        self.stopAt = self.validUntil.advanced(by: .zero - spans.margin)
        self.renewAt = requestedAt.advanced(by: spans.cadence)
    }

    /// How long a holder may believe in a lease: the lease less 1 % and 2 ms, for clocks that run at different rates
    /// and for the granularity of timers.
    ///
    /// The allowance is that of the Redlock description (redis.io, "Distributed Locks with Redis").
    public static func validity(of lease: Duration) -> Duration {
        lease - lease / 100 - .milliseconds(2)
    }

    /// Whether the holder may act at this instant.
    public func isValid(at now: Instant) -> Bool { self.loss == nil && now < self.validUntil }

    /// Says what to do, and notes a renewal as sent or the lease as lost when that is due.
    ///
    /// - Parameter now: The time.
    /// - Returns: What to do.
    public mutating func action(at now: Instant) -> Action {
        guard self.loss == nil else { return .wait(until: now.advanced(by: self.lease)) }
        if now >= self.stopAt {
            self.loss = .deadline
            return .stop
        }
        if !self.isRenewing, now >= self.renewAt.advanced(by: .zero - self.renewalWindow) {
            self.isRenewing = true
            return .renew
        }
        return .wait(until: self.isRenewing ? self.stopAt : min(self.renewAt, self.stopAt))
    }

    /// Takes the answer to a renewal.
    ///
    /// One that comes after the lease was given up as lost changes nothing.
    ///
    /// - Parameters:
    ///   - reply: The answer.
    ///   - sentAt: When the renewal was sent.
    ///   - now: The time.
    public mutating func renewalEnded(_ reply: RenewReply, sentAt: Instant, at now: Instant) {
        guard self.loss == nil else { return }
        self.isRenewing = false
        if now >= self.validUntil {
            // Too late, whatever the answer: the holder was told or should have been, and others rely on it.
            self.loss = .deadline
            return
        }
        switch reply {
        case .renewed:
            self.doubts = 0
            self.validUntil = max(self.validUntil, sentAt.advanced(by: self.spans.validity))
            self.stopAt = self.validUntil.advanced(by: .zero - self.margin)
            self.renewAt = max(self.renewAt, sentAt.advanced(by: self.cadence))
        case .unknown:
            // Sooner and sooner would be a storm, later and later would miss the deadline: a quarter of the cadence
            // leaves several tries before the margin.
            self.doubts += 1
            self.renewAt = now.advanced(by: self.cadence / 4)
        case .lost(let reason):
            self.loss = reason
        }
    }

    /// Ends the lease on news from the store.
    ///
    /// - Parameter reason: Why.
    public mutating func end(_ reason: LossReason) {
        if self.loss == nil { self.loss = reason }
    }
}
