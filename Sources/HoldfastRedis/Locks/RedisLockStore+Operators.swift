// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore

extension RedisLockStore {
    /// See ``LockStore/revoke(_:)``.
    ///
    /// One round trip. A foreign holder is named but cannot be reached.
    ///
    /// - Parameter resource: The resource.
    /// - Returns: Who was asked.
    /// - Throws: ``LockError``.
    public func revoke(_ resource: Resource) async throws -> RevokeReply {
        try await self.client.run(self.commands.revoke(resource))
    }

    /// See ``LockStore/forceRelease(_:)``.
    ///
    /// One round trip.
    ///
    /// - Parameter resource: The resource.
    /// - Returns: Who held it.
    /// - Throws: ``LockError``; whether it took effect is then unknown.
    public func forceRelease(_ resource: Resource) async throws -> [Holder] {
        try await self.client.run(self.commands.force(resource, floor: self.floor))
    }

    /// See ``LockStore/status(of:)``.
    ///
    /// One round trip. Foreign holders are shown too; at most 1,000 waiters are.
    ///
    /// - Parameter resource: The resource.
    /// - Returns: Its holders and waiters.
    /// - Throws: ``LockError``.
    public func status(of resource: Resource) async throws -> ResourceStatus {
        try await self.client.run(self.commands.statuses([resource]))[0]
    }

    /// See ``LockStore/survey(_:after:)``.
    ///
    /// Walks the server's keys in small steps, on a cluster one master after the other; a page may be empty though more
    /// follow. Locks that only ever had foreign
    /// holders cannot be told from other keys and are not listed; ``status(of:)`` shows them.
    ///
    /// - Parameters:
    ///   - pattern: Which resources.
    ///   - cursor: Where the page before ended.
    /// - Returns: A page, in no order.
    /// - Throws: ``LockError``.
    public func survey(_ pattern: ResourcePattern, after cursor: SurveyPage.Cursor?) async throws -> SurveyPage {
        // The number of a master, only on a cluster, and the place among its keys.
        let parts = (cursor?.rawValue ?? "0").split(separator: ":", omittingEmptySubsequences: false)
        let masters = try await self.masters()
        guard parts.count <= 2, let position = UInt64(parts[parts.count - 1]),
            let number = parts.count == 2 ? Int(parts[0]) : 0, number >= 0
        else { throw LockError(.invalidArgument, "the place to go on with a survey is not one of the redis store") }
        // Some may have gone since.
        guard number < masters.count else { return SurveyPage(resources: [], next: nil) }
        let (found, next) = try await self.client.scan(
            self.commands,
            pattern,
            from: position,
            on: .master(masters[number])
        )
        let statuses =
            found.isEmpty ? [] : try await self.perSlot(found, \.self) { self.commands.statuses($0) }
        let isLast = next == 0 && number + 1 == masters.count
        let following = next == 0 ? "\(number + 1):0" : masters.count == 1 ? "\(next)" : "\(number):\(next)"
        return SurveyPage(
            resources: statuses.filter { !$0.isFree },
            next: isLast ? nil : SurveyPage.Cursor(rawValue: following)
        )
    }
}
