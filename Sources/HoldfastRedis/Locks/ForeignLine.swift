// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// Who waits for foreign holders of which keys, of which a server tells when they change: pure.
struct ForeignLine: Sendable {
    /// Who looks again, and after what.
    typealias Look = (id: RequestID, pause: Duration)

    /// How much later each place in line looks than the one before: the first is enough, if it is there.
    private static let pausePerPlace: Duration = .milliseconds(2)
    /// The longest of these pauses.
    static let longestPause: Duration = .milliseconds(100)
    /// How often to look at a key that never expires by itself, besides being told.
    private static let endlessCheck: Duration = .seconds(60)

    /// By key, and by place in line.
    private var waiting: [String: [RequestID: Int]] = [:]

    /// When to look at a holder's key, besides being told.
    static func check(on holder: Holder) -> Duration { (holder.remaining ?? Self.endlessCheck) + Limits.checkSpread }

    /// The foreign holder that is in the way of somebody who waits.
    static func holder(in place: AcquireReply.Waiting) -> Holder? {
        place.blockers.first.flatMap { $0.reference == nil && $0.mode == .exclusive ? $0 : nil }
    }

    /// Takes somebody in.
    ///
    /// - Returns: Whether the server has been asked to tell of the key already.
    mutating func enter(_ id: RequestID, at place: Int, for key: String) -> Bool {
        defer { self.waiting[key, default: [:]][id] = place }
        return self.waiting[key] != nil
    }

    /// Whether anybody waits for a key.
    func isWatched(_ key: String) -> Bool { self.waiting[key] != nil }

    /// Forgets all who wait for a key.
    mutating func drop(_ key: String) { self.waiting[key] = nil }

    /// Forgets everybody.
    mutating func clear() { self.waiting = [:] }

    /// Forgets one.
    mutating func forget(_ id: RequestID, for key: String) {
        guard !self.waiting.isEmpty else { return }
        self.waiting[key]?[id] = nil
        if self.waiting[key]?.isEmpty == true { self.waiting[key] = nil }
    }

    /// Takes out who waits for keys that changed; `nil` for all.
    mutating func take(_ keys: [String]?) -> [Look] {
        let found: [[RequestID: Int]]
        if let keys {
            found = keys.compactMap { self.waiting.removeValue(forKey: $0) }
        } else {
            found = Array(self.waiting.values)
            self.waiting = [:]
        }
        return found.flatMap(\.self).map { ($0.key, min(Self.pausePerPlace * $0.value, Self.longestPause)) }
    }
}
