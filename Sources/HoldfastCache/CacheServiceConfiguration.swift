// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// How a cache service works.
public struct CacheServiceConfiguration: Sendable {
    /// How many loads may be under way at once, over all caches; more fail with ``CacheError/Code/bulkheadFull`` or get a
    /// stale value.
    ///
    /// 4096 by default: a source that slows down should not take the process' memory too.
    public var maximumLoads = 4096
    /// How many loaders that were given up may still run, in each cache.
    ///
    /// A loader that does not heed cancellation cannot be stopped. One counts when its hard deadline is over, or a second
    /// after the last of its callers left; one of many keys is one. 64 by default.
    public var maximumAbandoned = 64
    /// The same for one key.
    ///
    /// 2 by default: one more try beside one that hangs.
    public var maximumAbandonedPerKey = 2
    /// How long a caller waits for ``CacheService/run()`` to start.
    ///
    /// Then it gets ``CacheError/Code/notRunning``. 10 s by default: services of a group start in any order.
    public var startupLimit: Duration = .seconds(10)
    /// How long a graceful shutdown waits for loads and writes that are under way.
    ///
    /// 10 s by default.
    public var drainLimit: Duration = .seconds(10)
    /// How often calls of the shared tier are repeated.
    public var tierRetries = RetryPolicy()
    /// How often expired entries are removed that nobody reads.
    ///
    /// 1 s by default.
    public var sweepInterval: Duration = .seconds(1)
    /// How often an observer gets a report; give or take ``sweepInterval``.
    ///
    /// 10 s by default.
    public var reportInterval: Duration = .seconds(10)

    /// Makes a configuration with the defaults.
    public init() {}

    /// Checks the numbers.
    ///
    /// - Throws: ``CacheError`` with code ``CacheError/Code/invalidArgument``.
    func validate() throws(CacheError) {
        guard self.maximumLoads > 0, self.maximumAbandoned > 0, self.maximumAbandonedPerKey > 0 else {
            throw CacheError(.invalidArgument, "the limits for loads must be above zero")
        }
        let limits = Duration.zero...Duration.seconds(24 * 60 * 60)
        guard limits.contains(self.startupLimit), limits.contains(self.drainLimit) else {
            throw CacheError(.invalidArgument, "the limits for start and drain must be from zero to a day")
        }
        guard self.sweepInterval >= .milliseconds(10), self.sweepInterval <= .seconds(60 * 60) else {
            throw CacheError(.invalidArgument, "sweepInterval must be from 10 ms to an hour")
        }
        try self.tierRetries.validate()
        guard self.reportInterval > .zero, self.reportInterval <= .seconds(24 * 60 * 60) else {
            throw CacheError(.invalidArgument, "reportInterval must be above zero and at most a day")
        }
    }
}
