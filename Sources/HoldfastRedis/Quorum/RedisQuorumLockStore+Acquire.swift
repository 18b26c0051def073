// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore
import Synchronization

extension RedisQuorumLockStore {
    private typealias Vote = AcquireTally.Vote

    /// See ``LockStore/acquire(_:)``.
    ///
    /// All servers at once, one round trip as a rule; a second one when their tokens differ. Comes back when a majority
    /// has decided; what the others say is seen to in the background. A try that wins no majority is given up on every
    /// server, also on those that did not answer, and keeps its places in the queues.
    ///
    /// - Parameter request: The request; ``LockRequest/Fairness/barging`` is all that there is.
    /// - Returns: How it stands.
    /// - Throws: ``LockError``; with ``LockError/Code/storeUnavailable`` when no majority answers. What a minority gave
    ///   is given up then, or ends with its lease.
    public func acquire(_ request: LockRequest) async throws -> AcquireReply {
        try self.check(request)
        var request = request
        request.fairness = .barging
        let sent = ContinuousClock.now
        let known = self.book.withLock { book in
            _ = book.takeHint(request.id)
            return book[request.id].flatMap { $0.validUntil > sent ? $0 : nil }
        }
        let floor = self.clocks.withLock { $0.floor(at: sent, within: self.configuration.restartGuard) }
        let outcome = await self.ask(request, known, floor: floor)
        switch outcome {
        case .granted(let given):
            let token = try await self.agree(request, given, known?.token)
            let end = sent.advanced(by: request.lease)
            self.clocks.withLock { $0.took(sent.duration(to: .now)) }
            let held = self.book.withLock { $0.enter(request, token, on: Set(given.keys), at: sent, until: end) }
            return .granted(held)
        case .finished:
            self.book.withLock { $0.forget(request.id) }
            return .finished
        case .failed(let error): throw error
        case .blocked(let place, let isSplit):
            guard request.contention == .queue else { return .busy(blockers: place.blockers) }
            guard isSplit else { return .waiting(place) }
            // Several asked at once and none won: whoever comes back first does.
            let tries = self.book.withLock { $0.split(request.id) }
            var place = place
            place.checkAfter = .microseconds(Int64.random(in: 500...(2000 << min(tries, Self.longestBackoff))))
            return .waiting(place)
        }
    }

    /// How often the pause after a split doubles: to 64 ms.
    private static let longestBackoff = 5

    private func check(_ request: LockRequest) throws(LockError) {
        if request.mode.isPermit { throw Self.noPermits }
        // A rest is forgotten in a restart as a lease is.
        try self.check(lease: request.lease + request.lockDelay)
        try self.capabilities.check(request)
    }

    /// Refuses what would outlast the time for which a restarted server is kept out.
    func check(lease: Duration) throws(LockError) {
        guard let time = self.configuration.restartGuard, lease > time else { return }
        throw LockError(
            .invalidArgument,
            """
            a lease (with its lock delay) of \(lease.brief) is longer than a restarted server is kept out, \(time.brief); \
            raise guard= in the store's URL
            """
        )
    }

    static let noPermits = LockError(
        .unsupported,
        """
        a majority of Redis servers has no semaphores: n permits on each server let more than n in, since not everybody \
        meets on the same servers; use one server, Sentinel, SQLite or ZooKeeper
        """
    )

    // MARK: - Voting

    private func ask(
        _ request: LockRequest,
        _ known: QuorumBook.Entry?,
        floor: Int64
    ) async -> AcquireTally.Outcome {
        let waitsForAll = self.configuration.waitsForAll
        // As it is before anybody is asked: answers may decide, and mark others, while the rest is still to be asked.
        let (undoing, attempt) = self.book.withLock { ($0.unready(request.id), $0.next(request)) }
        return await Canvass.run(self.nodes.count) { (number, done: @escaping @Sendable (AcquireTally.Vote) -> Void) in
            guard !undoing.contains(number) else { return done(.undoing) }
            self.vote(request, attempt, on: number, floor: floor, done)
        } decide: { votes -> AcquireTally.Outcome? in
            if waitsForAll, votes.contains(where: { $0 == nil }) { return nil }
            return AcquireTally.outcome(of: self.weighed(votes))
        } onDecision: { votes, outcome in
            // What is held goes on being held when a majority is out of reach for a moment.
            guard known == nil, !outcome.isGranted else { return }
            let open = AcquireTally.mayHold(votes, unasked: undoing)
            self.book.withLock { $0.undo(request.id, on: open) }
        } afterwards: { number, vote, outcome in
            // Whoever has the lock, or never will, waits for nobody there.
            if outcome.isOver { self.nodes[number].forgetForeign(request.key) }
            if case .silent = vote { self.book.withLock { $0.doubt(request.id, on: number) } }
            if outcome.isGranted {
                // Late, but another server that stands for the grant.
                let ages = self.ages { $0 == number }
                guard case .granted = self.weighed(vote, of: number, ages) else { return }
                self.book.withLock { $0.update(request.id) { $0.nodes.insert(number) } }
            } else if known == nil {
                switch vote {
                case .granted, .strayed, .silent: self.giveUp(request, attempt, on: number)
                // It was marked if it had not answered yet.
                case .blocked, .finished: self.book.withLock { $0.undone(request.id, on: number) }
                // The try before this one says when it is done.
                case .undoing: break
                }
            }
        }
    }

    private func vote(
        _ request: LockRequest,
        _ attempt: Int,
        on number: Int,
        floor: Int64,
        _ done: @escaping @Sendable (AcquireTally.Vote) -> Void
    ) {
        let node = self.nodes[number]
        node.acquire(request, try: attempt, floor: floor) { outcome in
            switch outcome {
            case .success(.granted(let token)):
                // Weighed when it may decide.
                done(.granted(token, counts: false))
            case .success(.waiting(let place)): done(.blocked(place))
            case .success(.busy(let blockers)):
                done(.blocked(AcquireReply.Waiting(position: 0, checkAfter: .zero, blockers: blockers)))
            case .success(.finished): done(.finished)
            case .failure(let error): done(.silent(error))
            }
        }
    }

    /// Votes with what is known by now of their servers' clocks and ages.
    ///
    /// Both are measured by the others': the first to answer may be the only one that is connected yet.
    private func weighed(_ votes: [Vote?]) -> [Vote?] {
        let ages = self.ages { if case .granted = votes[$0] { true } else { false } }
        return votes.enumerated().map { number, vote in vote.map { self.weighed($0, of: number, ages) } }
    }

    private func weighed(_ vote: Vote, of number: Int, _ ages: [ServerRun?]) -> Vote {
        guard case .granted(let token, _) = vote else { return vote }
        return self.strayed(number, ages).map { .strayed($0) } ?? .granted(token, counts: self.counts(number, ages))
    }

    /// Gives up what a try may have won on one server; a place in its queue stays unless the request is over.
    private func giveUp(_ request: LockRequest, _ attempt: Int, on number: Int) {
        let node = self.nodes[number]
        let done = { @Sendable in self.book.withLock { $0.undone(request.id, on: number) } }
        if request.contention == .queue, !self.book.withLock({ $0.isOver(request.id) }) {
            node.yield(request, try: attempt, done)
        } else {
            node.withdraw(request.key, within: request.lease) { _ in done() }
        }
    }

    // MARK: - Tokens

    /// Makes sure that a majority knows the highest of several tokens, so that every later one is higher.
    ///
    /// Of a grant that is held, its own: a server whose answer came too late to count then may have a higher one.
    private func agree(
        _ request: LockRequest,
        _ given: [Int: FencingToken],
        _ held: FencingToken?
    ) async throws -> FencingToken {
        guard let token = held ?? given.values.max() else { throw ScriptReplies.unreadable }
        let behind = given.filter { $0.value < token }.keys.sorted()
        guard !behind.isEmpty, given.count - behind.count < self.needed else { return token }
        let isKnown = await self.lift(request.key, to: token, on: behind, knowing: given.count - behind.count)
        guard !isKnown, held == nil else { return token }
        // Also where the answer is still on its way: what it gives is given up behind it.
        let attempt = self.book.withLock { book in
            book.undo(request.id, on: Set(self.nodes.indices))
            return book.attempt(of: request.id)
        }
        for number in self.nodes.indices { self.giveUp(request, attempt, on: number) }
        throw LockError(
            .storeUnavailable,
            "a majority of the Redis servers gave the lock, and stopped answering or let it end before they knew its token"
        )
    }

    /// Tells servers of a higher token.
    ///
    /// - Parameters:
    ///   - grant: Whose token it is.
    ///   - token: The token.
    ///   - behind: The servers that have a lower one.
    ///   - knowing: How many have it already.
    /// - Returns: Whether a majority knows it.
    func lift(_ grant: GrantKey, to token: FencingToken, on behind: [Int], knowing: Int) async -> Bool {
        let needed = self.needed
        return await Canvass.run(behind.count) { index, done in
            let node = self.nodes[behind[index]]
            node.run(node.commands.lift(grant, to: token)) { done((try? $0.get()) ?? false) }
        } decide: { (answers: [Bool?]) -> Bool? in
            let knowing = knowing + answers.count { $0 == true }
            if knowing >= needed { return true }
            return knowing + answers.count { $0 == nil } < needed ? false : nil
        }
    }

    // MARK: - Healing

    /// Asks a server for a grant that is held on a majority and that it has lost or never gave.
    func heal(_ id: RequestID, on number: Int) {
        guard let entry = self.book.withLock({ $0.heal(id, on: number, at: .now) }) else { return }
        var request = entry.request
        request.contention = .fail
        let node = self.nodes[number]
        let (key, lease) = (request.key, request.lease)
        node.acquire(request, floor: Int64(clamping: entry.token.rawValue)) { outcome in
            let isTaken = if case .success(.granted) = outcome { true } else { false }
            // Released meanwhile: what came too late must not stay.
            if !self.book.withLock({ $0.healed(id, on: number, isTaken) }) {
                node.withdraw(key, within: lease)
            }
        }
    }
}

extension AcquireTally.Outcome {
    /// Whether a majority gave the lock.
    var isGranted: Bool { if case .granted = self { true } else { false } }

    /// Whether the request waits no more.
    var isOver: Bool {
        switch self {
        case .granted, .finished: true
        case .blocked, .failed: false
        }
    }
}
