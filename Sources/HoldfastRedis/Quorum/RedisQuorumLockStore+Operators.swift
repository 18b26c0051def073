// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore

extension RedisQuorumLockStore {
    /// See ``LockStore/revoke(_:)``.
    ///
    /// One round trip to all servers at once.
    ///
    /// - Parameter resource: The resource.
    /// - Returns: Who was asked: those who hold on a majority.
    /// - Throws: ``LockError`` when no majority answers.
    public func revoke(_ resource: Resource) async throws -> RevokeReply {
        let answers = try await self.askAll(self.nodes[0].commands.revoke(resource)).compactMap(\.self)
        return RevokeReply(
            asked: StatusMerge.holders(answers.map(\.asked), needed: self.needed),
            reached: answers.map(\.reached).max() ?? 0
        )
    }

    /// See ``LockStore/forceRelease(_:)``.
    ///
    /// One round trip to all servers at once. A server that does not answer keeps what it has until the lease is over; a
    /// majority decides without it.
    ///
    /// - Parameter resource: The resource.
    /// - Returns: Who held it on a majority.
    /// - Throws: ``LockError`` when no majority answers; whether it took effect is then unknown.
    public func forceRelease(_ resource: Resource) async throws -> [Holder] {
        let answers = try await self.askAll(self.nodes[0].commands.force(resource))
        return StatusMerge.holders(answers.compactMap(\.self), needed: self.needed)
    }

    /// See ``LockStore/status(of:)``.
    ///
    /// One round trip to all servers at once. Holders are those of a majority, foreign ones too; waiters are those of any
    /// server.
    ///
    /// - Parameter resource: The resource.
    /// - Returns: Its holders and waiters.
    /// - Throws: ``LockError`` when no majority answers.
    public func status(of resource: Resource) async throws -> ResourceStatus {
        try await self.statuses([resource])[0]
    }

    /// See ``LockStore/survey(_:after:)``.
    ///
    /// Walks the keys of one server after the other in small steps, and shows what a majority says of each lock; a page may
    /// be empty though more follow.
    ///
    /// - Parameters:
    ///   - pattern: Which resources.
    ///   - cursor: Where the page before ended.
    /// - Returns: A page, in no order.
    /// - Throws: ``LockError``.
    public func survey(_ pattern: ResourcePattern, after cursor: SurveyPage.Cursor?) async throws -> SurveyPage {
        let parts = (cursor?.rawValue ?? "0:0").split(separator: ":").map { UInt64($0) }
        guard parts.count == 2, let server = parts[0], let position = parts[1], server < UInt64(self.nodes.count) else {
            throw LockError(.invalidArgument, "the place to go on with a survey is not one of the redis quorum store")
        }
        let number = Int(server)
        let (found, next) = try await self.scan(number, pattern, from: position)
        let answers = found.isEmpty ? [] : try await self.askAll(self.nodes[0].commands.statuses(found))
        var resources: [ResourceStatus] = []
        for (index, resource) in found.enumerated() {
            let known = answers.map { $0?[index] }
            // Each is shown once: by the first server that knows it.
            let isKnownBefore = known[..<number].contains { $0?.isFree == false }
            let status = StatusMerge.status(of: resource, known.compactMap(\.self), of: self.nodes.count)
            if !isKnownBefore, !status.isFree { resources.append(status) }
        }
        let following = next == 0 ? "\(number + 1):0" : "\(number):\(next)"
        let isLast = next == 0 && number + 1 == self.nodes.count
        return SurveyPage(resources: resources, next: isLast ? nil : SurveyPage.Cursor(rawValue: following))
    }

    /// Walks the keys of one server for a while.
    private func scan(
        _ number: Int,
        _ pattern: ResourcePattern,
        from position: UInt64
    ) async throws(LockError) -> (found: [Resource], next: UInt64) {
        do {
            return try await self.nodes[number].client.scan(self.nodes[number].commands, pattern, from: position)
        } catch  where error.code == .storeUnavailable {
            // What a majority knows, some server that answers knows too.
            return ([], 0)
        }
    }

    /// What a majority says of resources.
    func statuses(_ resources: [Resource]) async throws -> [ResourceStatus] {
        guard !resources.isEmpty else { return [] }
        let answers = try await self.askAll(self.nodes[0].commands.statuses(resources)).compactMap(\.self)
        return resources.enumerated().map { index, resource in
            StatusMerge.status(of: resource, answers.map { $0[index] }, of: self.nodes.count)
        }
    }

    /// Puts a command to every server, and waits for all that are up.
    ///
    /// - Returns: For each server its answer, `nil` where there is none.
    /// - Throws: ``LockError`` when no majority answers.
    func askAll<Reply: Sendable>(_ command: LockCommand<Reply>) async throws -> [Reply?] {
        let needed = self.needed
        let outcome = await Canvass.run(self.nodes.count) { number, done in
            self.nodes[number].run(command, done)
        } decide: { (answers: [Result<Reply, LockError>?]) -> Result<[Reply?], LockError>? in
            guard !answers.contains(where: { $0 == nil }) else { return nil }
            let replies = answers.map { try? $0?.get() }
            let answered = replies.count { $0 != nil }
            guard answered >= needed else {
                return .failure(Self.silence(answers, answered: answered, needed: needed))
            }
            return .success(replies)
        }
        return try outcome.get()
    }
}
