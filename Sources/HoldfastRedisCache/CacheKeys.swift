// SPDX-License-Identifier: Apache-2.0

import HoldfastRedis

/// The keys of one namespace on a server.
///
/// An entry is at `<prefix><namespace>:<key>`. In the namespace, `:`, `%` and braces are written as `%3A`, `%25`, `%7B` and
/// `%7D`: so no two namespaces share a key, none starts like another's keys, and a cluster hashes each key as a whole
/// unless its user wrote a tag in braces. Marks are at `<prefix>{<namespace>}:…`, all in one slot, where no entry can be.
struct CacheKeys: Sendable {
    /// How all keys of entries start.
    let start: String
    /// Where the marks are.
    let marks: String
    private let tagStart: String

    init(prefix: String, namespace: String) {
        var escaped = ""
        for scalar in namespace.unicodeScalars {
            switch scalar {
            case ":": escaped += "%3A"
            case "%": escaped += "%25"
            case "{": escaped += "%7B"
            case "}": escaped += "%7D"
            default: escaped.unicodeScalars.append(scalar)
            }
        }
        self.start = "\(prefix)\(escaped):"
        self.marks = "\(prefix){\(escaped)}:m"
        self.tagStart = "\(prefix){\(escaped)}:t:"
    }

    /// Where an entry is.
    func entry(_ key: String) -> String { self.start + key }

    /// Where the mark of a tag is.
    func tag(_ tag: String) -> String { self.tagStart + tag }

    /// The slot of all marks, on a cluster.
    var slot: RedisSlot { RedisSlot(of: self.marks) }

    /// The key of an entry from that on the server; `nil` when it is not of this namespace.
    func key(from bytes: [UInt8]) -> String? {
        // By bytes: what looks like one character may begin in the namespace and end in the key.
        let start = Array(self.start.utf8)
        guard bytes.starts(with: start) else { return nil }
        return String(validating: bytes[start.count...], as: UTF8.self)
    }

    /// A glob of Redis that matches the entries whose keys start so.
    func glob(_ prefix: String) -> String { Self.literal(self.start + prefix) + "*" }

    /// A text as a glob of Redis that matches nothing else.
    static func literal(_ text: String) -> String {
        var glob = ""
        for scalar in text.unicodeScalars {
            if "*?[]\\^-".unicodeScalars.contains(scalar) { glob += "\\" }
            glob.unicodeScalars.append(scalar)
        }
        return glob
    }
}
