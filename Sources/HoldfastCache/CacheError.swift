// SPDX-License-Identifier: Apache-2.0

/// What went wrong in a cache.
///
/// Errors of loaders and writers reach their callers as they are; `CancellationError` stays itself. Messages name keys only
/// where the caller gave them, and never values or credentials.
public struct CacheError: Error, Sendable {
    /// What kind of error; never changes its meaning.
    public struct Code: Sendable, Hashable, CustomStringConvertible {
        /// The code's name.
        public let description: String

        /// A loader asked, directly or through others, for the key that it loads.
        public static let recursive = Code(description: "recursive")
        /// A loader did not end in time, and there was no stale value to give.
        public static let deadline = Code(description: "deadline")
        /// The lock service does not work, and the options say to fail then.
        public static let lockUnavailable = Code(description: "lockUnavailable")
        /// Too many loaders are under way, or were given up and still run.
        public static let bulkheadFull = Code(description: "bulkheadFull")
        /// A shared tier or the bus does not work, and the operation needs it.
        public static let tierUnavailable = Code(description: "tierUnavailable")
        /// A shared tier refused, for a reason that trying again does not change.
        public static let tierRefused = Code(description: "tierRefused")
        /// A key, value, tag or option is out of its range; nothing was done.
        public static let invalidArgument = Code(description: "invalidArgument")
        /// Bytes of a shared tier that are not an entry of ours.
        public static let undecodable = Code(description: "undecodable")
        /// The cache service is not running.
        public static let notRunning = Code(description: "notRunning")
        /// Somebody else changed the entry each time.
        public static let conflict = Code(description: "conflict")
        /// A writer's queue or journal takes no more.
        public static let writerFull = Code(description: "writerFull")
        /// A journal or another file cannot be used.
        public static let storage = Code(description: "storage")
    }

    /// What kind of error.
    public let code: Code
    /// A sentence for people.
    public let message: String
    /// What caused it.
    public let underlying: (any Error)?

    /// Makes an error.
    public init(_ code: Code, _ message: String, underlying: (any Error)? = nil) {
        self.code = code
        self.message = message
        self.underlying = underlying
    }
}

extension CacheError: CustomStringConvertible {
    /// The code and the sentence.
    public var description: String { "\(self.code): \(self.message)" }
}

/// What a loader throws when there is nothing to load: remembered for ``CacheOptions/negativeTimeToLive``.
///
/// Callers get it too, from the loader and from the memory of it alike.
public struct NotFound: Error, Sendable, Hashable, CustomStringConvertible {
    /// Makes one.
    public init() {}

    /// A sentence for people.
    public var description: String { "there is no such entry" }
}
