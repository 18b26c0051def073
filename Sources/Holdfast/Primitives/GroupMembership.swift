// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore

/// A group of processes and tasks that want to know of each other who is alive.
///
/// ```swift
/// let workers = try GroupMembership("indexers", on: locks)
/// try await workers.withMembership(data: "10.0.0.7:8080") { _ in
///     for try await members in workers.changes { rebalance(members) }
/// }
/// ```
///
/// A member holds the group's name together with the others, as readers hold a lock: a dead member leaves when its own
/// lease ends, whatever the others do. Each join is a member of its own, so one process may have several.
///
/// What it does not promise: that a member in the list is alive (it was within its lease), or that two who read the list
/// at the same time see the same; agree on something with a lock or a ``LeaderElection``. An exclusive lock on the same
/// name waits for the group to be empty and keeps newcomers out.
public final class GroupMembership: Sendable {
    /// The most bytes of data that a member can bring along: they travel in the owner's label.
    public static let maximumDataLength = OwnerID.maximumLabelLength

    /// A member of a group.
    public struct Member: Sendable, Hashable, Identifiable {
        /// Who it is: that of its lease's ``Lease/owner``.
        public let id: OwnerID
        /// What it brought along.
        public let data: String

        /// The process that it lives in.
        public var process: ProcessIdentity { self.id.process }
    }

    /// The name.
    public let resource: Resource
    private let locks: LockService
    private let interval: Duration

    /// Describes a group; nothing is sent.
    ///
    /// - Parameters:
    ///   - resource: The name.
    ///   - locks: Where it lives.
    ///   - interval: How often ``changes`` looks, 10 ms to 24 h; every second by default.
    /// - Throws: ``LockError`` with code ``LockError/Code/invalidArgument`` when the interval is out of its range.
    public init(
        _ resource: Resource,
        on locks: LockService,
        lookingEvery interval: Duration = Changes<[Member]>.defaultInterval
    ) throws(LockError) {
        try Changes<[Member]>.check(interval)
        self.resource = resource
        self.locks = locks
        self.interval = interval
    }

    /// Becomes a member, runs work as one, and leaves, also when the task is cancelled.
    ///
    /// The work is cancelled before the others can see the member gone because its lease could not be renewed. Costs what
    /// a lock costs.
    ///
    /// - Parameters:
    ///   - data: What the others shall know, such as an address: at most ``maximumDataLength`` bytes of UTF-8 without
    ///     control characters. Everybody who can read the store sees it.
    ///   - lease: After how long a dead member is gone; `nil` for the configured one.
    ///   - work: What to do as a member.
    /// - Returns: What the work returns.
    /// - Throws: As ``join(data:lease:)``; the work's own error; ``LockError`` with code ``LockError/Code/lost``.
    public func withMembership<Result: Sendable>(
        data: String = "",
        lease: Duration? = nil,
        _ work: @escaping @Sendable (Lease) async throws -> Result
    ) async throws -> Result {
        let member = try await self.join(data: data, lease: lease)
        return try await self.locks.holding([member]) { try await work(member) }
    }

    /// Becomes a member.
    ///
    /// One round trip. Prefer ``withMembership(data:lease:_:)``.
    ///
    /// - Parameters:
    ///   - data: What the others shall know, such as an address: at most ``maximumDataLength`` bytes of UTF-8 without
    ///     control characters. Everybody who can read the store sees it. To change it, join anew and leave then.
    ///   - lease: After how long a dead member is gone; `nil` for the configured one.
    /// - Returns: The membership: its `release()` leaves the group.
    /// - Throws: ``LockError`` with code ``LockError/Code/invalidArgument`` when the data cannot be carried, another code
    ///   when the store fails, or `CancellationError`. Then nobody has joined.
    public func join(data: String = "", lease: Duration? = nil) async throws -> Lease {
        try Self.check(data)
        return try await self.locks.queueApart(AcquireOptions(self.resource, .shared, lease: lease, label: data))
    }

    /// Says who is in the group.
    ///
    /// One round trip. Holders that cannot be read, being of another program, are left out.
    ///
    /// - Returns: The members, the one that joined first being the first.
    /// - Throws: ``LockError`` when the store fails.
    public func members() async throws -> [Member] { try await Self.members(self.resource, self.locks) }

    /// The members, and then the new list each time that somebody has joined or left.
    ///
    /// Looks every second, or as often as the group was told, one round trip each; see ``Changes``.
    public var changes: Changes<[Member]> {
        Changes(every: self.interval, self.locks.engine.clock) { [resource = self.resource, locks = self.locks] in
            try await Self.members(resource, locks)
        }
    }

    private static func members(_ resource: Resource, _ locks: LockService) async throws -> [Member] {
        try await locks.holders(of: resource).compactMap { holder in
            guard let owner = holder.owner, holder.mode == .shared, !holder.isAccepting else { return nil }
            return Member(id: owner, data: owner.label ?? "")
        }
    }

    private static func check(_ data: String) throws(LockError) {
        guard data.utf8.count <= Self.maximumDataLength else {
            throw LockError(
                .invalidArgument,
                "a member's data has \(data.utf8.count) bytes; the limit is \(Self.maximumDataLength): "
                    + "put the rest where the others find it, and join with its address"
            )
        }
        // A label is cleaned of what would harm a terminal; data must arrive as it was given.
        guard OwnerID.carries(data) else {
            throw LockError(.invalidArgument, "a member's data has a control character; encode it, as with base64")
        }
    }
}
