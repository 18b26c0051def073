// SPDX-License-Identifier: Apache-2.0

package import HoldfastCore

/// Counts what servers say to one request for a lock: pure.
///
/// A grant counts when its server has been up for longer than any lease lasts: one that came back empty a moment ago may
/// have forgotten the holder.
package struct AcquireTally: Sendable {
    /// What one server says.
    package enum Vote: Sendable {
        /// It gave the lock.
        case granted(FencingToken, counts: Bool)
        /// It gave the lock, but its clock is not to be relied on.
        case strayed(LockError)
        /// Others are in the way.
        case blocked(AcquireReply.Waiting)
        /// It is still giving up what the last try won there.
        case undoing
        /// The request is over there: it was released or withdrawn.
        case finished
        /// Nobody knows.
        case silent(LockError)
    }

    /// What the votes lead to.
    package enum Outcome: Sendable {
        /// A majority gave the lock; those who gave it have these tokens.
        case granted([Int: FencingToken])
        /// A majority may give it later.
        case blocked(AcquireReply.Waiting, isSplit: Bool)
        /// The request is over.
        case finished
        /// A majority cannot answer.
        case failed(LockError)
    }

    /// How many of so many are a majority.
    package static func majority(of count: Int) -> Int { count / 2 + 1 }

    /// What votes lead to.
    ///
    /// - Parameter votes: The vote of each server, `nil` for those that have not answered.
    /// - Returns: The outcome, `nil` when votes that are missing may change it.
    package static func outcome(of votes: [Vote?]) -> Outcome? {
        let needed = Self.majority(of: votes.count)
        var given: [Int: FencingToken] = [:]
        var counting = 0
        var missing = 0
        for (node, vote) in votes.enumerated() {
            switch vote {
            case nil: missing += 1
            case .granted(let token, let counts):
                given[node] = token
                if counts { counting += 1 }
            case .blocked, .undoing, .finished, .strayed, .silent: break
            }
        }
        if counting >= needed { return .granted(given) }
        guard counting + missing < needed else { return nil }
        return Self.refusal(votes, needed: needed)
    }

    /// The servers that may have given the lock to a try that won no majority.
    ///
    /// - Parameters:
    ///   - votes: The votes when that was decided.
    ///   - unasked: Servers that this try does not ask, since the one before it is still being given up there. The one
    ///     before may have come to its end by now: a mark that this try made nobody would take away.
    /// - Returns: Their numbers.
    package static func mayHold(_ votes: [Vote?], unasked: Set<Int>) -> Set<Int> {
        Set(votes.indices).subtracting(unasked).filter { node in
            switch votes[node] {
            case nil, .granted, .strayed, .silent: true
            case .blocked, .undoing, .finished: false
            }
        }
    }

    private static func refusal(_ votes: [Vote?], needed: Int) -> Outcome? {
        var places: [AcquireReply.Waiting] = []
        var grants = 0
        var young = 0
        var undoing = 0
        var missing = 0
        var finished = 0
        var (silence, stray): (LockError?, LockError?)
        for vote in votes {
            switch vote {
            case nil: missing += 1
            case .granted(_, let counts): if counts { grants += 1 } else { young += 1 }
            case .blocked(let place): places.append(place)
            case .undoing: undoing += 1
            case .finished: finished += 1
            case .strayed(let error): stray = stray ?? error
            case .silent(let error): silence = silence ?? error
            }
        }
        if finished >= needed { return .finished }
        let speaking = places.count + grants + young + undoing + finished
        guard speaking >= needed else {
            // Those who have not answered may make it a majority that does.
            guard speaking + missing < needed else { return nil }
            return .failed(
                Self.unreachable(votes.count, silent: votes.count - speaking - missing, needed: needed, silence, stray)
            )
        }
        if finished > 0 { return .finished }
        if places.isEmpty, undoing > 0 {
            return .blocked(AcquireReply.Waiting(position: 0, checkAfter: .zero, blockers: []), isSplit: true)
        }
        guard !places.isEmpty else {
            guard missing == 0 else { return nil }
            return .failed(Self.tooYoung(votes.count, young: young))
        }
        return Self.place(places, needed: needed, free: grants + young)
    }

    private static func unreachable(
        _ count: Int,
        silent: Int,
        needed: Int,
        _ silence: LockError?,
        _ stray: LockError?
    ) -> LockError {
        let said = [silence, stray].compactMap { $0.map { "; \($0.message)" } }.joined()
        let code = silence?.code == .storeRefused ? LockError.Code.storeRefused : .storeUnavailable
        let what = stray == nil ? "do not answer" : "do not answer or do not count"
        return LockError(code, "\(silent) of \(count) Redis servers \(what), and \(needed) must\(said)")
    }

    private static func tooYoung(_ count: Int, young: Int) -> LockError {
        LockError(
            .storeUnavailable,
            """
            \(young) of \(count) Redis servers have been up for less than the longest lease and may have forgotten \
            holders; wait, or say guard=off if they keep their memory (append-only file with fsync always)
            """
        )
    }

    /// A place among the places on several servers.
    private static func place(_ places: [AcquireReply.Waiting], needed: Int, free: Int) -> Outcome {
        var counts: [String: Int] = [:]
        var blockers: [String: Holder] = [:]
        for place in places {
            for holder in place.blockers {
                let name = holder.reference ?? "foreign"
                counts[name, default: 0] += 1
                blockers[name] = blockers[name] ?? holder
            }
        }
        let real = blockers.filter { counts[$0.key, default: 0] >= needed }
        let isResting = places.contains { $0.blockers.isEmpty }
        let isLong = places.contains { $0.blockers.count >= LockScripts.maximumBlockers }
        // As many have to become free as are missing from a majority.
        let waits = places.map(\.checkAfter).sorted()
        let wait = waits[min(max(needed - free, 1), waits.count) - 1]
        let shown = (real.isEmpty ? blockers : real).values.sorted { $0.heldFor ?? .zero > $1.heldFor ?? .zero }
        return .blocked(
            AcquireReply.Waiting(
                position: places.map(\.position).min() ?? 0,
                checkAfter: wait,
                blockers: shown
            ),
            isSplit: real.isEmpty && !isResting && !isLong
        )
    }
}
