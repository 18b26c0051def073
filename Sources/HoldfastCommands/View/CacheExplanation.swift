// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
package import HoldfastCore
package import HoldfastRedisCache

/// Why services get a key from a cache, or not.
package struct CacheExplanation: Sendable {
    private let view: CacheEntryView
    private let remainder: RedisCacheTier.Remainder
    private let lock: Lock

    /// What is known of the lock under which a key is loaded.
    package enum Lock: Sendable {
        /// Its state.
        case seen(ResourceStatus)
        /// Nothing, and why.
        case unknown(String)
    }

    /// Makes an explanation.
    ///
    /// - Parameters:
    ///   - view: What lies in the tier.
    ///   - remainder: How long it stays there.
    ///   - lock: The lock under which the key is loaded.
    package init(_ view: CacheEntryView, _ remainder: RedisCacheTier.Remainder, _ lock: Lock) {
        self.view = view
        self.remainder = remainder
        self.lock = lock
    }

    private var status: ResourceStatus? { if case .seen(let status) = self.lock { status } else { nil } }

    /// Sentences for people.
    package var lines: [String] {
        let key = "'\(TerminalText.escaped(self.view.inspection.key))'"
        var lines = ["\(key) \(self.situation)."]
        if let envelope = self.view.envelope {
            let tags = envelope.tags.isEmpty ? "no tags" : "tags \(envelope.tags.joined(separator: ", "))"
            let writer = envelope.writer.isEmpty ? "" : " by \(TerminalText.escaped(envelope.writer))"
            lines.append(
                "Written \(DurationText.short(self.view.inspection.age)) ago\(writer), "
                    + "version \(self.view.inspection.version), "
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
        case .entry(_, .some(let invalidation)) where invalidation.isDamage: self.view.absence ?? ""
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
        guard let left = self.view.freshFor else {
            return "is fresh for as long as it is kept, \(DurationText.short(self.view.keptFor ?? .zero)) more"
        }
        if left > .zero { return "is fresh for \(DurationText.short(left)) more" }
        var text = "is stale since \(DurationText.short(.zero - left))"
        if let kept = self.view.keptFor { text += " and kept for \(DurationText.short(kept)) more" }
        return text
    }

    /// What becomes of a service that asks now.
    private var outlook: String {
        let loads =
            switch self.lock {
            case .unknown: "loads it, or waits for one that does"
            case .seen(let status): status.holders.isEmpty ? "loads it" : "waits for the load that is under way"
            }
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
        let status: ResourceStatus
        switch self.lock {
        case .unknown(let reason):
            let shown = TerminalText.escaped(reason)
            return ["Whether somebody loads it is not known, since the lock could not be read: \(shown)."]
        case .seen(let seen): status = seen
        }
        if status.holders.isEmpty, let rest = status.restingFor {
            return ["The lock for loading it rests for \(DurationText.short(rest)) more, since its holder vanished."]
        }
        let waiters = status.waiters.count
        return status.holders.map { holder in
            var line = "\(TerminalText.escaped(holder.name)) loads it"
            if let since = holder.heldFor { line += ", for \(DurationText.short(since))" }
            if let left = holder.remaining { line += "; its lease ends in \(DurationText.short(left)) unless renewed" }
            if waiters > 0 { line += "; \(waiters) wait\(waiters == 1 ? "s" : "") for it" }
            return line + "."
        }
    }

    private var lockError: String? { if case .unknown(let reason) = self.lock { reason } else { nil } }

    /// The explanation for scripts.
    package var json: JSONValue {
        let invalidation: JSONValue
        if case .entry(_, let cause?) = self.view.inspection.content {
            let (kind, text): (String, String?) =
                switch cause.scope {
                case .tag(let tag) where cause.isDamage: ("damage", tag)
                case _ where cause.isDamage: ("damage", nil)
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
            .init("lock", self.status.map { StatusView.json($0) } ?? .null),
            .init("lock_error", .optional(self.lockError)),
        ])
    }
}
