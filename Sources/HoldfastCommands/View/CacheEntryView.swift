// SPDX-License-Identifier: Apache-2.0

package import HoldfastCache
import HoldfastCore

/// What lies in a tier for a key, for people and for scripts.
package struct CacheEntryView: Sendable {
    /// What was seen.
    package let inspection: TierInspector.Inspection

    /// The codec of ``JSONCacheCodec``.
    private static let json = JSONCacheCodec<String>().id

    /// Makes a view.
    package init(_ inspection: TierInspector.Inspection) { self.inspection = inspection }

    /// What there is in one word: `fresh`, `revalidating`, `stale`, `over`, `not-found` (it is known that there is
    /// nothing), `invalidated`, `unreadable`, `removed` or `absent`.
    package var state: String {
        switch self.inspection.content {
        case .nothing: "absent"
        case .tombstone: "removed"
        case .unreadable: "unreadable"
        case .entry(_, .some): "invalidated"
        case .entry(let envelope, nil):
            envelope.isNotFound ? "not-found" : self.inspection.standing?.rawValue ?? "over"
        }
    }

    /// The envelope, also of an entry that is not valid.
    package var envelope: Envelope? {
        if case .entry(let envelope, _) = self.inspection.content { envelope } else { nil }
    }

    /// The name of what made the value's bytes.
    package var codec: String? {
        self.envelope.map { $0.codec == Self.json ? "json" : "codec \($0.codec)" }
    }

    /// The value, if it is JSON.
    package var value: JSONText? {
        guard let envelope = self.envelope, envelope.codec == Self.json, !envelope.isNotFound else { return nil }
        return JSONText(envelope.payload)
    }

    /// How long it is fresh from now on, below zero when it is not any more; `nil` for without end, or without an entry.
    package var freshFor: Duration? { self.envelope.flatMap { self.left(of: $0.freshFor) } }

    /// How long it may be used in one way or another; no tier keeps anything for longer than it may live.
    package var keptFor: Duration? {
        self.envelope.flatMap { self.left(of: min($0.keptFor, CacheLimits.longestLife.nanoseconds)) }
    }

    private func left(of length: Int64) -> Duration? {
        length == .max ? nil : .nanoseconds(length) - self.inspection.age
    }

    // MARK: - In a list

    /// A table for rows of entries.
    package static var table: TextTable {
        TextTable([
            ("KEY", .left), ("STATE", .left), ("SIZE", .right), ("AGE", .right), ("TTL LEFT", .right),
            ("VERSION", .right), ("TAGS", .left),
        ])
    }

    /// The entry as a row.
    package var row: [String] {
        [
            self.inspection.key,
            self.state,
            self.envelope.map { String($0.payload.count) } ?? "-",
            self.inspection.version == 0 ? "-" : DurationText.short(self.inspection.age),
            self.envelope == nil ? "-" : self.freshFor.map(DurationText.short) ?? "no end",
            self.inspection.version == 0 ? "-" : String(self.inspection.version),
            self.envelope?.tags.joined(separator: ",") ?? "",
        ]
    }

    /// The entry as JSON.
    ///
    /// - Parameter includesValue: Whether its value is among the members.
    /// - Returns: An object.
    package func json(includesValue: Bool = false) -> JSONValue {
        let envelope = self.envelope
        var members: [JSONValue.Member] = [
            .init("key", .string(self.inspection.key)),
            .init("state", .string(self.state)),
            .init("version", self.inspection.version == 0 ? .null : .integer(Int64(clamping: self.inspection.version))),
            .init("age_s", self.inspection.version == 0 ? .null : Self.seconds(self.inspection.age)),
            .init("ttl_left_s", Self.seconds(self.freshFor)),
            .init("kept_left_s", Self.seconds(self.keptFor)),
            .init("tags", .array((envelope?.tags ?? []).map(JSONValue.string))),
            .init("size", envelope.map { .integer(Int64($0.payload.count)) } ?? .null),
            .init("codec", .optional(self.codec)),
            .init("entity_tag", .optional(envelope?.entityTag)),
            .init("writer", .optional(envelope.flatMap { $0.writer.isEmpty ? nil : $0.writer })),
        ]
        if includesValue { members.append(.init("value", self.value.map(JSONValue.json) ?? .null)) }
        return .object(members)
    }

    private static func seconds(_ duration: Duration?) -> JSONValue {
        duration.map { .decimal($0.inSeconds, places: 3) } ?? .null
    }

    // MARK: - In words

    /// What made an entry invalid, in words.
    package static func words(_ scope: InvalidationScope) -> String {
        switch scope {
        case .all: "everything"
        case .prefix(let prefix): "the prefix '\(TerminalText.escaped(prefix))'"
        case .tag(let tag): "the tag '\(TerminalText.escaped(tag))'"
        }
    }

    /// Why there is no value to use, in words that follow the key; `nil` when there is one.
    package var absence: String? {
        switch self.inspection.content {
        case .nothing: "is not there"
        case .tombstone: "was removed \(DurationText.short(self.inspection.age)) ago"
        case .unreadable(.foreign): "is not an entry that this version can read"
        case .unreadable(.damaged): "is damaged, or was written for another key"
        case .unreadable(.tooLarge): "is larger than any service reads"
        case .entry(_, .some(let invalidation)) where invalidation.isDamage:
            switch invalidation.scope {
            case .tag:
                "is invalid since the mark of \(Self.words(invalidation.scope)) is damaged, until that is invalidated"
            case .all, .prefix: "is invalid since the marks of the cache are damaged, until something is invalidated"
            }
        case .entry(_, let invalidation?): "is invalid since \(Self.words(invalidation.scope)) was invalidated"
        case .entry(let envelope, nil):
            envelope.isNotFound
                ? "is known not to exist, since \(DurationText.short(self.inspection.age))"
                : self.inspection.standing == .over ? "has expired" : nil
        }
    }
}
