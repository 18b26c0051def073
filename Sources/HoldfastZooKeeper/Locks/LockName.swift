// SPDX-License-Identifier: Apache-2.0

package import HoldfastCore

/// The name of a node that competes for a lock: pure.
///
/// Whoever else reads the names goes by what comes last, a marker and ten digits; our modes and standings are words
/// before that, which other libraries skip:
///
/// | layout | exclusive | shared | update | permit of 3 |
/// |---|---|---|---|---|
/// | curator | `_c_GUID-lock-N` | `_c_GUID-shared-lock-N` | `_c_GUID-update-lock-N` | `_c_GUID-permit3-lock-N` |
/// | curator-rw | `_c_GUID-__WRIT__N` | `_c_GUID-__READ__N` | | |
/// | kazoo | `GUID__lock__N` | `GUID__rlock__N` | | |
///
/// Sources: Curator's `LockInternals`, `StandardLockInternalsDriver`, `InterProcessReadWriteLock` and `ProtectedUtils`;
/// kazoo's `recipe/lock.py`; Go's `zk/lock.go`, which names as Curator does but for a GUID without dashes.
package struct LockName: Sendable, Hashable {
    /// What a node says about its place.
    package enum Standing: Sendable, Hashable {
        /// It came through the queue; it holds when all before it hold and it fits them.
        case queued
        /// It took the place of another node of its holder: it holds.
        case held
        /// Its holder wants to be exclusive, and is when no others hold; until then it holds in the mode that the name
        /// says. Nobody behind it is let in.
        case upgrade
    }

    /// What a child of a lock's node is.
    package enum Child: Sendable, Hashable {
        case contender(LockName)
        /// A node of a lock of another layout.
        case stranger
        /// Something else.
        case junk
    }

    /// The whole name.
    package var text: String
    /// What its creator found it again by.
    package var guid: String
    /// The mode that is asked for or held.
    package var mode: LockMode
    /// What it says about its place.
    package var standing: Standing
    /// The server's number, which goes on below zero after 2,147,483,647.
    package var sequence: Int32

    /// Whether this one came before another.
    ///
    /// Serial number arithmetic (RFC 1982): right as long as fewer than 2^31 nodes were made in between.
    package func isBefore(_ other: LockName) -> Bool { self.sequence &- other.sequence < 0 }

    // MARK: - Writing

    /// The name of a new node without its number, which the server appends.
    package static func prefix(
        _ layout: ZooKeeperConfiguration.Layout,
        guid: String,
        _ mode: LockMode,
        _ standing: Standing
    )
        -> String
    {
        switch layout {
        case .curator:
            mode == .exclusive && standing == .queued
                ? "_c_" + guid + "-lock-" : "_c_\(guid)\(Self.words(mode, standing))-lock-"
        case .curatorReadWrite: "_c_\(guid)-\(mode == .exclusive ? "__WRIT__" : "__READ__")"
        case .kazoo: "\(guid)\(mode == .exclusive ? "__lock__" : "__rlock__")"
        }
    }

    /// The name of a node that takes the place of another of the same number.
    package static func replacement(
        _ layout: ZooKeeperConfiguration.Layout,
        guid: String,
        _ mode: LockMode,
        _ standing: Standing,
        sequence: Int32
    ) -> LockName {
        LockName(
            text: Self.prefix(layout, guid: guid, mode, standing) + Self.digits(sequence),
            guid: guid,
            mode: mode,
            standing: layout == .curator ? standing : .queued,
            sequence: sequence
        )
    }

    /// A fresh GUID in the form that a layout's library uses; begins with a request's reference.
    package static func guid(_ layout: ZooKeeperConfiguration.Layout, for id: RequestID, random: UInt64, _ more: UInt64)
        -> String
    {
        // As much of the second number as is left of 128 bits.
        let (high, low) = ((id.high >> 32) << 32 | random >> 32, random << 32 | more >> 32)
        let hasDashes = layout != .kazoo
        return unsafe String(unsafeUninitializedCapacity: 36) { buffer in
            var count = 0
            for index in 0..<32 {
                if hasDashes, index == 8 || index == 12 || index == 16 || index == 20 {
                    unsafe buffer[count] = UInt8(ascii: "-")
                    count += 1
                }
                let nibble = UInt8(truncatingIfNeeded: (index < 16 ? high : low) >> UInt64(60 - 4 * (index % 16))) & 0xF
                unsafe buffer[count] = nibble < 10 ? UInt8(ascii: "0") + nibble : UInt8(ascii: "a") + nibble - 10
                count += 1
            }
            return count
        }
    }

    private static func words(_ mode: LockMode, _ standing: Standing) -> String {
        let word =
            switch mode {
            case .exclusive: standing == .queued ? "" : "-exclusive"
            case .shared: "-shared"
            case .update: "-update"
            case .permit(of: let count): "-permit\(count)"
            }
        return switch standing {
        case .queued: word
        case .held: word + "-held"
        case .upgrade: word + "-upgrade"
        }
    }

    /// The number as the servers write it, Java's `%010d`.
    private static func digits(_ sequence: Int32) -> String {
        let magnitude = String(sequence.magnitude)
        let width = sequence < 0 ? 9 : 10
        return (sequence < 0 ? "-" : "") + String(repeating: "0", count: max(0, width - magnitude.utf8.count))
            + magnitude
    }
}

// MARK: - Reading

extension LockName {
    private static let curatorMarker = Array("-lock-".utf8)
    private static let readMarker = Array("__READ__".utf8)
    private static let writeMarker = Array("__WRIT__".utf8)
    private static let kazooMarker = Array("__lock__".utf8)
    private static let kazooReadMarker = Array("__rlock__".utf8)

    /// Reads the name of a child.
    package static func read(_ text: String, as layout: ZooKeeperConfiguration.Layout) -> Child {
        let bytes = Array(text.utf8)
        guard let (sequence, end) = Self.number(at: bytes) else { return .junk }
        let body = bytes[..<end]
        let isCurators = body.starts(with: "_c_".utf8)
        if isCurators, body.ends(with: Self.curatorMarker) {
            guard layout == .curator else { return .stranger }
            return Self.curators(text, body.dropFirst(3).dropLast(Self.curatorMarker.count), sequence)
        }
        if isCurators, body.ends(with: Self.readMarker) || body.ends(with: Self.writeMarker) {
            guard layout == .curatorReadWrite else { return .stranger }
            let mode: LockMode = body.ends(with: Self.readMarker) ? .shared : .exclusive
            let guid = body.dropFirst(3).dropLast(Self.readMarker.count + 1)
            return Self.contender(text, guid, mode, .queued, sequence)
        }
        if body.ends(with: Self.kazooMarker) || body.ends(with: Self.kazooReadMarker) {
            guard layout == .kazoo else { return .stranger }
            let isReader = body.ends(with: Self.kazooReadMarker)
            let guid = body.dropLast((isReader ? Self.kazooReadMarker : Self.kazooMarker).count)
            return Self.contender(text, guid, isReader ? .shared : .exclusive, .queued, sequence)
        }
        // Others that would take part: madelson's `lock-N`, and `x-SESSION-N` of ZooKeeper's bundled recipe.
        let isOther = body.elementsEqual("lock-".utf8) || (body.starts(with: "x-".utf8) && body.count == 19)
        return isOther ? .stranger : .junk
    }

    private static let heldWord = Array("-held".utf8)
    private static let upgradeWord = Array("-upgrade".utf8)
    private static let sharedWord = Array("-shared".utf8)
    private static let updateWord = Array("-update".utf8)
    private static let exclusiveWord = Array("-exclusive".utf8)
    private static let permitWord = Array("-permit".utf8)

    /// Whether a text is a GUID with dashes and nothing else, by its end and its length.
    private static func isGUID(_ text: ArraySlice<UInt8>) -> Bool {
        guard text.count == 36, text[text.endIndex - 13] == UInt8(ascii: "-") else { return false }
        return text.suffix(12).allSatisfy { (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }
    }

    private static func curators(_ text: String, _ body: ArraySlice<UInt8>, _ sequence: Int32) -> Child {
        // Nearly all are.
        if Self.isGUID(body) { return Self.contender(text, body, .exclusive, .queued, sequence) }
        var rest = body
        var standing = Standing.queued
        if rest.drop(word: Self.heldWord) { standing = .held }
        if rest.drop(word: Self.upgradeWord) { standing = .upgrade }
        if rest.drop(word: Self.sharedWord) { return Self.contender(text, rest, .shared, standing, sequence) }
        if rest.drop(word: Self.updateWord) { return Self.contender(text, rest, .update, standing, sequence) }
        if rest.drop(word: Self.exclusiveWord) { return Self.contender(text, rest, .exclusive, standing, sequence) }
        let digits = rest.reversed().prefix { (0x30...0x39).contains($0) }.count
        var head = rest.dropLast(digits)
        if digits > 0, head.drop(word: Self.permitWord),
            let count = Int(String(decoding: rest.suffix(digits), as: UTF8.self))
        {
            return Self.contender(text, head, .permit(of: max(1, count)), standing, sequence)
        }
        // What we cannot read is somebody's exclusive lock.
        return Self.contender(text, body, .exclusive, .queued, sequence)
    }

    private static func contender(
        _ text: String,
        _ guid: ArraySlice<UInt8>,
        _ mode: LockMode,
        _ standing: Standing,
        _ sequence: Int32
    ) -> Child {
        .contender(
            LockName(
                text: text,
                guid: String(decoding: guid, as: UTF8.self),
                mode: mode,
                standing: standing,
                sequence: sequence
            )
        )
    }

    /// The number at the end of a name, and where it begins: ten characters, or eleven from -1,000,000,000 down.
    private static func number(at bytes: [UInt8]) -> (Int32, Int)? {
        var start = bytes.count
        while start > 0, bytes.count - start < 10, (0x30...0x39).contains(bytes[start - 1]) { start -= 1 }
        let digits = bytes.count - start
        var isNegative = false
        if start > 0, bytes[start - 1] == UInt8(ascii: "-"), digits >= 9 {
            // In `lock-0000000001` the hyphen is the marker's; in `lock--000000001` the second is the number's.
            isNegative = digits == 9 || (start > 1 && [0x2D, 0x5F].contains(bytes[start - 2]))
        }
        guard isNegative ? digits >= 9 : digits == 10 else { return nil }
        var value: Int64 = 0
        for byte in bytes[start...] { value = value * 10 + Int64(byte - 0x30) }
        guard let sequence = Int32(exactly: isNegative ? -value : value) else { return nil }
        return (sequence, isNegative ? start - 1 : start)
    }
}

extension ArraySlice<UInt8> {
    fileprivate func ends(with marker: [UInt8]) -> Bool {
        self.count >= marker.count && self.suffix(marker.count).elementsEqual(marker)
    }

    /// Takes a word off the end.
    fileprivate mutating func drop(word: [UInt8]) -> Bool {
        guard self.ends(with: word) else { return false }
        self.removeLast(word.count)
        return true
    }
}
