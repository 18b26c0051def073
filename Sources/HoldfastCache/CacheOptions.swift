// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// How entries live and how they are loaded.
///
/// A cache has defaults; a call may change them for its key, and a loader for what it loads.
///
/// ```swift
/// let options = products.options.with { $0.staleIfError = .seconds(3600) }
/// let product = try await products.value(for: id, options: options) { try await database.product(id) }
/// ```
public struct CacheOptions: Sendable, Hashable {
    /// When an entry is loaded anew before it expires, off the path of whoever reads it.
    public enum RefreshAhead: Sendable, Hashable {
        /// Not before it expires.
        case never
        /// At the first read after this fraction of the time to live, above 0 and below 1.
        case after(fraction: Double)
        /// At a read that draws lots, the likelier the nearer the end and the longer a load takes; above 0, 1 is the
        /// optimum. Source: Vattani, Chierichetti and Lowenstein, "Optimal Probabilistic Cache Stampede Prevention", 2015.
        case probabilistic(beta: Double)
    }

    /// What becomes of a load when everybody who waited for it has left.
    public enum Abandonment: Sendable, Hashable {
        /// It is cancelled.
        case cancel
        /// It goes on, and its value is kept.
        case finish
    }

    /// Among whom one loads for all.
    public enum Coordination: Sendable, Hashable {
        /// The callers of this process.
        case process
        /// All processes that share the tier, by a lock of the service's `LockService`.
        case distributed
    }

    /// What to do when the lock service does not answer.
    public enum LockOutage: Sendable, Hashable {
        /// Load all the same: once in each process.
        case proceedLocally
        /// Give a stale value; load without lock when there is none.
        case serveStale
        /// Give a stale value; throw ``CacheError/Code/lockUnavailable`` when there is none.
        case fail
    }

    /// How long a value is fresh, or `nil` for as long as it is there.
    public var timeToLive: Duration?
    /// By which fraction a time to live is made longer or shorter at random, 0 to 0.5: entries of one moment then do not
    /// expire in one moment.
    public var jitter = 0.1
    /// How long after its last read an entry is kept in memory, or `nil` for no such limit.
    ///
    /// Of a shared cache that is the memory of each process: the tier keeps the entry until its time to live is over, and
    /// gives it to who asks again.
    public var idleTimeToLive: Duration?
    /// How long it is remembered that there is nothing (``NotFound``, or `nil` where the value is optional).
    ///
    /// `nil` for: as long as a value; zero for: not at all.
    public var negativeTimeToLive: Duration?
    /// How long after it expired a value is still given at once, while it is loaded anew.
    public var staleWhileRevalidate: Duration = .zero
    /// How long after it expired a value is still given when loading fails or takes too long.
    public var staleIfError: Duration = .zero
    /// How long a failure is remembered.
    ///
    /// No other load of the key begins before, give or take a quarter. 100 ms.
    public var errorBackoff: Duration = .milliseconds(100)
    /// How long a caller waits for a load while there is a stale value; `nil` for until the load ends.
    public var softDeadline: Duration?
    /// How long a load may take.
    ///
    /// Then its callers get a stale value or an error, and the next caller loads. 30 s.
    ///
    /// That is the deadline of whoever begins the load. Of those who joined it, one without a stale value who has more than
    /// a tenth of his own deadline left, counted from his call, goes on instead, as often as need be: he waits for the load
    /// that has begun since, or begins one, and leaves it when his time is over.
    public var hardDeadline: Duration = .seconds(30)
    /// When to load anew before the end.
    public var refreshAhead = RefreshAhead.never
    /// What becomes of a load that nobody waits for.
    public var abandonment = Abandonment.cancel
    /// Among whom one loads for all; of no meaning without a tier and locks.
    public var coordination = Coordination.distributed
    /// What to do when the lock service does not answer.
    public var lockOutage = LockOutage.proceedLocally
    /// What is said of entries, so that they can be invalidated together.
    ///
    /// Of two tags that are equal to Swift, such as `é` in one scalar and in two, a set has one; a shared tier goes by
    /// bytes. Write them one way.
    public var tags: Set<String> = []

    /// Makes options with the defaults.
    public init() {}

    /// These options with changes.
    ///
    /// - Parameter change: Makes them.
    /// - Returns: The changed options.
    public func with(_ change: (inout CacheOptions) -> Void) -> CacheOptions {
        var options = self
        change(&options)
        return options
    }

    /// Checks that the options can be kept, alone and together.
    ///
    /// - Throws: ``CacheError`` with code ``CacheError/Code/invalidArgument``.
    @usableFromInline
    func validate() throws(CacheError) {
        func refuse(_ sentence: String) -> CacheError { CacheError(.invalidArgument, sentence) }
        if let life = self.timeToLive, life <= .zero { throw refuse("timeToLive must be above zero, or nil for ever") }
        if let idle = self.idleTimeToLive, idle <= .zero { throw refuse("idleTimeToLive must be above zero, or nil") }
        if let negative = self.negativeTimeToLive, negative < .zero {
            throw refuse("negativeTimeToLive must not be below zero")
        }
        guard (0...0.5).contains(self.jitter) else { throw refuse("jitter must be 0 to 0.5") }
        guard self.staleWhileRevalidate >= .zero, self.staleIfError >= .zero, self.errorBackoff >= .zero else {
            throw refuse("staleWhileRevalidate, staleIfError and errorBackoff must not be below zero")
        }
        guard self.hardDeadline > .zero, self.hardDeadline <= CacheLimits.longestLoad else {
            throw refuse("hardDeadline must be above zero and at most an hour")
        }
        if let soft = self.softDeadline, soft < .zero || soft > self.hardDeadline {
            throw refuse("softDeadline must be from zero to hardDeadline")
        }
        switch self.refreshAhead {
        case .never: break
        case .after(let fraction):
            guard fraction > 0, fraction < 1 else {
                throw refuse("refreshAhead must be after a fraction above 0 and below 1")
            }
        case .probabilistic(let beta):
            guard beta > 0, beta <= 100 else { throw refuse("refreshAhead must have a beta above 0 and at most 100") }
        }
        if self.timeToLive == nil {
            guard self.refreshAhead == .never, self.staleWhileRevalidate == .zero, self.staleIfError == .zero else {
                throw refuse("what never expires is never stale: set timeToLive for refreshAhead and stale values")
            }
        }
        try Self.check(self.tags)
    }

    /// Checks tags.
    static func check(_ tags: some Collection<String>) throws(CacheError) {
        guard tags.count <= CacheLimits.maximumTags else {
            throw CacheError(.invalidArgument, "an entry has at most \(CacheLimits.maximumTags) tags")
        }
        for tag in tags where tag.isEmpty || tag.utf8.count > CacheLimits.maximumTag {
            throw CacheError(.invalidArgument, "a tag has 1 to \(CacheLimits.maximumTag) bytes")
        }
    }
}
