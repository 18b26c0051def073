// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore

extension RedisLockStore {
    /// How many times `SCAN` is asked for one page at most, so that a page of few locks among many keys ends.
    private static var scansPerPage: Int { 16 }
    /// How many keys one `SCAN` looks at: about half a millisecond of the server's time.
    private static var keysPerScan: Int { 500 }

    /// See ``LockStore/revoke(_:)``.
    ///
    /// One round trip. A foreign holder is named but cannot be reached.
    ///
    /// - Parameter resource: The resource.
    /// - Returns: Who was asked.
    /// - Throws: ``LockError``.
    public func revoke(_ resource: Resource) async throws -> RevokeReply {
        let parts = try ScriptReplies.elements(try await self.run(LockScripts.revoke, [resource]), atLeast: 1)
        let reached = try ScriptReplies.number(parts[0])
        return RevokeReply(asked: try ScriptReplies.holders(parts[1...]), reached: reached > 0 ? 1 : 0)
    }

    /// See ``LockStore/forceRelease(_:)``.
    ///
    /// One round trip.
    ///
    /// - Parameter resource: The resource.
    /// - Returns: Who held it.
    /// - Throws: ``LockError``; whether it took effect is then unknown.
    public func forceRelease(_ resource: Resource) async throws -> [Holder] {
        // Sent twice it could throw out the next holder as well.
        let reply = try await self.run(LockScripts.force, [resource], isRepeatable: false)
        return try ScriptReplies.holders(try ScriptReplies.elements(reply)[...])
    }

    /// See ``LockStore/status(of:)``.
    ///
    /// One round trip. Foreign holders are shown too; at most 1,000 waiters are.
    ///
    /// - Parameter resource: The resource.
    /// - Returns: Its holders and waiters.
    /// - Throws: ``LockError``.
    public func status(of resource: Resource) async throws -> ResourceStatus {
        let statuses = try await self.statuses([resource])
        return statuses[0]
    }

    /// See ``LockStore/survey(_:after:)``.
    ///
    /// Walks the server's keys in small steps; a page may be empty though more follow. Locks that only ever had foreign
    /// holders cannot be told from other keys and are not listed; ``status(of:)`` shows them.
    ///
    /// - Parameters:
    ///   - pattern: Which resources.
    ///   - cursor: Where the page before ended.
    /// - Returns: A page, in no order.
    /// - Throws: ``LockError``.
    public func survey(_ pattern: ResourcePattern, after cursor: SurveyPage.Cursor?) async throws -> SurveyPage {
        guard var position = UInt64(cursor?.rawValue ?? "0") else {
            throw LockError(.invalidArgument, "the place to go on with a survey is not one of the redis store")
        }
        let glob = LockKeys.recordGlob(pattern, prefix: self.configuration.prefix)
        var found: Set<Resource> = []
        for _ in 0..<Self.scansPerPage {
            let command = ["SCAN", String(position), "MATCH", glob, "COUNT", String(Self.keysPerScan)]
            let parts = try ScriptReplies.elements(try await self.client.run(command), atLeast: 2)
            guard let next = parts[0].text.flatMap({ UInt64($0) }) else { throw ScriptReplies.unreadable }
            position = next
            for key in try ScriptReplies.elements(parts[1]) {
                let resource = key.text.flatMap { LockKeys.resource(ofRecord: $0, prefix: self.configuration.prefix) }
                if let resource, pattern.matches(resource) { found.insert(resource) }
            }
            if position == 0 || found.count >= Limits.maximumSurveyPage / 2 { break }
        }
        let statuses = found.isEmpty ? [] : try await self.statuses(found.sorted())
        return SurveyPage(
            resources: statuses.filter { !$0.isFree },
            next: position == 0 ? nil : SurveyPage.Cursor(rawValue: String(position))
        )
    }

    private func statuses(_ resources: [Resource]) async throws -> [ResourceStatus] {
        let replies = try ScriptReplies.elements(
            try await self.run(LockScripts.status, resources),
            atLeast: resources.count
        )
        return try zip(resources, replies).map { resource, reply in try ScriptReplies.status(reply, of: resource) }
    }

    private func run(
        _ script: LockScript,
        _ resources: [Resource],
        isRepeatable: Bool = true
    ) async throws -> RedisReply {
        try await self.client.send(isRepeatable: isRepeatable) { encoder, isKnown in
            script.begin(&encoder, groups: resources.count, isKnown: isKnown)
            for resource in resources { LockKeys(self.configuration.prefix, resource).encode(&encoder) }
        }.reply
    }
}
