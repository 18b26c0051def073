// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore

/// An election of one leader among the candidates of all processes.
///
/// ```swift
/// let election = try LeaderElection("scheduler", on: locks)
/// while !Task.isCancelled {
///     try? await election.withLeadership { term in
///         try await schedule(fencedBy: term.token)         // cancelled before the term can end
///     }
/// }
/// ```
///
/// The leader holds an exclusive lease on the election's name; candidates wait in its queue, first come, first served. A
/// leader that dies is followed when its lease ends; one that resigns at once.
///
/// What it promises: the terms of two leaders do not overlap on their own clocks, and work under ``withLeadership(_:)`` is
/// cancelled a margin before the term can end. What it does not: that a paused or deaf leader *acts* no more. Give
/// ``LeadershipTerm/token`` to what the leader writes to.
public final class LeaderElection: Sendable {
    /// Who leads.
    public struct Leader: Sendable, Hashable {
        /// Who it is, or `nil` when its description cannot be read.
        public let owner: OwnerID?
        /// The token of the term, when the store knows it.
        public let token: FencingToken?

        /// The name that the leader gave itself as a candidate.
        public var candidate: String? { self.owner?.label }
    }

    /// The name.
    public let resource: Resource
    private let locks: LockService
    private let candidate: String?
    private let lease: Duration?
    private let interval: Duration

    /// Describes an election; nothing is sent.
    ///
    /// - Parameters:
    ///   - resource: The name.
    ///   - locks: Where it lives.
    ///   - candidate: What the others shall know of this one as a leader, such as an address: at most
    ///     ``OwnerID/maximumLabelLength`` bytes of UTF-8 without control characters.
    ///   - lease: After how long a dead leader is followed; `nil` for the configured lease.
    ///   - interval: How often ``observe()`` looks, 10 ms to 24 h; every second by default.
    /// - Throws: ``LockError`` with code ``LockError/Code/invalidArgument`` when something is out of its range.
    public init(
        _ resource: Resource,
        on locks: LockService,
        candidate: String? = nil,
        lease: Duration? = nil,
        lookingEvery interval: Duration = Changes<Leader?>.defaultInterval
    ) throws(LockError) {
        try Changes<Leader?>.check(interval)
        if let candidate, !OwnerID.carries(candidate) {
            throw LockError(
                .invalidArgument,
                "a candidate's name has at most \(OwnerID.maximumLabelLength) bytes and no control characters"
            )
        }
        self.resource = resource
        self.locks = locks
        self.candidate = candidate
        self.lease = lease
        self.interval = interval
    }

    /// Stands for election until this candidate leads, runs work as the leader, and resigns.
    ///
    /// One term. The work is **cancelled a margin before the term can end** (a tenth of the lease unless configured
    /// otherwise), and awaited. When the task is cancelled, as by a service that shuts down, the work is cancelled and
    /// the leader resigns at once.
    ///
    /// - Parameter work: What the leader does.
    /// - Returns: What the work returns.
    /// - Throws: The work's own error; ``LockError`` with code ``LockError/Code/lost`` when the term ended before the work;
    ///   another code when the store fails; or `CancellationError`.
    public func withLeadership<Result: Sendable>(
        _ work: @escaping @Sendable (LeadershipTerm) async throws -> Result
    ) async throws -> Result {
        let lease = try await self.stand()
        let term = LeadershipTerm(lease)
        return try await self.locks.holding([lease]) { try await work(term) }
    }

    /// The terms of this candidate: each element is a term that has just begun.
    ///
    /// Each campaign is a candidate of its own, also in one process.
    public func campaign() -> LeadershipCampaign {
        LeadershipCampaign(clock: self.locks.engine.clock) { [self] in LeadershipTerm(try await self.stand()) }
    }

    /// Says who leads now.
    ///
    /// One round trip. Old news when it arrives.
    ///
    /// - Returns: The leader, or `nil` when there is none.
    /// - Throws: ``LockError`` when the store fails.
    public func leader() async throws -> Leader? { try await Self.leader(self.resource, self.locks) }

    /// Who leads, and then each new leader, or `nil` for none: for followers.
    ///
    /// Looks every second, or as often as the election was told, one round trip each; see ``Changes``. A leader that was
    /// elected twice in a row is seen as a new one, by its token.
    public func observe() -> Changes<Leader?> {
        Changes(every: self.interval, self.locks.engine.clock) { [resource = self.resource, locks = self.locks] in
            try await Self.leader(resource, locks)
        }
    }

    private func stand() async throws -> Lease {
        try await self.locks.queueApart(
            AcquireOptions(self.resource, .exclusive, lease: self.lease, label: self.candidate)
        )
    }

    private static func leader(_ resource: Resource, _ locks: LockService) async throws -> Leader? {
        guard let holder = try await locks.holders(of: resource).first, !holder.isAccepting else { return nil }
        return Leader(owner: holder.owner, token: holder.fencingToken)
    }
}
