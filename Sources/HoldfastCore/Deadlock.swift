// SPDX-License-Identifier: Apache-2.0

/// Requests that wait for each other in a circle.
public struct Deadlock: Sendable, Hashable {
    /// The circle, beginning and ending with the request that gives up.
    ///
    /// Never empty.
    public let cycle: [WaitForGraph.Edge]

    init?(cycle: [WaitForGraph.Edge]) {
        if cycle.isEmpty { return nil }
        self.cycle = cycle
    }

    /// The request that gives up: of those that keep a lock that another one in the deadlock waits for, the one with the
    /// lowest priority; among equals the youngest.
    public var victim: WaitForGraph.Node { self.cycle[0].from }

    /// Whether another reading shows the same: the same requests wait for the same grants.
    ///
    /// - Parameter other: What a later reading found.
    /// - Returns: Whether the deadlock is proven.
    public func isConfirmed(by other: Deadlock?) -> Bool {
        guard let other, other.cycle.count == self.cycle.count else { return false }
        return zip(self.cycle, other.cycle).allSatisfy { left, right in
            Self.ends(left.from) == Self.ends(right.from) && left.grant?.reference == right.grant?.reference
        }
    }

    private static func ends(_ node: WaitForGraph.Node) -> [String] { [node.resource.name, node.waiter.reference] }
}

extension Deadlock: CustomStringConvertible {
    /// One line: who waits for what, which whom holds, and so on round.
    public var description: String {
        self.cycle.map { edge in
            let waiter = edge.from.waiter.owner?.description ?? "an unknown owner"
            let blocker = (edge.grant?.owner ?? edge.to.waiter.owner)?.description ?? "an unknown owner"
            let manner = edge.grant == nil ? "behind" : "held by"
            return "\(waiter) waits for \(edge.from.resource) \(manner) \(blocker)"
        }.joined(separator: ", ")
    }
}
