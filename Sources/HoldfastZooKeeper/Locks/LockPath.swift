// SPDX-License-Identifier: Apache-2.0

package import HoldfastCore

/// Where the lock on a resource is: pure.
///
/// The lock on `invoices/42` is the node `root/invoices/42`, as users of Curator and kazoo would name it. What ZooKeeper
/// does not allow in a path, and what would be mistaken for something else there, is percent-encoded:
/// - a percent sign; an empty part (`%`); the parts `.` and `..`
/// - characters above U+FFFF, of the private use area, and from U+FFF0 on
/// - the last character of a part that reads like a node of a lock, which would compete for the lock on its parent
/// - the first character of `zookeeper` and of the rooms of our own at the top
package enum LockPath {
    /// The room of our own below the root, for what is not a lock.
    package static let ownRoom = ".holdfast"

    /// The room of those who keep their nodes for a user: each has one, since nobody else could add to it.
    package static func room(of user: String?) -> String {
        user.map { "\(Self.ownRoom)-\(Hex.text(of: FNV1a.hash($0.utf8)))" } ?? Self.ownRoom
    }

    /// Whether a node at the top is a room of our own.
    static func isOwnRoom(_ name: some StringProtocol) -> Bool {
        name == Self.ownRoom || name.hasPrefix("\(Self.ownRoom)-")
    }

    /// The longest root: with the longest resource, escaped, a path stays far below the servers' limit of 1 MiB.
    private static let maximumRoot = 1024

    /// The rule that a root breaks, or `nil`.
    package static func problem(withRoot root: String) -> String? {
        guard !root.isEmpty else { return nil }
        guard root.hasPrefix("/"), root.utf8.count <= Self.maximumRoot else {
            return "the path does not begin with a slash, or is longer than \(Self.maximumRoot) bytes"
        }
        for part in Self.parts(of: root).dropFirst() {
            if part.isEmpty || part == "." || part == ".." { return "the path has an empty part, . or .." }
            if part.unicodeScalars.contains(where: Self.isForbidden) { return "the path has a forbidden character" }
        }
        return root == "/zookeeper" || root.hasPrefix("/zookeeper/") ? "/zookeeper is the server's own path" : nil
    }

    /// The path of a node's child.
    package static func child(_ name: String, of parent: String) -> String {
        var path = ""
        path.reserveCapacity(parent.utf8.count + 1 + name.utf8.count)
        path += parent
        path += "/"
        path += name
        return path
    }

    /// What stands between slashes.
    ///
    /// A slash counts as one, also where a mark behind it makes one character with it.
    static func parts<Text: StringProtocol>(of text: Text) -> [Text.SubSequence] {
        text.unicodeScalars.split(separator: "/", omittingEmptySubsequences: false)
            .map { text[$0.startIndex..<$0.endIndex] }
    }

    /// The node of a lock.
    package static func path(of resource: Resource, below root: String) -> String {
        let name = resource.name
        // Most names need no second look.
        if Self.isPlain(name) { return Self.child(name, of: root) }
        var path = root
        for part in Self.parts(of: name) {
            let isTop = path.utf8.count == root.utf8.count
            path += "/"
            path += Self.encoded(part, isTop: isTop)
        }
        return path
    }

    /// The resource whose lock a node is; `nil` when none has it.
    package static func resource(at path: String, below root: String) -> Resource? {
        guard path.utf8.starts(with: root.utf8) else { return nil }
        let below = path[path.utf8.index(path.startIndex, offsetBy: root.utf8.count)...]
        var names: [String] = []
        for part in Self.parts(of: below).dropFirst() {
            guard let name = part == "%" ? "" : URLText.decoded(part) else { return nil }
            names.append(name)
        }
        guard let resource = try? Resource(names.joined(separator: "/")) else { return nil }
        // Two paths must not mean one resource.
        return Self.path(of: resource, below: root) == path ? resource : nil
    }

    /// The fewest digits at the end of a name that reads like a node of a lock.
    private static let fewestDigits = 9

    /// Whether a name is surely its own path: only plain characters, no part that is empty or begins with a dot, none that
    /// ends like a node of a lock, and nothing that may be a room of the server's or of our own.
    private static func isPlain(_ name: String) -> Bool {
        var isStart = true
        var digits = 0
        for byte in name.utf8 {
            switch byte {
            case UInt8(ascii: "/"):
                guard !isStart, digits < Self.fewestDigits else { return false }
                isStart = true
                digits = 0
                continue
            case UInt8(ascii: "0")...UInt8(ascii: "9"): digits += 1
            case UInt8(ascii: "z"), UInt8(ascii: "."):
                guard !isStart else { return false }
                digits = 0
            case UInt8(ascii: "a")...UInt8(ascii: "y"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: ":"),
                UInt8(ascii: "-"), UInt8(ascii: "_"):
                digits = 0
            default: return false
            }
            isStart = false
        }
        return !isStart && digits < Self.fewestDigits
    }

    private static func isForbidden(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case ..<0x20, 0x7F...0x9F, 0xD800...0xF8FF, 0xFFF0...: true
        default: false
        }
    }

    private static func encoded(_ part: Substring, isTop: Bool) -> String {
        switch part {
        case "": return "%"
        case ".": return "%2E"
        case "..": return "%2E%2E"
        case "zookeeper" where isTop: return "%7Aookeeper"
        case _ where isTop && Self.isOwnRoom(part): return "%2E" + part.dropFirst()
        default: break
        }
        let looksLikeLock = LockName.read(String(part), as: .curator) != .junk
        let last = part.unicodeScalars.index(before: part.unicodeScalars.endIndex)
        var result = ""
        for index in part.unicodeScalars.indices {
            let scalar = part.unicodeScalars[index]
            if scalar == "%" || Self.isForbidden(scalar) || (looksLikeLock && index == last) {
                for byte in String(scalar).utf8 { result += "%" + Hex.text(of: byte) }
            } else {
                result.unicodeScalars.append(scalar)
            }
        }
        return result
    }
}
