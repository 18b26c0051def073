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

    /// How many keys of a lock a script is given.
    static func count(isCluster: Bool) -> Int { isCluster ? 3 : 2 }

    /// The slot of all of them, on a cluster: neither names nor prefixes have braces.
    var slot: RedisSlot { RedisSlot(of: self.prefix + self.name) }

    /// Lock and record, as all scripts want them, and on a cluster a key that is never there.
    func encode(_ encoder: inout CommandEncoder) {
        encoder.part(self.prefix, self.name, "", "")
        encoder.part("hf:{", self.prefix, self.name, "}:h")
        if self.isCluster { encoder.part("hf:{", self.prefix, self.name, "}:n") }
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
