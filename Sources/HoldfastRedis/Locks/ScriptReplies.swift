// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// Reads the replies of the lock scripts.
///
/// A reply of another shape is an error of a person's sort (a proxy, a fork of Redis), never a crash.
enum ScriptReplies {
    static let unreadable = LockError(
        .storeCorrupted,
        "the Redis server gave an unexpected reply to a lock script; check that it is Redis 6 or later and no proxy"
    )

    static func number(_ reply: RedisReply) throws(LockError) -> Int64 {
        guard let number = reply.number else { throw Self.unreadable }
        return number
    }

    static func elements(_ reply: RedisReply, atLeast count: Int = 0) throws(LockError) -> [RedisReply] {
        guard let elements = reply.elements, elements.count >= count else { throw Self.unreadable }
        return elements
    }

    /// The holder in `{reference, owner, token, held for, remaining, accepting}`, or none in an empty list.
    static func holder(_ parts: ArraySlice<RedisReply>) throws(LockError) -> Holder? {
        guard !parts.isEmpty else { return nil }
        let parts = Array(parts)
        guard parts.count == 6, let reference = parts[0].text, let owner = parts[1].text, let token = parts[2].number,
            let held = parts[3].number, let remaining = parts[4].number, let accepting = parts[5].number
        else { throw Self.unreadable }
        let isOurs = !reference.isEmpty
        return Holder(
            reference: isOurs ? reference : nil,
            owner: OwnerText.owner(owner),
            mode: .exclusive,
            fencingToken: isOurs ? UInt64(exactly: token).map(FencingToken.init(rawValue:)) : nil,
            heldFor: isOurs ? .microseconds(max(0, held)) : nil,
            remaining: remaining < 0 ? nil : .milliseconds(remaining),
            isAccepting: accepting == 1
        )
    }

    static func holders(_ parts: ArraySlice<RedisReply>) throws(LockError) -> [Holder] {
        if let holder = try Self.holder(parts) { [holder] } else { [] }
    }

    static func acquire(_ reply: RedisReply, resource: Resource) throws(LockError) -> AcquireReply {
        if case .integer(let number) = reply {
            if let token = UInt64(exactly: number), token > 0 { return .granted(FencingToken(rawValue: token)) }
            if number == 0 { return .finished }
            throw LockError(.limitReached, "\(Limits.maximumWaiters) requests wait for \(resource) already")
        }
        let parts = try Self.elements(reply, atLeast: 3)
        let holders = try Self.holders(parts[3...])
        guard try Self.number(parts[0]) == 1 else { return .busy(blockers: holders) }
        let position = Int(truncatingIfNeeded: max(0, try Self.number(parts[1])))
        let place = min(position, Limits.maximumWaiters)
        let spread = min(Limits.checkSpread * (place + 1), Limits.maximumCheckSpread)
        return .waiting(
            AcquireReply.Waiting(
                position: place,
                checkAfter: .milliseconds(max(0, try Self.number(parts[2]))) + spread,
                blockers: holders
            )
        )
    }

    static func status(_ reply: RedisReply, of resource: Resource) throws(LockError) -> ResourceStatus {
        let parts = try Self.elements(reply, atLeast: 3)
        let resting = try Self.number(parts[0])
        let waiters = try Self.elements(parts[2])
        return ResourceStatus(
            resource: resource,
            holders: try Self.holders(try Self.elements(parts[1])[...]),
            waiters: stride(from: 0, to: waiters.count - 2, by: 3).map { index in
                Waiter(
                    reference: waiters[index].text ?? "",
                    owner: waiters[index + 2].text.flatMap(OwnerText.owner),
                    mode: .exclusive,
                    waitingFor: waiters[index + 1].number.map { .microseconds(max(0, $0)) }
                )
            },
            restingFor: resting > 0 ? .milliseconds(resting) : nil
        )
    }

    /// The signal in a message of our channel: a letter, an id, and for `c` a number of milliseconds.
    static func signal(_ payload: [UInt8]) -> StoreSignal? {
        let words = String(decoding: payload, as: UTF8.self).split(separator: " ")
        guard words.count >= 2, let id = RequestID(secret: words[1]) else { return nil }
        switch words[0] {
        case "g": return .granted(id)
        case "l": return .lost(id, .forced)
        case "r": return .revokeRequested(id)
        case "c":
            guard words.count == 3, let milliseconds = Int64(words[2]) else { return nil }
            return .check(id, after: .milliseconds(min(max(0, milliseconds), 86_400_000)))
        default: return nil
        }
    }
}
