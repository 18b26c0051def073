// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// The keys of one lock.
package struct LockKeys: Sendable {
    let prefix: String
    let name: String
    let isCluster: Bool

    init(_ prefix: String, _ resource: Resource, isCluster: Bool) {
        self.prefix = prefix
        self.name = resource.name
        self.isCluster = isCluster
    }

    /// How keys are given to a node of a cluster, which is what it looks at while their slot is on its way.
    ///
    /// On the node that the slot leaves, no key can be made, and a script that touches one that is not there fails; on the
    /// one that gets it, who says `ASKING` can touch all, but with several keys in one command they have to be there
    /// (`getNodeByQuery` of Redis 7).
    package enum Manner: Sendable, Hashable {
        /// With a key that is never there: while the slot is on its way, `TRYAGAIN` or `ASK` before the script begins.
        case usual
        /// On the node that the slot leaves, with those that are there while a lock is held: it is renewed, handed over to
        /// who waits, and released. Who comes to wait now asks again and again. A key that is missing in mid-script is an
        /// error before anything of importance.
        case leaving
        /// On the node that gets the slot, with one key: all can be made, when nothing of the lock is elsewhere any more.
        case guest
    }

    /// How many keys of a lock a script is given.
    static func count(isCluster: Bool, _ manner: Manner = .usual) -> Int {
        isCluster ? (manner == .guest ? 1 : 3) : 2
    }

    /// The lock's own name on the server, and its record's.
    var names: (lock: String, record: String) {
        (self.prefix + self.name, "hf:{\(self.prefix)\(self.name)}:h")
    }

    /// The slot of all of them, on a cluster: neither names nor prefixes have braces.
    var slot: RedisSlot { RedisSlot(of: self.prefix + self.name) }

    /// Lock and record, as all scripts want them, and on a cluster what the manner says.
    func encode(_ encoder: inout CommandEncoder) {
        encoder.part(self.prefix, self.name, "", "")
        if self.isCluster, encoder.manner == .guest { return }
        encoder.part("hf:{", self.prefix, self.name, "}:h")
        if self.isCluster { encoder.part("hf:{", self.prefix, self.name, encoder.manner == .leaving ? "}:h" : "}:n") }
    }

    /// The resource of a record's key, or `nil` when the key is not one or of another prefix.
    static func resource(ofRecord key: String, prefix: String) -> Resource? {
        // By bytes: what looks like one character may begin in the name and end in ours.
        let (start, end, bytes) = (Array("hf:{\(prefix)".utf8), Array("}:h".utf8), Array(key.utf8))
        guard bytes.count > start.count + end.count, bytes.starts(with: start), bytes.suffix(end.count) == end[...]
        else {
            return nil
        }
        let name = bytes[start.count..<(bytes.count - end.count)]
        return String(validating: name, as: UTF8.self).flatMap { try? Resource($0) }
    }

    /// A glob of Redis that matches at least the records of a pattern.
    static func recordGlob(_ pattern: ResourcePattern, prefix: String) -> String {
        var glob = "hf:{"
        for scalar in prefix.unicodeScalars {
            glob += "*?[]\\^-".unicodeScalars.contains(scalar) ? "\\\(scalar)" : "\(scalar)"
        }
        // Redis' ? is one byte, ours one character: ask for more and look again.
        for scalar in pattern.description.unicodeScalars {
            switch scalar {
            case "?": glob += "*"
            case "[", "]", "\\", "^", "-": glob += "\\\(scalar)"
            default: glob.unicodeScalars.append(scalar)
            }
        }
        return glob + "}:h"
    }
}
