// SPDX-License-Identifier: Apache-2.0

/// What one waiting request needs in order to go on, as indices of other waiting requests.
struct WaitNeed {
    /// A holder in the way, by the requests that keep its grant.
    private struct Obstacle {
        let holder: Holder
        let keepers: [Int]
    }

    /// The requests before it in the queue.
    private let before: Range<Int>
    /// Whether others may pass it, and it them.
    private let isBarging: Bool
    /// The holders that its mode does not fit.
    private let obstacles: [Obstacle]
    /// How many of the obstacles have to go.
    private let goings: Int

    /// Reads the need of a waiter off the state of its resource.
    ///
    /// - Parameters:
    ///   - index: Which of the waiters.
    ///   - status: The resource.
    ///   - first: The index of its first waiter among all.
    ///   - keepers: Who keeps which grant while it waits.
    init(of index: Int, in status: ResourceStatus, first: Int, keepers: [String: [Int]]) {
        let waiter = status.waiters[index]
        let holders = status.holders.filter { $0.reference == nil || $0.reference != waiter.reference }
        let permits = holders.filter(\.mode.isPermit)
        let inTheWay: [Holder]
        switch waiter.mode {
        case .permit(of: let count):
            // One permit is as good as another; a lock of another kind on the same name has to go altogether.
            let others = holders.filter { !$0.mode.isPermit }
            inTheWay = others.isEmpty ? (permits.count < count ? [] : permits) : others
            self.goings = others.isEmpty ? max(0, permits.count - count + 1) : others.count
        case .shared, .update, .exclusive:
            inTheWay = holders.filter { !waiter.mode.isCompatible(with: [$0.mode]) }
            self.goings = inTheWay.count
        }
        self.obstacles = inTheWay.map { holder in
            Obstacle(holder: holder, keepers: holder.reference.flatMap { keepers[$0] } ?? [])
        }
        self.isBarging = waiter.fairness == .barging
        self.before = first..<(self.isBarging ? first : first + index)
    }

    /// Who it waits for.
    ///
    /// - Parameters:
    ///   - needs: The needs of all waiting requests.
    ///   - isOfInterest: Which of the others to name.
    /// - Returns: The others, each with the grant that it keeps, or `nil` when it stands before this one.
    func edges(among needs: [WaitNeed], _ isOfInterest: (Int) -> Bool) -> [(node: Int, grant: Holder?)] {
        let keepers = self.obstacles.flatMap { obstacle in
            obstacle.keepers.filter(isOfInterest).map { (node: $0, grant: Optional(obstacle.holder)) }
        }
        let before = self.before.filter { !needs[$0].isBarging && isOfInterest($0) }
        return keepers + before.map { (node: $0, grant: nil) }
    }

    /// Strikes out, again and again, whoever can go on, until nobody is left who can.
    ///
    /// - Parameter needs: The needs of all waiting requests.
    /// - Returns: For each whether it is left.
    static func stuck(among needs: [WaitNeed]) -> [Bool] {
        var stuck = Array(repeating: true, count: needs.count)
        var isChanged = true
        while isChanged {
            isChanged = false
            for index in needs.indices where stuck[index] && needs[index].canGoOn(among: needs, stuck) {
                stuck[index] = false
                isChanged = true
            }
        }
        return stuck
    }

    private func canGoOn(among needs: [WaitNeed], _ stuck: [Bool]) -> Bool {
        // The last fair one before it goes on only after all before that one.
        if let last = self.before.last(where: { !needs[$0].isBarging }), stuck[last] { return false }
        return self.obstacles.count { obstacle in obstacle.keepers.allSatisfy { !stuck[$0] } } >= self.goings
    }
}
