// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// A dictionary and a list for the order of use behind one lock, as fast as that gets: the links are numbers in an array, so
/// that a use allocates nothing and counts no references, and keys and values are numbers too.
package final class FlatLRU: BenchedMemory {
    private struct Node {
        var key: Int
        var value: Int
        /// The neighbour that was used later, and the one used earlier; a ring through the node at 0, which is no entry.
        var later: Int32
        var earlier: Int32
    }

    private struct State {
        var places: [Int: Int32] = [:]
        var nodes: ContiguousArray<Node> = [Node(key: 0, value: 0, later: 0, earlier: 0)]
        let capacity: Int

        init(capacity: Int) {
            self.capacity = capacity
            self.places.reserveCapacity(capacity + 1)
            self.nodes.reserveCapacity(capacity + 1)
        }

        mutating func cached(_ key: Int) -> Int? {
            guard let place = self.places[key] else { return nil }
            self.unlink(place)
            self.link(place)
            return self.nodes[Int(place)].value
        }

        mutating func put(_ value: Int, for key: Int) {
            if let place = self.places[key] {
                self.nodes[Int(place)].value = value
                self.unlink(place)
                return self.link(place)
            }
            let node = Node(key: key, value: value, later: 0, earlier: 0)
            let place: Int32
            if self.nodes.count <= self.capacity {
                place = Int32(self.nodes.count)
                self.nodes.append(node)
            } else {
                place = self.nodes[0].later
                self.unlink(place)
                self.places[self.nodes[Int(place)].key] = nil
                self.nodes[Int(place)] = node
            }
            self.places[key] = place
            self.link(place)
        }

        /// Puts a node before all others.
        private mutating func link(_ place: Int32) {
            let first = self.nodes[0].earlier
            self.nodes[Int(place)].later = 0
            self.nodes[Int(place)].earlier = first
            self.nodes[Int(first)].later = place
            self.nodes[0].earlier = place
        }

        private mutating func unlink(_ place: Int32) {
            let (later, earlier) = (self.nodes[Int(place)].later, self.nodes[Int(place)].earlier)
            self.nodes[Int(later)].earlier = earlier
            self.nodes[Int(earlier)].later = later
        }
    }

    private let state: Mutex<State>

    package init(capacity: Int) { self.state = Mutex(State(capacity: capacity)) }

    package func cached(_ key: Int) -> Int? { self.state.withLock { $0.cached(key) } }

    package func put(_ value: Int, for key: Int) { self.state.withLock { $0.put(value, for: key) } }
}
