// SPDX-License-Identifier: Apache-2.0

/// A request for a lock, complete and ready to be sent, and to be sent again.
public struct LockRequest: Sendable, Hashable, Identifiable {
    /// What to do when the lock is not free.
    public enum Contention: Sendable, Hashable {
        /// Come back at once with ``AcquireReply/busy(blockers:)``.
        case fail
        /// Take a place in the queue.
        case queue
    }

    /// Whether others may be passed.
    public enum Fairness: String, Sendable, Hashable, Codable {
        /// First come, first served, and nobody starves.
        case fair
        /// Whoever asks first when the lock is free gets it.
        ///
        /// A lock that is released is free until somebody asks: more throughput for short holds, but a waiter may
        /// starve, and a waiting writer does not keep readers out.
        case barging
    }

    /// The id.
    ///
    /// The same when the request is sent again; never used for another request.
    public let id: RequestID
    /// What to lock.
    public var resource: Resource
    /// How to lock it.
    public var mode: LockMode
    /// Who asks.
    public var owner: OwnerID
    /// How long the grant lasts unless renewed, counted by the store from when it handles the request.
    public var lease: Duration
    /// What to do when the lock is not free.
    public var contention: Contention
    /// How long the place in the queue is kept at most, or `nil` for as long as the requester lives.
    ///
    /// The store may keep it for longer; the engine withdraws at its own deadline.
    public var waitLimit: Duration?
    /// How long the requester has, after a hand-over, to accept by sending the request again.
    ///
    /// At most ``lease``.
    public var acceptance: Duration
    /// How long the resource rests when this grant ends without a release.
    public var lockDelay: Duration
    /// How many head starts earlier this request stands in the queue.
    ///
    /// It stands as if it had come this many times ``Limits/priorityHeadStart`` earlier. 0 is first come, first
    /// served; since time passes for the others too, nobody starves. -100 to 100.
    public var priority: Int
    /// Whether this request may pass others, and they it.
    public var fairness: Fairness
    /// Whether the requester is told by its own store when the lock is handed over, and then holds it without asking.
    ///
    /// It goes by ``StoreSignal/handedOver(_:_:since:)`` and withdraws when it gives up waiting. A store that knows itself
    /// to have released the lock may then hand it over for the whole ``lease`` instead of the ``acceptance`` time; others
    /// may take no notice.
    public var acceptsUnasked: Bool
    /// The references of the grants that are kept until this request is answered: those of the scopes around it.
    ///
    /// Not secret. This is what deadlock detection goes by: who waits for one of these waits for this request. At most
    /// ``Limits/maximumHolding`` are kept, the innermost.
    public var holding: [String]

    /// Makes a request.
    ///
    /// - Parameters:
    ///   - id: A fresh id.
    ///   - resource: What to lock.
    ///   - mode: How to lock it.
    ///   - owner: Who asks.
    ///   - lease: How long the grant lasts unless renewed.
    ///   - contention: What to do when the lock is not free.
    ///   - waitLimit: How long the place in the queue is kept at most.
    ///   - acceptance: How long the requester has to accept after a hand-over.
    ///   - lockDelay: How long the resource rests when this grant ends without a release.
    ///   - priority: How many head starts earlier this request stands in the queue.
    ///   - fairness: Whether this request may pass others, and they it.
    ///   - holding: The references of the grants that are kept until this request is answered, the innermost first.
    ///   - acceptsUnasked: Whether the requester goes by what its own store tells it of a hand-over.
    public init(
        id: RequestID,
        resource: Resource,
        mode: LockMode = .exclusive,
        owner: OwnerID,
        lease: Duration,
        contention: Contention = .queue,
        waitLimit: Duration? = nil,
        acceptance: Duration = Limits.defaultAcceptance,
        lockDelay: Duration = .zero,
        priority: Int = 0,
        fairness: Fairness = .fair,
        holding: [String] = [],
        acceptsUnasked: Bool = false
    ) {
        self.id = id
        self.resource = resource
        self.mode = mode
        self.owner = owner
        self.lease = lease
        self.contention = contention
        self.waitLimit = waitLimit
        self.acceptance = min(acceptance, lease)
        self.lockDelay = lockDelay
        self.priority = priority
        self.fairness = fairness
        self.holding = Array(holding.prefix(Limits.maximumHolding))
        self.acceptsUnasked = acceptsUnasked
    }

    /// What a store needs in order to find this request or its grant again.
    public var key: GrantKey { GrantKey(id: self.id, resource: self.resource) }
}

/// A change of the mode of a grant.
public struct Conversion: Sendable, Hashable {
    /// The grant.
    public let key: GrantKey
    /// The new mode.
    public let mode: LockMode
    /// Whether a holder in update mode waits until it is alone and can be exclusive.
    public let contention: LockRequest.Contention
    /// The references of the grants that are kept meanwhile, besides this one; see ``LockRequest/holding``.
    public let holding: [String]

    /// Makes a conversion.
    ///
    /// - Parameters:
    ///   - key: The grant.
    ///   - mode: The new mode.
    ///   - contention: What to do when other holders are in the way.
    ///   - holding: The references of the grants that are kept meanwhile.
    public init(
        _ key: GrantKey,
        to mode: LockMode,
        contention: LockRequest.Contention = .fail,
        holding: [String] = []
    ) {
        self.key = key
        self.mode = mode
        self.contention = contention
        self.holding = Array(holding.prefix(Limits.maximumHolding))
    }
}

/// What a store needs in order to find a grant or a waiting request.
public struct GrantKey: Sendable, Hashable, Codable {
    /// The id of the request and of its grant.
    public let id: RequestID
    /// What is locked.
    public let resource: Resource

    /// Makes a key.
    public init(id: RequestID, resource: Resource) {
        self.id = id
        self.resource = resource
    }
}

/// A lock that is held, as its holder knows it.
///
/// `Codable`, so that a held lock can be handed to another process or taken up again after a restart with
/// `LockService.resume(_:)`; the encoded form contains the secret ``RequestID`` and must be kept like a password.
/// ``validUntil`` is boot time of this machine and means nothing after a reboot or elsewhere; resuming asks the store.
public struct Grant: Sendable, Hashable, Codable, Identifiable {
    /// The id of the request that won.
    public let id: RequestID
    /// What is locked.
    public let resource: Resource
    /// How it is locked.
    public let mode: LockMode
    /// Who holds it.
    public let owner: OwnerID
    /// The number for the resource to check.
    public let fencingToken: FencingToken
    /// How long a renewal lasts.
    public let lease: Duration
    /// Until when the holder may believe that it holds the lock, unless renewed.
    public let validUntil: ContinuousClock.Instant

    /// Makes a grant.
    ///
    /// - Parameters:
    ///   - id: The id of the request that won.
    ///   - resource: What is locked.
    ///   - mode: How it is locked.
    ///   - owner: Who holds it.
    ///   - fencingToken: The number for the resource to check.
    ///   - lease: How long a renewal lasts.
    ///   - validUntil: Until when the holder may believe that it holds the lock.
    public init(
        id: RequestID,
        resource: Resource,
        mode: LockMode,
        owner: OwnerID,
        fencingToken: FencingToken,
        lease: Duration,
        validUntil: ContinuousClock.Instant
    ) {
        self.id = id
        self.resource = resource
        self.mode = mode
        self.owner = owner
        self.fencingToken = fencingToken
        self.lease = lease
        self.validUntil = validUntil
    }

    /// What a store needs in order to find this grant.
    public var key: GrantKey { GrantKey(id: self.id, resource: self.resource) }
}
