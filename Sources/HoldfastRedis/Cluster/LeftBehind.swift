// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import NIOCore

/// What is left of a lock on the node that its slot leaves, when it can go on neither there nor where the slot goes.
///
/// A lock that nobody holds has its record there and no key; a lock that is held may have one of the two on either side,
/// since the keys of a slot leave one by one. A record alone, of a lock without readers and without a queue, is copied and
/// then taken away: nobody changes it meanwhile, since no script runs on that node without the lock's key. So is a key
/// alone, which foreign libraries may change meanwhile: it ends with its time there, too. Whoever dies in between leaves a
/// copy, which the next command about the lock takes away.
package struct LeftBehind: Sendable, Hashable {
    /// The name of the key.
    package let key: String
    /// Its value.
    package let value: [UInt8]
    /// For how many milliseconds; `nil` for ever.
    package let life: Int64?
    /// Whether it is the record.
    package let isRecord: Bool

    /// What a record lives for without a use.
    private static let recordLife: Int64 = 172_800_000

    /// Takes a key away if it is still what was copied, and says for how long it would have lived: it may have been renewed
    /// since.
    private static let removal = """
        if redis.call('GET',KEYS[1])==ARGV[1] then \
        local left=redis.call('PTTL',KEYS[1]) redis.call('DEL',KEYS[1]) return left end
        """

    /// Lets a copy live for as long, if it is still that.
    private static let renewal = "if redis.call('GET',KEYS[1])==ARGV[1] then redis.call('PEXPIRE',KEYS[1],ARGV[2]) end"

    /// Reads what the node that the slot leaves has: the answers to `GET lock`, `PTTL lock` and `GET record`.
    ///
    /// - Returns: What is left, and where it has to go; `nil` when it is not one of the two, or of a lock that has more.
    package init?(_ replies: [RedisReply], of keys: LockKeys) {
        guard replies.count == 3 else { return nil }
        switch (replies[0], replies[2]) {
        case (.error, .string(let record)):
            guard Self.isWhole(record) else { return nil }
            self.init(key: keys.names.record, value: record, life: Self.recordLife, isRecord: true)
        case (.string(let secret), .error):
            guard let life = replies[1].number, life != 0 else { return nil }
            self.init(key: keys.names.lock, value: secret, life: life < 0 ? nil : life, isRecord: false)
        default: return nil
        }
    }

    private init(key: String, value: [UInt8], life: Int64?, isRecord: Bool) {
        (self.key, self.value, self.life, self.isRecord) = (key, value, life, isRecord)
    }

    /// Whether a record is all that there is of a lock besides its key: no holders beside each other, and no queue.
    package static func isWhole(_ record: [UInt8]) -> Bool {
        switch record.first {
        case UInt8(ascii: "F"), UInt8(ascii: "R"), UInt8(ascii: "H"): return true
        case UInt8(ascii: "G"):
            let fields = record.split(separator: UInt8(ascii: "|"), maxSplits: 14, omittingEmptySubsequences: false)
            return fields.count == 15 && fields[11].elementsEqual("0".utf8) && fields[13].isEmpty
        default: return false
        }
    }

    /// Where a lock is whose slot is on its way.
    enum Whereabouts: Sendable {
        /// Where its slot still is, key and record.
        case here
        /// Where its slot goes, or nowhere yet.
        case there(ClusterRedirect)
        /// On both sides, or nobody answers.
        case unclear
    }

    /// Looks for a lock, and carries over what is left of it.
    ///
    /// - Parameters:
    ///   - keys: The lock.
    ///   - source: The node that the slot leaves.
    ///   - deadline: When to give up.
    ///   - node: The connection to a node.
    /// - Returns: Where the lock is now.
    static func look(
        for keys: LockKeys,
        on source: CommandConnection,
        by deadline: NIODeadline,
        to node: (ClusterRedirect) -> CommandConnection?
    ) async -> Whereabouts {
        let names = keys.names
        let answers = await source.send(
            by: deadline,
            all: [
                .texts(["GET", names.lock]), .texts(["PTTL", names.lock]), .texts(["GET", names.record]),
            ]
        )
        let replies = answers.compactMap { try? $0.get() }
        guard replies.count == 3 else { return .unclear }
        if case (.string, .string) = (replies[0], replies[2]) { return .here }
        let lines = replies.compactMap { if case .error(let line) = $0 { line } else { nil } }
        let redirects = lines.compactMap { ClusterRedirect($0, from: source.address) }
        guard let redirect = redirects.first, redirects.allSatisfy({ $0 == redirect && $0.isOnce }) else {
            return .unclear
        }
        if redirects.count == 3 { return .there(redirect) }
        guard let left = LeftBehind(replies, of: keys), let target = node(redirect) else { return .unclear }
        let asking = CommandRequest.texts(["ASKING"])
        if !left.isRecord {
            // Without a record on either side the holder is of another library, and stays where it is.
            let found = await target.send(by: deadline, all: [asking, .texts(["EXISTS", names.record])])
            guard case .success(.integer(1))? = found.last else { return .unclear }
        }
        let copied = await target.send(by: deadline, all: [asking, .command(left.copy)])
        switch copied.last {
        case .success(.null) where left.isRecord: break
        case .success(.null):
            // Somebody else has the lock there, unless it is the copy of a carrier that died before it was done.
            let there = await target.send(by: deadline, all: [asking, .texts(["GET", left.key])])
            guard case .success(.string(left.value))? = there.last else { return .unclear }
        case .success(.error), .failure, nil: return .unclear
        case .success: break
        }
        let removed = await source.send(by: deadline) { left.script(Self.removal, &$0) }
        if !left.isRecord, case .success(.integer(let life)) = removed, life > 0 {
            let renew = CommandRequest.command { encoder in
                left.script(Self.renewal, &encoder, arguments: 1)
                encoder.part(life)
            }
            _ = await target.send(by: deadline, all: [asking, renew])
        }
        return .there(redirect)
    }

    /// A script about the key, with the value and so many arguments that must follow.
    private func script(_ source: String, _ encoder: inout CommandEncoder, arguments: Int = 0) {
        encoder.begin(5 + arguments)
        for part in ["EVAL", source, "1", self.key] { encoder.part(part) }
        encoder.part(self.value)
    }

    private func copy(_ encoder: inout CommandEncoder) {
        encoder.begin(self.life == nil ? 4 : 6)
        encoder.part("SET")
        encoder.part(self.key)
        encoder.part(self.value)
        encoder.part("NX")
        if let life = self.life {
            encoder.part("PX")
            encoder.part(life)
        }
    }
}
