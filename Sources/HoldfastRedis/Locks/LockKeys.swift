// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// The keys of one lock.
struct LockKeys: Sendable {
    let prefix: String
    let name: String

    init(_ prefix: String, _ resource: Resource) {
        self.prefix = prefix
        self.name = resource.name
    }

    /// Lock, record, queue and waiters, as all scripts want them.
    func encode(_ encoder: inout CommandEncoder) {
        encoder.part(self.prefix, self.name, "", "")
        encoder.part("hf:{", self.prefix, self.name, "}:h")
        encoder.part("hf:{", self.prefix, self.name, "}:q")
        encoder.part("hf:{", self.prefix, self.name, "}:w")
    }

    /// The mark of a withdrawn request.
    func encodeTombstone(of id: RequestID, _ encoder: inout CommandEncoder) {
        encoder.part("hf:{", self.prefix, self.name, "}:t:\(id.secret)")
    }

    /// The resource of a record's key, or `nil` when the key is not one or of another prefix.
    static func resource(ofRecord key: String, prefix: String) -> Resource? {
        let start = "hf:{\(prefix)"
        guard key.hasPrefix(start), key.hasSuffix("}:h"), key.utf8.count > start.utf8.count + 3 else { return nil }
        return try? Resource(String(key.dropFirst(start.count).dropLast(3)))
    }

    /// A glob of Redis that matches at least the records of a pattern.
    static func recordGlob(_ pattern: ResourcePattern, prefix: String) -> String {
        var glob = "hf:{"
        // Redis' ? is one byte, ours one character: ask for more and look again.
        for character in prefix { glob += "*?[]\\".contains(character) ? "\\\(character)" : "\(character)" }
        for character in pattern.description {
            switch character {
            case "?": glob += "*"
            case "[", "]", "\\", "^", "-": glob += "\\\(character)"
            default: glob.append(character)
            }
        }
        return glob + "}:h"
    }
}
