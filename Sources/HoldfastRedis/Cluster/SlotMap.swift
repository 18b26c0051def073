// SPDX-License-Identifier: Apache-2.0

package import HoldfastCore

/// Which master of a cluster has which slots; a pure value.
///
/// Read from `CLUSTER SLOTS`, which all versions and most hosted services have. What it says may be out of date by the
/// time it arrives: a redirection corrects one slot.
package struct SlotMap: Sendable, Hashable {
    private static let nobody = UInt16.max

    /// The masters that have slots, and those that redirections named.
    package private(set) var masters: [RedisAddress] = []
    /// The replicas: they know the cluster too.
    package private(set) var replicas: [RedisAddress] = []
    private var owners = Array(repeating: Self.nobody, count: RedisSlot.count)

    /// Reads a reply to `CLUSTER SLOTS`.
    ///
    /// - Parameters:
    ///   - reply: The reply: `[first, last, [host, port, …], replica…]` for each range.
    ///   - asked: Who was asked; it is meant where no host is said.
    /// - Throws: ``LockError`` when it is none.
    package init(_ reply: RedisReply, from asked: RedisAddress) throws(LockError) {
        guard let ranges = reply.elements, ranges.count <= RedisSlot.count else { throw Self.unreadable }
        // Some servers list them by node, in any order: two maps that say the same are equal.
        for range in ranges.sorted(by: { ($0.elements?.first?.number ?? 0) < ($1.elements?.first?.number ?? 0) }) {
            guard let parts = range.elements, parts.count >= 3, let first = parts[0].number.flatMap({ RedisSlot($0) }),
                let last = parts[1].number.flatMap({ RedisSlot($0) }), first <= last
            else { throw Self.unreadable }
            let master = try Self.address(parts[2], from: asked)
            for replica in parts[3...] {
                let address = try Self.address(replica, from: asked)
                if let address, !self.replicas.contains(address) { self.replicas.append(address) }
            }
            // A node whose name nobody knows: its slots are out of reach for now.
            guard let master else { continue }
            let index = self.index(of: master)
            for slot in first.number...last.number { self.owners[Int(slot)] = index }
        }
        self.replicas.sort { ($0.host, $0.port) < ($1.host, $1.port) }
    }

    /// Who has a slot; `nil` while nobody has.
    package func owner(of slot: RedisSlot) -> RedisAddress? {
        let index = self.owners[Int(slot.number)]
        return index == Self.nobody ? nil : self.masters[Int(index)]
    }

    /// Notes that a slot is elsewhere.
    package mutating func move(_ slot: RedisSlot, to address: RedisAddress) {
        // A server that names ever new ones is not believed for ever.
        guard self.masters.count < RedisSlot.count || self.masters.contains(address) else { return }
        self.owners[Int(slot.number)] = self.index(of: address)
    }

    /// What a channel's name has to have in braces to be in a slot of a master; `nil` when it has none.
    package func tag(on master: RedisAddress) -> String? {
        guard let index = self.masters.firstIndex(of: master), self.owners.contains(UInt16(index)) else { return nil }
        // One of 16,384 as a rule; some slots are hit late.
        return (0..<16 * RedisSlot.count).lazy.map { String($0) }.first { tag in
            self.owners[Int(RedisSlot(of: tag).number)] == index
        }
    }

    /// How many slots somebody has.
    package var covered: Int { self.owners.count { $0 != Self.nobody } }

    private mutating func index(of master: RedisAddress) -> UInt16 {
        if let index = self.masters.firstIndex(of: master) { return UInt16(index) }
        self.masters.append(master)
        return UInt16(self.masters.count - 1)
    }

    private static func address(_ node: RedisReply, from asked: RedisAddress) throws(LockError) -> RedisAddress? {
        guard let parts = node.elements, parts.count >= 2, let port = parts[1].number, (1...65_535).contains(port)
        else {
            throw Self.unreadable
        }
        // No host means the one that was asked, a question mark one that is not known yet.
        let host = parts[0].text ?? ""
        return host == "?" ? nil : RedisAddress(host: host.isEmpty ? asked.host : host, port: Int(port))
    }

    private static let unreadable = LockError(
        .storeCorrupted,
        "the Redis server gave an unexpected reply to CLUSTER SLOTS; check that it is Redis and no proxy"
    )
}

/// Where a node of a cluster sends a command that is not for it.
package struct ClusterRedirect: Sendable, Hashable {
    /// The slot.
    package let slot: RedisSlot
    /// Who to ask.
    package let address: RedisAddress
    /// Whether only this once: the slot is on its way there.
    package let isOnce: Bool

    /// Reads `MOVED slot host:port` and `ASK slot host:port`; `nil` for other errors.
    ///
    /// - Parameters:
    ///   - line: The error.
    ///   - asked: Who said so; it is meant where no host is said.
    package init?(_ line: String, from asked: RedisAddress) {
        let words = line.split(separator: " ")
        guard words.count >= 3, words[0] == "MOVED" || words[0] == "ASK",
            let slot = Int(words[1]).flatMap({ RedisSlot($0) }),
            let colon = words[2].lastIndex(of: ":"), let port = Int(words[2][words[2].index(after: colon)...]),
            (1...65_535).contains(port)
        else { return nil }
        let host = String(words[2][..<colon])
        guard host != "?" else { return nil }
        self.slot = slot
        self.address = RedisAddress(host: host.isEmpty ? asked.host : host, port: port)
        self.isOnce = words[0] == "ASK"
    }
}
