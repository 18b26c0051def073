// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

// Forgetting later: when a sale ends, when a page goes online. While the service runs; lost with the process.
extension Cache {
    /// Forgets a key after a while.
    ///
    /// Once for each key: of several that are scheduled, the earliest is done, and the others with it. It is about what is
    /// there then, not about what is there now.
    ///
    /// - Parameters:
    ///   - key: The key.
    ///   - delay: After how long, zero or more, on the cache's clock.
    /// - Returns: What takes it back.
    /// - Throws: ``CacheError`` with code ``CacheError/Code/invalidArgument`` when the time is below zero or
    ///   ``CacheLimits/maximumScheduled`` are scheduled already; nothing changed then.
    @discardableResult
    public func remove(_ key: Key, after delay: Duration) throws(CacheError) -> ScheduledInvalidation {
        try self.plan(.key(key), after: delay) { $0.remove(key) }
    }

    /// Forgets all that carries a tag after a while.
    ///
    /// - Parameters:
    ///   - tag: The tag.
    ///   - delay: After how long; see ``remove(_:after:)``.
    /// - Returns: What takes it back.
    /// - Throws: As ``remove(_:after:)``.
    @discardableResult
    public func invalidate(tag: String, after delay: Duration) throws(CacheError) -> ScheduledInvalidation {
        try self.plan(.tag(tag), after: delay) { $0.invalidate(tag: tag) }
    }

    /// Forgets everything after a while.
    ///
    /// - Parameter delay: After how long; see ``remove(_:after:)``.
    /// - Returns: What takes it back.
    /// - Throws: As ``remove(_:after:)``.
    @discardableResult
    public func invalidateAll(after delay: Duration) throws(CacheError) -> ScheduledInvalidation {
        try self.plan(.all, after: delay) { $0.invalidateAll() }
    }

    private func plan(
        _ scope: InvalidationPlans<Key>.Scope,
        after delay: Duration,
        _ action: @escaping @Sendable (Cache) -> Void
    ) throws(CacheError) -> ScheduledInvalidation {
        try self.plans.plan(scope, after: delay, in: self.service) { [weak self] in
            if let self { action(self) }
        }
    }
}

extension Cache where Key: CacheKey {
    /// Forgets all keys that start so after a while.
    ///
    /// - Parameters:
    ///   - prefix: Their start, compared by bytes.
    ///   - delay: After how long; see ``remove(_:after:)``.
    /// - Returns: What takes it back.
    /// - Throws: As ``remove(_:after:)``.
    @discardableResult
    public func invalidate(prefix: String, after delay: Duration) throws(CacheError) -> ScheduledInvalidation {
        try self.plan(.prefix(prefix), after: delay) { $0.invalidate(prefix: prefix) }
    }
}
