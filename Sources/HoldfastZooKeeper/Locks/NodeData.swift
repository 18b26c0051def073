// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import HoldfastCore
import Synchronization

/// What our nodes say about themselves: a JSON object, in UTF-8.
///
/// `{"holdfast":1,"id":"<instance>-<serial>","host":…,"pid":…,"started":…,"program":…,"label":…,"session":…,
/// "holding":[…],"token":…,"revoke":true,"held":…}`. All from `label` on may be missing. It is for people and for finding deadlocks; who holds is
/// never decided by it. Other libraries write what they like, and it is tolerated.
struct NodeData: Sendable, Hashable, Decodable {
    /// Who asks.
    var owner: OwnerID?
    /// How long the servers keep its session when they hear nothing of it, in milliseconds.
    var session: Int64?
    /// The references of the grants that are kept meanwhile.
    var holding: [String]
    /// The fencing token, when it is not the transaction that created the node.
    var token: UInt64?
    /// Whether somebody asks the holder to let go.
    var revoke: Bool
    /// How long the lock had been held when the node was made, in milliseconds; below zero for a wait that was to come.
    ///
    /// Written for grants that are held for a while, since others see only how old a node is.
    var held: Int64?
    /// What data that are not ours say, where that is a text.
    var note: String?

    /// What Curator's `Revoker` writes.
    static let curatorsRevocation = Array("__REVOKE__".utf8)
    /// The most bytes that are read of data that is not ours.
    private static let maximumLength = 64 * 1024
    /// The most characters of a note: enough for an address and for a name.
    private static let maximumNote = 64

    private enum CodingKeys: String, CodingKey {
        case session
        case holding
        case token
        case revoke
        case held
        case holdfast
    }

    /// Reads the object; without an owner it is not one of ours.
    init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        _ = try container.decode(Int.self, forKey: .holdfast)
        self.owner = try OwnerID(from: decoder)
        // Others may write what they like; a day is longer than any session.
        self.session = try container.decodeIfPresent(Int64.self, forKey: .session).map { min(max($0, 0), 86_400_000) }
        self.holding = try container.decodeIfPresent([String].self, forKey: .holding) ?? []
        self.token = try container.decodeIfPresent(UInt64.self, forKey: .token)
        self.revoke = try container.decodeIfPresent(Bool.self, forKey: .revoke) ?? false
        self.held = try container.decodeIfPresent(Int64.self, forKey: .held)
    }

    /// Describes a node.
    init(
        owner: OwnerID?,
        session: Duration? = nil,
        holding: [String] = [],
        token: UInt64? = nil,
        revoke: Bool = false,
        held: Duration? = nil
    ) {
        self.owner = owner
        self.session = session?.millisecondsRoundedUp
        self.holding = Array(holding.prefix(Limits.maximumHolding))
        self.token = token
        self.revoke = revoke
        self.held = held?.millisecondsRoundedUp
    }

    /// Reads any node's data.
    ///
    /// - Returns: What it says; without an owner for data that is not ours.
    static func read(_ bytes: [UInt8]) -> NodeData {
        // The cheapest look first: Curator writes an address, kazoo a name or nothing.
        guard bytes.first == UInt8(ascii: "{"), bytes.count <= Self.maximumLength else { return Self.foreign(bytes) }
        return (try? JSONDecoder().decode(NodeData.self, from: Data(bytes))) ?? Self.foreign(bytes)
    }

    private static func foreign(_ bytes: [UInt8]) -> NodeData {
        var data = NodeData(owner: nil, revoke: bytes == Self.curatorsRevocation)
        guard !data.revoke, !bytes.isEmpty else { return data }
        // A character may be cut in two at the end of what is read; what is not text is shown to nobody.
        let start = bytes.prefix(4 * Self.maximumNote)
        let whole = (0..<4).lazy.compactMap { String(validating: start.dropLast($0), as: UTF8.self) }.first
        data.note = whole.map { String($0.prefix(Self.maximumNote)) }
        return data
    }

    /// Whether any node's data say that its holder should let go.
    static func asksToLetGo(_ bytes: [UInt8]) -> Bool {
        if bytes == Self.curatorsRevocation { return true }
        // Nearly never; the object is read only where the word is.
        return Self.mentions(Self.revokeWord, bytes) && Self.read(bytes).revoke
    }

    private static let revokeWord = Array("revoke".utf8)

    private static func mentions(_ word: [UInt8], _ bytes: [UInt8]) -> Bool {
        guard bytes.count >= word.count else { return false }
        return (0...bytes.count - word.count).contains { start in
            bytes[start] == word[0] && word.indices.allSatisfy { bytes[start + $0] == word[$0] }
        }
    }

    /// Writes the object.
    func bytes(_ cache: OwnerCache) -> [UInt8] {
        guard let owner = self.owner else { return [] }
        let start = cache.start(of: owner.process)
        var bytes: [UInt8] = []
        bytes.reserveCapacity(start.count + 128)
        bytes += start
        bytes += ",\"id\":\"".utf8
        bytes += owner.id.utf8
        bytes += "\"".utf8
        if let label = owner.label { bytes += ",\"label\":\(Self.quoted(label))".utf8 }
        if let session = self.session { bytes += ",\"session\":\(session)".utf8 }
        if !self.holding.isEmpty {
            bytes += ",\"holding\":[\(self.holding.map(Self.quoted).joined(separator: ","))]".utf8
        }
        if let token = self.token { bytes += ",\"token\":\(token)".utf8 }
        if self.revoke { bytes += ",\"revoke\":true".utf8 }
        if let held = self.held { bytes += ",\"held\":\(held)".utf8 }
        bytes.append(UInt8(ascii: "}"))
        return bytes
    }

    /// A string of JSON (RFC 8259, section 7).
    static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case _ where scalar.value < 0x20: result += "\\u00" + Hex.text(of: UInt8(scalar.value))
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }
}

/// What the data of all nodes of a process begin with, put together once.
final class OwnerCache: Sendable {
    private let last = Mutex<(instance: UInt64, start: [UInt8])?>(nil)

    /// The beginning of the object.
    func start(of process: ProcessIdentity) -> [UInt8] {
        self.last.withLock { last in
            if let last, last.instance == process.instance { return last.start }
            let text =
                "{\"holdfast\":1,\"host\":\(NodeData.quoted(process.host)),\"pid\":\(process.pid)"
                + ",\"started\":\(process.started),\"program\":\(NodeData.quoted(process.program))"
            let start = Array(text.utf8)
            last = (process.instance, start)
            return start
        }
    }
}
