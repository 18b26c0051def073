// SPDX-License-Identifier: Apache-2.0

package import HoldfastCore

/// Reads the replies of the lock scripts.
///
/// A reply of another shape is an error of a person's sort (a proxy, a fork of Redis), never a crash.
package enum ScriptReplies {
    static let unreadable = LockError(
        .storeCorrupted,
        "the Redis server gave an unexpected reply to a lock script; check that it is Redis 6 or later and no proxy"
    )

    /// The largest whole number that Lua tells from the next one: as a token in µs, the year 2255.
    package static let largest: Int64 = 1 << 53

    /// A token of a grant.
    ///
    /// - Parameter number: At least 1.
    /// - Returns: The token.
    /// - Throws: ``LockError`` for a number that no clock gives, and past which tokens would not rise.
    private static func token(_ number: Int64) throws(LockError) -> FencingToken {
        guard let token = UInt64(exactly: number), number <= Self.largest else {
            throw LockError(
                .storeCorrupted,
                """
                the Redis server gave a fencing token that no clock gives; set its clock right, and once nobody holds the lock \
                delete its record, hf:{NAME}:h
                """
            )
        }
        return FencingToken(rawValue: token)
    }

    static func number(_ reply: RedisReply) throws(LockError) -> Int64 {
        guard let number = reply.number else { throw Self.unreadable }
        return number
    }

    static func elements(_ reply: RedisReply, atLeast count: Int = 0) throws(LockError) -> [RedisReply] {
        guard let elements = reply.elements, elements.count >= count else { throw Self.unreadable }
        return elements
    }

    /// The holders in a list of `reference, owner, token, held for, remaining, accepting, mode` for each.
    static func holders(_ parts: ArraySlice<RedisReply>) throws(LockError) -> [Holder] {
        guard parts.count.isMultiple(of: 7) else { throw Self.unreadable }
        var holders: [Holder] = []
        for start in stride(from: parts.startIndex, to: parts.endIndex, by: 7) {
            holders.append(try Self.holder(parts[start..<(start + 7)]))
        }
        return holders
    }

    private static func holder(_ parts: ArraySlice<RedisReply>) throws(LockError) -> Holder {
        let parts = Array(parts)
        guard let reference = parts[0].text, let owner = parts[1].text, let token = parts[2].number,
            let held = parts[3].number, let remaining = parts[4].number, let accepting = parts[5].number,
            let mode = parts[6].text.flatMap(LockModeText.mode)
        else { throw Self.unreadable }
        let isOurs = !reference.isEmpty
        return Holder(
            reference: isOurs ? reference : nil,
            owner: OwnerText.owner(owner),
            mode: mode,
            fencingToken: isOurs ? try? Self.token(token) : nil,
            heldFor: isOurs ? .microseconds(max(0, held)) : nil,
            remaining: remaining < 0 ? nil : .milliseconds(remaining),
            isAccepting: accepting == 1
        )
    }

    /// The waiters in a list of `reference, waited, owner, mode, priority, fairness, kept` for each.
    private static func waiters(_ parts: [RedisReply]) throws(LockError) -> [Waiter] {
        guard parts.count.isMultiple(of: 7) else { throw Self.unreadable }
        var waiters: [Waiter] = []
        for start in stride(from: 0, to: parts.count, by: 7) {
            guard let mode = parts[start + 3].text.flatMap(LockModeText.mode) else { throw Self.unreadable }
            waiters.append(
                Waiter(
                    reference: parts[start].text ?? "",
                    owner: parts[start + 2].text.flatMap(OwnerText.owner),
                    mode: mode,
                    waitingFor: parts[start + 1].number.map { .microseconds(max(0, $0)) },
                    priority: parts[start + 4].number.flatMap { Int(exactly: $0) } ?? 0,
                    fairness: parts[start + 5].text == "b" ? .barging : .fair,
                    holding: LockModeText.references(parts[start + 6].text ?? "")
                )
            )
        }
        return waiters
    }

    /// Reads the reply to an acquire.
    package static func acquire(_ reply: RedisReply, resource: Resource) throws(LockError) -> AcquireReply {
        if case .integer(let number) = reply {
            if number > 0 { return .granted(try Self.token(number)) }
            if number == 0 { return .finished }
            guard number == -1 else { throw Self.unreadable }
            throw LockError(.limitReached, "\(Limits.maximumWaiters) requests wait for \(resource) already")
        }
        let (isWaiting, place) = try Self.place(reply)
        return isWaiting ? .waiting(place) : .busy(blockers: place.blockers)
    }

    /// Reads the reply to a conversion.
    package static func convert(_ reply: RedisReply) throws(LockError) -> ConvertReply {
        if case .integer(let number) = reply {
            return number > 0 ? .converted(try Self.token(number)) : .lost
        }
        let (isWaiting, place) = try Self.place(reply)
        return isWaiting ? .waiting(place) : .busy(blockers: place.blockers)
    }

    /// What the number in the answer to a release means.
    static func release(_ number: Int64, isRepeat: Bool) -> ReleaseReply {
        switch number {
        case 1: .released
        // It had ended before. If we asked twice, that was the first time we asked.
        case 2: isRepeat ? .released : .alreadyLost
        default: .alreadyLost
        }
    }

    /// Reads the reply to a release that hands over: a number, or that and `id, token | -pause, …`.
    static func handOver(_ answer: RedisClient.Answer) throws(LockError) -> LockCommands.HandOver {
        var holders: [(id: RequestID, token: FencingToken)] = []
        var next: (id: RequestID, pause: Duration)?
        let parts = answer.reply.elements ?? [answer.reply]
        guard !parts.count.isMultiple(of: 2) else { throw Self.unreadable }
        for index in stride(from: 1, to: parts.count, by: 2) {
            guard let id = parts[index].text.flatMap({ RequestID(secret: $0) }) else { throw Self.unreadable }
            let number = try Self.number(parts[index + 1])
            if number > 0 {
                holders.append((id, try Self.token(number)))
            } else {
                next = (id, Self.pause(number == .min ? .max : -number))
            }
        }
        let reply = Self.release(try Self.number(parts[0]), isRepeat: answer.isRepeat)
        return LockCommands.HandOver(reply: reply, isRepeat: answer.isRepeat, holders: holders, next: next)
    }

    /// A pause that a server says; at most a day.
    private static func pause(_ milliseconds: Int64) -> Duration {
        .milliseconds(min(max(0, milliseconds), 86_400_000))
    }

    /// Reads the answers to renewals, one for each; what a server says beyond them is about nothing.
    package static func renewals(_ reply: RedisReply, count: Int) throws(LockError) -> [RenewReply] {
        try Self.elements(reply, atLeast: count).prefix(count).map { reply in
            switch reply.number {
            case 0: .lost(.expired)
            case 1: .renewed(revokeRequested: false)
            case 2: .renewed(revokeRequested: true)
            default: .unknown
            }
        }
    }

    /// The place in `{1 waiting | 2 busy, position, check after, holder…}`, and whether it is one.
    private static func place(_ reply: RedisReply) throws(LockError) -> (Bool, AcquireReply.Waiting) {
        let parts = try Self.elements(reply, atLeast: 3)
        let position = Int(truncatingIfNeeded: max(0, try Self.number(parts[1])))
        let place = min(position, Limits.maximumWaiters)
        let spread = min(Limits.checkSpread * (place + 1), Limits.maximumCheckSpread)
        let waiting = AcquireReply.Waiting(
            position: place,
            checkAfter: .milliseconds(max(0, try Self.number(parts[2]))) + spread,
            blockers: try Self.holders(parts[3...])
        )
        return (try Self.number(parts[0]) == 1, waiting)
    }

    /// Reads the description of a resource.
    package static func status(_ reply: RedisReply, of resource: Resource) throws(LockError) -> ResourceStatus {
        let parts = try Self.elements(reply, atLeast: 3)
        let resting = try Self.number(parts[0])
        return ResourceStatus(
            resource: resource,
            holders: try Self.holders(try Self.elements(parts[1])[...]),
            waiters: try Self.waiters(try Self.elements(parts[2])),
            restingFor: resting > 0 ? .milliseconds(resting) : nil
        )
    }

    /// The signal in a message of our channel: a letter, an id, and for `c` a number of milliseconds.
    package static func signal(_ payload: [UInt8]) -> StoreSignal? {
        let words = String(decoding: payload, as: UTF8.self).split(separator: " ")
        guard words.count >= 2, let id = RequestID(secret: words[1]) else { return nil }
        switch words[0] {
        case "g": return .granted(id)
        case "l": return .lost(id, .forced)
        case "r": return .revokeRequested(id)
        case "c":
            guard words.count == 3, let milliseconds = Int64(words[2]) else { return nil }
            return .check(id, after: Self.pause(milliseconds))
        default: return nil
        }
    }
}
