// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore

/// What a lock service does about requests that wait for each other in a circle.
///
/// Only a request whose owner keeps other locks meanwhile is looked at, and only once it has waited for the delay: an
/// acquire that is granted sooner costs nothing more, and neither does one of an owner that holds nothing. A look is one
/// call to the store; looks follow after twice the time each, at most every ``maximumPause``.
public enum DeadlockPolicy: Sendable, Hashable {
    /// One request of the circle gives up: its acquire throws ``LockError/Code/deadlock``, the others go on.
    ///
    /// It is the one with the lowest priority of those that keep a lock which another one waits for; among equals the
    /// one that has waited for the shortest time. Where the ages that a store tells do not agree (a cluster, a quorum,
    /// several stores), and nobody gives up, it is one that all choose alike from their third look on. What was found is read again before anybody is told.
    case detect(after: Duration)
    /// The service's observer is told, and nothing is ended: the requests wait on.
    case report(after: Duration)
    /// Nobody looks. Leases that are renewed and waits without a limit then last for ever in a deadlock.
    case off

    /// The longest time between two looks of one request.
    public static let maximumPause: Duration = .seconds(5)

    /// How long a request has to wait before it is looked at.
    package var delay: Duration? {
        switch self {
        case .detect(let delay), .report(let delay): delay
        case .off: nil
        }
    }
}

/// An owner that lives elsewhere, with what it holds there.
public struct InheritedOwner: Sendable, Hashable, Codable {
    /// The owner.
    public var owner: OwnerID
    /// The references of the grants that it holds, the innermost first.
    public var holding: [String]

    /// Makes an inheritance.
    ///
    /// - Parameters:
    ///   - owner: The owner.
    ///   - holding: The references of the grants that it holds, the innermost first.
    public init(owner: OwnerID, holding: [String]) {
        self.owner = owner
        self.holding = holding
    }
}
