// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore
import Synchronization

extension RedisQuorumLockStore {
    /// What one server says to a conversion.
    private enum Vote: Sendable {
        case converted(FencingToken, counts: Bool)
        case blocked(AcquireReply.Waiting, waits: Bool)
        case lost
        /// It was asked for another change since.
        case outdated
        case silent(LockError)
    }

    private enum Outcome: Sendable {
        case converted([Int: FencingToken])
        case blocked(AcquireReply.Waiting, waits: Bool)
        case lost
        case outdated
        case failed(LockError)
    }

    /// See ``LockStore/convert(_:)``.
    ///
    /// All servers at once, one round trip as a rule; a second one when the new tokens differ. A wait to become exclusive
    /// is over when a majority says so; servers that do so earlier keep others out until then. A conversion that does
    /// not wait and wins no majority is taken back.
    ///
    /// - Parameter conversion: The grant and its new mode.
    /// - Returns: What became of it.
    /// - Throws: ``LockError``; the mode is then unknown unless the message says otherwise.
    public func convert(_ conversion: Conversion) async throws -> ConvertReply {
        if conversion.mode.isPermit { throw Self.noPermits }
        var outcome = await self.ask(conversion)
        for _ in 1..<ConversionCount.mostAttempts {
            guard case .outdated = outcome else { break }
            outcome = await self.ask(conversion)
        }
        let id = conversion.key.id
        switch outcome {
        case .lost:
            _ = self.book.withLock { $0.remove(id) }
            return .lost
        case .failed(let error): throw error
        case .outdated: throw ConversionCount.conflict(conversion.key.resource)
        case .blocked(let place, waits: true): return .waiting(place)
        case .blocked(let place, waits: false): return .busy(blockers: place.blockers)
        case .converted(let given):
            // A downgrade, or the same asked again, keeps what a majority knows: a server whose answer came too late to
            // count then may have a higher one of its own by now.
            let kept = self.book.withLock { book in
                book[id].flatMap { conversion.mode == .exclusive && $0.request.mode != .exclusive ? nil : $0.token }
            }
            guard let token = kept ?? given.values.max() else { throw ScriptReplies.unreadable }
            let behind = given.filter { $0.value < token }.keys.sorted()
            if !behind.isEmpty, given.count - behind.count < self.needed,
                await !self.lift(conversion.key, to: token, on: behind, knowing: given.count - behind.count)
            {
                throw LockError(
                    .storeUnavailable,
                    "a majority of the Redis servers changed the mode, and stopped answering before they knew its token"
                )
            }
            self.book.withLock { book in
                book.update(id) { entry in
                    entry.request.mode = conversion.mode
                    entry.token = token
                    entry.nodes.formUnion(given.keys)
                }
            }
            return .converted(token)
        }
    }

    private func ask(_ conversion: Conversion) async -> Outcome {
        let (total, needed, waitsForAll) = (self.nodes.count, self.needed, self.configuration.waitsForAll)
        let before = self.book.withLock { $0[conversion.key.id] }?.request.mode
        let change = self.conversions.next()
        return await Canvass.run(total) { number, done in
            self.vote(conversion, change, on: number, done)
        } decide: { votes -> Outcome? in
            if waitsForAll, votes.contains(where: { $0 == nil }) { return nil }
            return Self.outcome(of: self.weighed(votes), needed: needed)
        } afterwards: { number, vote, outcome in
            switch (outcome, vote) {
            case (.converted, .lost): self.heal(conversion.key.id, on: number)
            case (.blocked(_, waits: false), .converted), (.blocked(_, waits: false), .silent):
                guard let before else { return }
                self.nodes[number].convert(Conversion(conversion.key, to: before), self.conversions.next()) { _ in }
            default: break
            }
        }
    }

    private func vote(
        _ conversion: Conversion,
        _ change: Int64,
        on number: Int,
        _ done: @escaping @Sendable (Vote) -> Void
    ) {
        let node = self.nodes[number]
        node.convert(conversion, change) { outcome in
            switch outcome {
            case .success(.outdated(let last)):
                self.conversions.raise(to: last)
                done(.outdated)
            case .success(.reply(.converted(let token))):
                // Weighed when it may decide.
                done(.converted(token, counts: false))
            case .success(.reply(.busy(let blockers))):
                let place = AcquireReply.Waiting(position: 0, checkAfter: .zero, blockers: blockers)
                done(.blocked(place, waits: false))
            case .success(.reply(.waiting(let place))): done(.blocked(place, waits: true))
            case .success(.reply(.lost)): done(.lost)
            case .failure(let error): done(.silent(error))
            }
        }
    }

    /// Votes with what is known by now of their servers' clocks and ages, as for an acquire.
    private func weighed(_ votes: [Vote?]) -> [Vote?] {
        let ages = self.ages { if case .converted = votes[$0] { true } else { false } }
        return votes.enumerated().map { number, vote in
            guard case .converted(let token, _) = vote else { return vote }
            let counts = self.counts(number, ages)
            return self.strayed(number, ages).map { .silent($0) } ?? .converted(token, counts: counts)
        }
    }

    private static func outcome(of votes: [Vote?], needed: Int) -> Outcome? {
        var given: [Int: FencingToken] = [:]
        var places: [(place: AcquireReply.Waiting, waits: Bool)] = []
        var (counting, lost, missing, outdated) = (0, 0, 0, 0)
        var silence: LockError?
        for (number, vote) in votes.enumerated() {
            switch vote {
            case nil: missing += 1
            case .converted(let token, let counts):
                given[number] = token
                if counts { counting += 1 }
            case .blocked(let place, let waits): places.append((place, waits))
            case .lost: lost += 1
            case .outdated: outdated += 1
            case .silent(let error): silence = silence ?? error
            }
        }
        if counting >= needed { return .converted(given) }
        if lost > votes.count - needed { return .lost }
        if outdated > votes.count - needed { return .outdated }
        // Those that are missing cannot make it a majority; that most can say is all that has to be known.
        let isBlocked = counting + missing < needed && !places.isEmpty && given.count + places.count >= needed
        guard missing == 0 || isBlocked else { return nil }
        guard given.count + places.count >= needed, !places.isEmpty else {
            return .failed(
                LockError(
                    .storeUnavailable,
                    "\(given.count + places.count + lost) of \(votes.count) Redis servers can say whether the mode may "
                        + "change, and \(needed) are needed\(silence.map { "; \($0.message)" } ?? "")"
                )
            )
        }
        let holders = StatusMerge.holders(places.map(\.place.blockers), needed: 1)
        return .blocked(
            AcquireReply.Waiting(
                position: 0,
                checkAfter: places.map(\.place.checkAfter).min() ?? .zero,
                blockers: holders
            ),
            waits: places.contains { $0.waits }
        )
    }

    /// See ``LockStore/waits(of:for:)``.
    ///
    /// Two round trips to all servers at once: what each remembers, and what a majority says of that.
    ///
    /// - Parameters:
    ///   - owner: The owner.
    ///   - resource: One that it waits for.
    /// - Returns: The resources, at most ``Limits/maximumWaitGraph``.
    /// - Throws: ``LockError``.
    public func waits(of owner: OwnerID, for resource: Resource) async throws -> [ResourceStatus] {
        let answers = try await self.askAll(self.nodes[0].commands.waits(of: owner, for: resource))
        let found = Set(answers.compactMap(\.self).joined().map(\.resource)).sorted()
        return try await self.statuses(Array(found.prefix(Limits.maximumWaitGraph)))
    }
}
