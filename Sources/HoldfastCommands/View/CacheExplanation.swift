// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
package import HoldfastCore
package import HoldfastRedisCache

/// Why services get a key from a cache, or not.
package struct CacheExplanation: Sendable {
    private let view: CacheEntryView
    private let remainder: RedisCacheTier.Remainder
    private let status: ResourceStatus

    /// Makes an explanation.
    ///
    /// - Parameters:
    ///   - view: What lies in the tier.
    ///   - remainder: How long it stays there.
    ///   - status: The lock under which the key is loaded.
    package init(_ view: CacheEntryView, _ remainder: RedisCacheTier.Remainder, _ status: ResourceStatus) {
        self.view = view
        self.remainder = remainder
        self.status = status
    }

    /// Sentences for people.
    package var lines: [String] {
        let key = "'\(TerminalText.escaped(self.view.inspection.key))'"
        var lines = ["\(key) \(self.situation)."]
        if let envelope = self.view.envelope {
            let tags = envelope.tags.isEmpty ? "no tags" : "tags \(envelope.tags.joined(separator: ", "))"
            lines.append(
                "Written \(DurationText.short(self.view.inspection.age)) ago, version \(self.view.inspection.version), "
                    + "\(envelope.payload.count) bytes, \(self.view.codec ?? "-"), \(TerminalText.escaped(tags))."
            )
        }
        lines.append(self.outlook)
        lines += self.loading
        return lines
    }

    private var situation: String {
        switch self.view.inspection.content {
        case .nothing where self.remainder != .nothing:
            "holds something that is not an entry of a cache, which is left alone until a service writes the key"
        case .tombstone: "\(self.view.absence ?? "")\(self.tombstoneEnd)"
        case .entry(_, let invalidation?):
            "\(self.view.absence ?? "") (mark \(invalidation.mark)) after it was loaded"
        case .entry(_, nil) where self.view.absence == nil: self.life
        default: self.view.absence ?? "is not there"
        }
    }

    private var tombstoneEnd: String {
        guard case .ends(let left) = self.remainder else { return "" }
        return "; what was loaded before that is refused for \(DurationText.short(left)) more"
    }

    private var life: String {
        guard let left = self.view.freshFor else { return "is there, without end" }
        if left > .zero { return "is fresh for \(DurationText.short(left)) more" }
        var text = "is stale since \(DurationText.short(.zero - left))"
        if let kept = self.view.keptFor { text += " and kept for \(DurationText.short(kept)) more" }
        return text
    }

    /// What becomes of a service that asks now.
    private var outlook: String {
        let loads = self.status.holders.isEmpty ? "loads it" : "waits for the load that is under way"
        switch self.view.state {
        case "not-found" where self.view.inspection.isGiven:
            return "A service that asks is told that there is nothing, without loading it."
        case "fresh": return "A service that asks gets it."
        case "revalidating": return "A service that asks gets it, and has it loaded anew in the background."
        case "stale": return "A service that asks \(loads), and gets it only if that fails."
        case "unreadable": return "A service that asks \(loads), and writes over it."
        default: return "A service that asks \(loads)."
        }
    }

    private var loading: [String] {
        if self.status.holders.isEmpty, let rest = self.status.restingFor {
            return ["The lock for loading it rests for \(DurationText.short(rest)) more, since its holder vanished."]
        }
        let waiters = self.status.waiters.count
        return self.status.holders.map { holder in
            var line = "\(TerminalText.escaped(holder.name)) loads it"
            if let since = holder.heldFor { line += ", for \(DurationText.short(since))" }
            if let left = holder.remaining { line += "; its lease ends in \(DurationText.short(left)) unless renewed" }
            if waiters > 0 { line += "; \(waiters) wait\(waiters == 1 ? "s" : "") for it" }
            return line + "."
        }
    }

    /// The explanation for scripts.
    package var json: JSONValue {
        let invalidation: JSONValue
        if case .entry(_, let cause?) = self.view.inspection.content {
            let (kind, text): (String, String?) =
                switch cause.scope {
                case .all: ("all", nil)
                case .prefix(let prefix): ("prefix", prefix)
                case .tag(let tag): ("tag", tag)
                }
            invalidation = .object([
                .init("scope", .string(kind)), .init("name", .optional(text)),
                .init("mark", .integer(Int64(clamping: cause.mark))),
            ])
        } else {
            invalidation = .null
        }
        let stays: JSONValue =
            if case .ends(let left) = self.remainder { .decimal(left.inSeconds, places: 3) } else { .null }
        return .object([
            .init("entry", self.view.json()),
            .init("given", .bool(self.view.inspection.isGiven)),
            .init("reason", .string(self.situation)),
            .init("invalidated_by", invalidation),
            .init("stays_s", stays),
            .init("lock", StatusView.json(self.status)),
        ])
    }
}
