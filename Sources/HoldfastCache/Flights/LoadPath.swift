// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// The loads that the present code runs for, innermost first: a loader that asks for its own key, directly or through
/// others, is found by it.
final class LoadPath: Sendable {
    /// Within which loads the current task runs.
    @TaskLocal static var current: LoadPath?

    let flight: FlightID
    private let outer: LoadPath?

    init(_ flight: FlightID, within outer: LoadPath?) {
        self.flight = flight
        self.outer = outer
    }
}

/// Which load waits for which other: two that wait for each other would never end.
///
/// Only loads that ask caches themselves are here, so it is small.
final class LoadGraph: Sendable {
    private let edges = Mutex<[FlightID: [FlightID: Int]]>([:])

    init() {}

    /// Notes that a load waits for another, unless that waits for it already.
    ///
    /// - Parameters:
    ///   - waiting: Who waits.
    ///   - other: For whom.
    /// - Returns: Whether it may wait; if not, nothing was noted.
    func begin(_ waiting: FlightID, for other: FlightID) -> Bool {
        self.edges.withLock { edges in
            var seen: Set<FlightID> = []
            var left = [other]
            while let flight = left.popLast() {
                if flight == waiting { return false }
                guard seen.insert(flight).inserted else { continue }
                left += edges[flight, default: [:]].keys
            }
            edges[waiting, default: [:]][other, default: 0] += 1
            return true
        }
    }

    /// It waits no more.
    func end(_ waiting: FlightID, for other: FlightID) {
        self.edges.withLock { edges in
            guard let count = edges[waiting]?[other] else { return }
            edges[waiting]?[other] = count > 1 ? count - 1 : nil
            if edges[waiting]?.isEmpty ?? false { edges[waiting] = nil }
        }
    }
}
