// SPDX-License-Identifier: Apache-2.0

package import HoldfastCache

/// A line of what a cache is warmed with: `{"key":…,"value":…,"ttl":"5m","tags":[…]}`.
package enum WarmLine {
    /// What is wrong with a line; never repeats what it says.
    package struct Problem: Error, CustomStringConvertible {
        /// A few words.
        package let description: String
    }

    /// The longest line, in bytes: the largest value, each of its characters written as a number, and some room.
    package static let limit = CacheLimits.largestValue * 6 + 65_536

    /// Reads a line.
    ///
    /// - Parameters:
    ///   - line: Its bytes.
    ///   - namespace: Which cache it is for.
    /// - Returns: What to write.
    /// - Throws: ``Problem``.
    package static func draft(_ line: [UInt8], in namespace: String) throws(Problem) -> TierEditor.Draft {
        guard !JSONCheck.hasMark(line) else {
            throw Problem(description: "it begins with a byte order mark, which JSON does not have")
        }
        guard let json = JSONText(line) else { throw Problem(description: "it is not JSON") }
        guard let members = json.members else { throw Problem(description: "it is not an object") }
        var (key, value): (String?, JSONText?) = (nil, nil)
        var draft = TierEditor.Draft(key: "", value: [])
        var names = Set<String>()
        for (name, member) in members {
            guard names.insert(name).inserted else { throw Problem(description: "a member is there twice") }
            switch name {
            case "key":
                key = member.string
                if key == nil { throw Problem(description: "its key is not a string") }
            case "value": value = member
            case "ttl": draft.timeToLive = try Self.duration(member)
            case "tags": draft.tags = try Self.tags(member)
            // A misspelled time to live would be none.
            default: throw Problem(description: "it has a member other than key, value, ttl and tags")
            }
        }
        guard let key else { throw Problem(description: "it has no key") }
        guard let value else { throw Problem(description: "it has no value") }
        (draft.key, draft.value) = (key, value.bytes)
        do throws(CacheError) {
            try draft.validate(in: namespace)
        } catch {
            throw Problem(description: error.message)
        }
        return draft
    }

    private static func duration(_ member: JSONText) throws(Problem) -> Duration? {
        if member.line == "null" { return nil }
        guard let text = member.string, let duration = try? DurationText.parse(text) else {
            throw Problem(description: #"its ttl is not a duration such as "5m""#)
        }
        return duration
    }

    private static func tags(_ member: JSONText) throws(Problem) -> [String] {
        guard let tags = member.strings else { throw Problem(description: "its tags are not a list of strings") }
        return tags
    }
}
