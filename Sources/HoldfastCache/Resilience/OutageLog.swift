// SPDX-License-Identifier: Apache-2.0

/// What was changed in one namespace while its tier could not be told: a pure value.
///
/// Bounded: what is too much, or too long to be written down, is everything.
struct OutageLog: Sendable, Hashable {
    /// One thing that was changed, by bytes: two texts of other bytes can be equal to Swift, and are two on a server.
    private struct Item: Sendable, Hashable {
        let kind: UInt8
        let text: [UInt8]
    }

    /// The most things that are told apart: to tell them takes a round trip for each that is not a key.
    static let most = 1024

    private static let (key, tag, prefix, everything) = (
        UInt8(ascii: "k"), UInt8(ascii: "t"), UInt8(ascii: "p"), UInt8(ascii: "a")
    )

    private var items: Set<Item> = []
    /// Whether all of the namespace is concerned.
    private(set) var isEverything = false

    /// Nothing was changed.
    init() {}

    /// Keys were changed.
    init(keys: some Sequence<String>) { for key in keys { self.add(Item(kind: Self.key, text: Array(key.utf8))) } }

    /// Something was invalidated.
    init(_ scope: InvalidationScope) {
        switch scope {
        case .all: self.addEverything()
        case .tag(let tag): self.add(Item(kind: Self.tag, text: Array(tag.utf8)))
        case .prefix(let prefix): self.add(Item(kind: Self.prefix, text: Array(prefix.utf8)))
        }
    }

    /// Whether nothing was changed.
    var isEmpty: Bool { self.items.isEmpty && !self.isEverything }

    /// The keys that were changed.
    var keys: [String] { self.texts(Self.key) }

    /// What was invalidated.
    var scopes: [InvalidationScope] {
        if self.isEverything { return [.all] }
        return self.texts(Self.tag).map { .tag($0) } + self.texts(Self.prefix).map { .prefix($0) }
    }

    private func texts(_ kind: UInt8) -> [String] {
        self.items.filter { $0.kind == kind }.map { String(decoding: $0.text, as: UTF8.self) }
    }

    /// Adds what another log has.
    mutating func add(_ other: OutageLog) {
        if other.isEverything { self.addEverything() }
        for item in other.items { self.add(item) }
    }

    /// What is to be written down of a change that was added to this log.
    ///
    /// Each time, also what was written down before: somebody may have told it and made it invalid since.
    func record(of changed: OutageLog) -> OutageLog { self.isEverything ? self : changed }

    /// Adds that all of the namespace is concerned.
    mutating func addEverything() {
        self.isEverything = true
        self.items = []
    }

    private mutating func add(_ item: Item) {
        guard !self.isEverything else { return }
        self.items.insert(item)
        if self.items.count > Self.most { self.addEverything() }
    }

    // MARK: - Written down

    /// The keys under which it is written down, one for each thing: `LENGTH:NAMESPACE` and kind and text.
    func records(of namespace: String) -> [String] {
        let start = "\(namespace.utf8.count):\(namespace)"
        let all = start + "a"
        guard !self.isEverything else { return [all] }
        let records = self.items.map { item in
            start + String(decoding: [item.kind], as: UTF8.self) + String(decoding: item.text, as: UTF8.self)
        }
        return records.contains { $0.utf8.count > CacheLimits.maximumKey } ? [all] : records
    }

    /// Reads records of any namespaces; what is none is left out.
    static func read(_ records: [String]) -> [String: OutageLog] {
        var logs: [String: OutageLog] = [:]
        for record in records {
            let bytes = Array(record.utf8)
            guard let colon = bytes.firstIndex(of: UInt8(ascii: ":")),
                let length = Int(String(decoding: bytes[..<colon], as: UTF8.self)), length >= 0,
                bytes.count - colon - 2 >= length
            else { continue }
            let namespace = String(decoding: bytes[(colon + 1)...].prefix(length), as: UTF8.self)
            let kind = bytes[colon + 1 + length]
            let text = Array(bytes[(colon + 2 + length)...])
            switch kind {
            case Self.key, Self.tag, Self.prefix:
                logs[namespace, default: OutageLog()].add(Item(kind: kind, text: text))
            case Self.everything: logs[namespace, default: OutageLog()].addEverything()
            default: continue
            }
        }
        return logs
    }
}

/// Which of two tiers a version or a mark is of: its lowest bit says it, so that none is taken for one of the other.
enum TierSide: UInt64, Sendable {
    case primary = 0
    case secondary = 1

    /// What others are told of a number of this tier; 0 stays 0.
    func outward(_ number: UInt64) -> UInt64 { number == 0 ? 0 : number << 1 | self.rawValue }

    /// What others are told of the current mark.
    ///
    /// Where nothing was invalidated yet it is 0; that of the secondary is told from that of the primary all the same.
    func outwardMark(_ mark: UInt64) -> UInt64 { mark << 1 | self.rawValue }

    /// The tier's own number.
    func inward(_ number: UInt64) -> UInt64 { number >> 1 }

    /// Whether a number is of this tier, or of none.
    func owns(_ number: UInt64) -> Bool { number == 0 || number & 1 == self.rawValue }

    /// Whether two numbers are of the same tier, or one of none: the others say nothing about each other.
    static func areComparable(_ one: UInt64, _ other: UInt64) -> Bool { one == 0 || other == 0 || one & 1 == other & 1 }
}
