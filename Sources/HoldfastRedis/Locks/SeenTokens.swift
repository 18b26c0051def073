// SPDX-License-Identifier: Apache-2.0

package import HoldfastCore

/// The tokens that a store saw, for when a master takes over that does not know what the last one gave: pure.
///
/// Whatever is given from then on must be above the highest, of whatever resource. A token that a lock was handed over
/// with is given by somebody else, who may know less: it must be above what the one who accepts it saw by the time it
/// came to wait. What was seen since may be above it and in order.
package struct SeenTokens: Sendable {
    /// What an answer to a request must reach.
    package struct Floor: Sendable, Hashable {
        /// A new token.
        package let new: Int64
        /// A token that was given before.
        package let accepted: Int64
    }

    private var highest: Int64 = 0
    /// What was seen for each request that waits.
    private var waiting: [RequestID: Int64] = [:]

    /// Starts with none.
    package init() {}

    /// How many requests wait.
    package var count: Int { self.waiting.count }

    /// What a token must reach that is given now.
    package var floor: Int64 { self.highest + 1 }

    /// What the token of a request must reach.
    package func floor(of id: RequestID) -> Floor {
        Floor(new: self.floor, accepted: (self.waiting[id] ?? self.highest) + 1)
    }

    /// Takes note of a token, unless it is one that no clock gives: what is asked for above that nobody could read.
    package mutating func saw(_ token: FencingToken) {
        if let number = Self.number(token) { self.highest = max(self.highest, number) }
    }

    private static func number(_ token: FencingToken) -> Int64? {
        Int64(exactly: token.rawValue).flatMap { $0 <= ScriptReplies.largest ? $0 : nil }
    }

    /// Takes note of the tokens of those in the way.
    package mutating func saw(_ holders: [Holder]) {
        if let token = holders.compactMap(\.fencingToken).max() { self.saw(token) }
    }

    /// Takes note of an answer to a request.
    ///
    /// - Parameters:
    ///   - reply: The answer.
    ///   - id: The request.
    ///   - floor: What its token had to reach when it was sent.
    package mutating func saw(_ reply: AcquireReply, to id: RequestID, _ floor: Floor) {
        switch reply {
        case .granted(let token):
            self.saw(token)
            self.forget(id)
        case .waiting(let place):
            self.saw(place.blockers)
            let seen = place.blockers.compactMap { $0.fencingToken.flatMap(Self.number) }.max() ?? 0
            // What is forgotten counts as having seen all.
            if self.waiting.count >= Limits.rememberedRequests { self.waiting = [:] }
            self.waiting[id] = max(floor.accepted - 1, seen)
        case .busy(let blockers): self.saw(blockers)
        case .finished: self.forget(id)
        }
    }

    /// Notes that a request does not wait any more.
    package mutating func forget(_ id: RequestID) {
        if !self.waiting.isEmpty { self.waiting[id] = nil }
    }
}
