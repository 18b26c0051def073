// SPDX-License-Identifier: Apache-2.0

/// What went wrong with a lock.
///
/// Loss, timeout, deadlock and cancellation are four different outcomes: the first three are codes here, the last is
/// Swift's own `CancellationError`, never wrapped. Messages name resources, owners and limits and say what to do; they
/// never hold a password or the secret part of a grant.
public struct LockError: Error, Sendable {
    /// The kind of an error.
    ///
    /// New kinds may come; keep a default branch.
    public struct Code: Sendable, Hashable, CustomStringConvertible {
        /// The name of the code, as it is shown and counted.
        public let description: String

        /// The lock was not granted within the wait limit.
        ///
        /// Nothing is held and the place in the queue is given up.
        public static let timeout = Code(description: "timeout")
        /// The lock was held and is not any more, or may not be: its deadline came or the store said so.
        public static let lost = Code(description: "lost")
        /// Waiting on would have been waiting for oneself.
        ///
        /// Nothing is held and the place in the queue is given up.
        public static let deadlock = Code(description: "deadlock")
        /// Another holder is already waiting to become exclusive.
        ///
        /// The lock held before is still held.
        public static let upgradeConflict = Code(description: "upgradeConflict")
        /// The name breaks a rule of ``Resource``.
        ///
        /// Nothing was sent.
        public static let invalidResource = Code(description: "invalidResource")
        /// A setting or an argument is out of its range.
        ///
        /// Nothing was sent.
        public static let invalidArgument = Code(description: "invalidArgument")
        /// The store cannot do this; its ``StoreCapabilities`` say so.
        ///
        /// Nothing was sent.
        public static let unsupported = Code(description: "unsupported")
        /// The store did not answer, or not in time.
        ///
        /// Whether the call took effect is not known unless stated.
        public static let storeUnavailable = Code(description: "storeUnavailable")
        /// The store answered and refused: no permission, wrong password, read-only, out of memory.
        ///
        /// Trying again as it is will not help.
        public static let storeRefused = Code(description: "storeRefused")
        /// What the store holds cannot be understood: a corrupt file, another schema version, foreign data.
        public static let storeCorrupted = Code(description: "storeCorrupted")
        /// The service's `run()` is not running, or not any more.
        ///
        /// Nothing was sent.
        public static let notRunning = Code(description: "notRunning")
        /// A limit of the service itself was reached, such as the number of waiters.
        ///
        /// Nothing is held.
        public static let limitReached = Code(description: "limitReached")
        /// A fenced store refused a write because it has seen a newer token.
        ///
        /// The value is unchanged.
        public static let fenced = Code(description: "fenced")
    }

    /// The kind of the error.
    public let code: Code
    /// One sentence for a person, without secrets.
    public let message: String
    /// Who stood in the way, as far as it is known.
    ///
    /// Empty for most codes.
    public let blockers: [Holder]
    /// Who waits for whom, when the code is ``Code/deadlock``.
    public let deadlock: Deadlock?
    /// The error of the library below, when there is one.
    public let underlying: (any Error)?

    /// Makes an error.
    ///
    /// - Parameters:
    ///   - code: The kind.
    ///   - message: One sentence for a person, without secrets and without a final stop.
    ///   - blockers: Who stood in the way.
    ///   - deadlock: Who waits for whom.
    ///   - underlying: The error of the library below.
    public init(
        _ code: Code,
        _ message: String,
        blockers: [Holder] = [],
        deadlock: Deadlock? = nil,
        underlying: (any Error)? = nil
    ) {
        self.code = code
        self.message = message
        self.blockers = blockers
        self.deadlock = deadlock
        self.underlying = underlying
    }
}

extension LockError: CustomStringConvertible {
    /// The code and the message.
    public var description: String { "\(self.code): \(self.message)" }
}
