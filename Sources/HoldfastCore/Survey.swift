// SPDX-License-Identifier: Apache-2.0

/// Who holds a lock, as the store knows it.
public struct Holder: Sendable, Hashable, Codable {
    /// The first digits of the grant's id, for telling grants apart; `nil` for a foreign holder.
    public var reference: String?
    /// The owner, or `nil` when another library holds the lock or the description cannot be read.
    public var owner: OwnerID?
    /// The mode.
    public var mode: LockMode
    /// The token, when the store knows it.
    public var fencingToken: FencingToken?
    /// How long the lock has been held, when the store knows it.
    public var heldFor: Duration?
    /// How much of the lease is left; `nil` when the lock does not end by itself.
    ///
    /// Where locks live with sessions, and the holder is another process: how long the lock outlives it.
    public var remaining: Duration?
    /// Whether the lock was handed over and the holder has not said yet that it is there.
    public var isAccepting: Bool
    /// What a foreign holder says of itself, if its library writes something that the store can show.
    ///
    /// An address, or a name that somebody gave it: anybody's text, of at most 64 characters.
    public var note: String?

    /// Makes a description of a holder.
    ///
    /// - Parameters:
    ///   - reference: The first digits of the grant's id.
    ///   - owner: The owner, when it is one of ours.
    ///   - mode: The mode.
    ///   - fencingToken: The token.
    ///   - heldFor: How long the lock has been held.
    ///   - remaining: How much of the lease is left.
    ///   - isAccepting: Whether the holder still has to accept a hand-over.
    ///   - note: What a foreign holder says of itself.
    public init(
        reference: String?,
        owner: OwnerID?,
        mode: LockMode,
        fencingToken: FencingToken?,
        heldFor: Duration?,
        remaining: Duration?,
        isAccepting: Bool = false,
        note: String? = nil
    ) {
        self.reference = reference
        self.owner = owner
        self.mode = mode
        self.fencingToken = fencingToken
        self.heldFor = heldFor
        self.remaining = remaining
        self.isAccepting = isAccepting
        self.note = note
    }

    /// The owner for people.
    public var name: String {
        self.owner?.description ?? self.note.map { "a foreign holder (\($0))" } ?? "a foreign holder"
    }
}

/// Who waits for a lock, as the store knows it.
public struct Waiter: Sendable, Hashable, Codable {
    /// The first digits of the request's id.
    public var reference: String
    /// The owner, or `nil` when the description cannot be read.
    public var owner: OwnerID?
    /// The mode asked for.
    public var mode: LockMode
    /// How long it has been waiting, when the store knows it.
    public var waitingFor: Duration?
    /// The priority of the request, when the store keeps it.
    public var priority: Int
    /// Whether others may pass it, and it them.
    public var fairness: LockRequest.Fairness
    /// The references of the grants that are kept while this request waits; see ``LockRequest/holding``.
    public var holding: [String]
    /// What a foreign waiter says of itself; see ``Holder/note``.
    public var note: String?

    /// Makes a description of a waiter.
    ///
    /// - Parameters:
    ///   - reference: The first digits of the request's id.
    ///   - owner: The owner.
    ///   - mode: The mode asked for.
    ///   - waitingFor: How long it has been waiting.
    ///   - priority: The priority of the request.
    ///   - fairness: Whether others may pass it, and it them.
    ///   - holding: The references of the grants that are kept while this request waits.
    ///   - note: What a foreign waiter says of itself.
    public init(
        reference: String,
        owner: OwnerID?,
        mode: LockMode,
        waitingFor: Duration?,
        priority: Int = 0,
        fairness: LockRequest.Fairness = .fair,
        holding: [String] = [],
        note: String? = nil
    ) {
        self.reference = reference
        self.owner = owner
        self.mode = mode
        self.waitingFor = waitingFor
        self.priority = priority
        self.fairness = fairness
        self.holding = holding
        self.note = note
    }

    /// The owner for people.
    public var name: String {
        self.owner?.description ?? self.note.map { "a foreign waiter (\($0))" } ?? "a foreign waiter"
    }
}

/// The state of one resource.
public struct ResourceStatus: Sendable, Hashable, Codable {
    /// The resource.
    public var resource: Resource
    /// The holders, the one that has held longest first.
    public var holders: [Holder]
    /// The waiters, the next in line first.
    ///
    /// A holder that waits to become exclusive comes first, with the reference of its grant.
    /// A process shows one waiter for all of its tasks that wait for a resource.
    public var waiters: [Waiter]
    /// How much longer the resource rests after a holder vanished; `nil` when it does not rest.
    public var restingFor: Duration?

    /// Makes a status.
    ///
    /// - Parameters:
    ///   - resource: The resource.
    ///   - holders: The holders.
    ///   - waiters: The waiters.
    ///   - restingFor: How much longer the resource rests.
    public init(resource: Resource, holders: [Holder], waiters: [Waiter], restingFor: Duration? = nil) {
        self.resource = resource
        self.holders = holders
        self.waiters = waiters
        self.restingFor = restingFor
    }

    /// Whether nobody holds the resource, waits for it, or has to wait for it to rest.
    public var isFree: Bool { self.holders.isEmpty && self.waiters.isEmpty && self.restingFor == nil }
}

/// One page of a survey.
public struct SurveyPage: Sendable, Hashable {
    /// The resources of this page that are not free.
    ///
    /// No order is promised across pages; a resource that changes while the survey runs may be missing or come twice.
    public var resources: [ResourceStatus]
    /// Where to go on, or `nil` when this was the last page.
    public var next: Cursor?
    /// How many places on the way could not be read, since the store does not permit it to this user.
    public var hidden: Int

    /// Makes a page.
    public init(resources: [ResourceStatus], next: Cursor?, hidden: Int = 0) {
        self.resources = resources
        self.next = next
        self.hidden = hidden
    }

    /// A place in a survey.
    ///
    /// Only the store that made it can read it.
    public struct Cursor: Sendable, Hashable {
        /// The store's own encoding.
        public let rawValue: String

        /// Wraps a store's own encoding.
        public init(rawValue: String) { self.rawValue = rawValue }
    }
}

/// Which resources to look at: a name in which `*` stands for any text and `?` for any one character.
public struct ResourcePattern: Sendable, Hashable, ExpressibleByStringLiteral, CustomStringConvertible {
    /// The pattern as text.
    public let description: String

    /// Makes a pattern.
    ///
    /// - Parameter pattern: A name with `*` and `?` as wildcards. There is no escape for them.
    public init(_ pattern: String) { self.description = pattern }

    /// Makes a pattern of a literal.
    public init(stringLiteral pattern: String) { self.init(pattern) }

    /// Every resource.
    public static let all = ResourcePattern("*")

    /// Says whether a resource matches.
    ///
    /// Linear in the length of the name times the number of wildcards at worst.
    public func matches(_ resource: Resource) -> Bool {
        let pattern = Array(self.description.unicodeScalars)
        let name = Array(resource.name.unicodeScalars)
        var patternIndex = 0
        var nameIndex = 0
        var retry: (pattern: Int, name: Int)?
        while nameIndex < name.count {
            if patternIndex < pattern.count, pattern[patternIndex] == "*" {
                retry = (patternIndex + 1, nameIndex)
                patternIndex += 1
            } else if patternIndex < pattern.count,
                pattern[patternIndex] == "?" || pattern[patternIndex] == name[nameIndex]
            {
                patternIndex += 1
                nameIndex += 1
            } else if let last = retry {
                patternIndex = last.pattern
                nameIndex = last.name + 1
                retry = (last.pattern, last.name + 1)
            } else {
                return false
            }
        }
        return pattern[patternIndex...].allSatisfy { $0 == "*" }
    }
}
