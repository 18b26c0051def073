// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import Synchronization

// Forgetting later, everywhere. While this process runs the service; lost with it, whatever others are there.
extension SharedCache {
    /// Between attempts at a tier that does not work.
    private static var pauses: RetrySchedule { RetrySchedule(base: .milliseconds(100), cap: .seconds(5)) }
    /// How long the tier is tried: longer outages are what operators hear of, and times to live end.
    private static var longestAttempt: Duration { .seconds(60) }

    /// Forgets a key after a while, everywhere.
    ///
    /// Once for each key: of several that this process scheduled, the earliest is done, and the others with it. When the tier
    /// does not work then, this process forgets the key at once, and the tier is tried for a minute;
    /// ``CacheStatistics/invalidationFailures`` and an event say when that was in vain.
    ///
    /// - Parameters:
    ///   - key: The key.
    ///   - delay: After how long, zero or more, on the cache's clock.
    /// - Returns: What takes it back.
    /// - Throws: ``CacheError`` with code ``CacheError/Code/invalidArgument`` when the time is below zero or
    ///   ``CacheLimits/maximumScheduled`` are scheduled already; nothing changed then.
    @discardableResult
    public func remove(_ key: Key, after delay: Duration) throws(CacheError) -> ScheduledInvalidation {
        try self.plan(.key(key), after: delay) { try await $0.remove(key) }
    }

    /// Forgets all that carries a tag after a while, everywhere.
    ///
    /// - Parameters:
    ///   - tag: The tag.
    ///   - delay: After how long; see ``remove(_:after:)``.
    /// - Returns: What takes it back.
    /// - Throws: As ``remove(_:after:)``.
    @discardableResult
    public func invalidate(tag: String, after delay: Duration) throws(CacheError) -> ScheduledInvalidation {
        try self.plan(.tag(tag), after: delay) { try await $0.invalidate(tag: tag) }
    }

    /// Forgets all keys that start so after a while, everywhere.
    ///
    /// - Parameters:
    ///   - prefix: Their start, compared by bytes.
    ///   - delay: After how long; see ``remove(_:after:)``.
    /// - Returns: What takes it back.
    /// - Throws: As ``remove(_:after:)``.
    @discardableResult
    public func invalidate(prefix: String, after delay: Duration) throws(CacheError) -> ScheduledInvalidation {
        try self.plan(.prefix(prefix), after: delay) { try await $0.invalidate(prefix: prefix) }
    }

    /// Forgets everything after a while, everywhere.
    ///
    /// - Parameter delay: After how long; see ``remove(_:after:)``.
    /// - Returns: What takes it back.
    /// - Throws: As ``remove(_:after:)``.
    @discardableResult
    public func invalidateAll(after delay: Duration) throws(CacheError) -> ScheduledInvalidation {
        try self.plan(.all, after: delay) { try await $0.invalidateAll() }
    }

    private func plan(
        _ scope: InvalidationPlans<Key>.Scope,
        after delay: Duration,
        _ action: @escaping @Sendable (SharedCache) async throws -> Void
    ) throws(CacheError) -> ScheduledInvalidation {
        try self.memory.plans.plan(scope, after: delay, in: self.memory.service) { await self.insist(action) }
    }

    private func insist(_ action: (SharedCache) async throws -> Void) async {
        let service = self.memory.service
        let end = service.clock.now.after(Self.longestAttempt)
        var pauses = Self.pauses
        var generator = SystemRandomNumberGenerator()
        while !Task.isCancelled {
            do {
                return try await action(self)
            } catch let error where service.clock.now >= end {
                return self.memory.invalidationFailed(error)
            } catch {
                try? await service.clock.sleeper.sleep(for: pauses.next(using: &generator))
            }
        }
    }
}
