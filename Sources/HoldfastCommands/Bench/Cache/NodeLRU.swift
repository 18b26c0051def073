// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// A dictionary of linked objects behind one lock: what one writes in an afternoon, and what small cache packages do.
///
/// ``FlatLRU`` is the same with more thought.
package final class NodeLRU<Key: Hashable & Sendable, Value: Sendable>: Sendable {
    private final class Node {
        let key: Key
        var value: Value
        /// The neighbour that was used later.
        unowned(unsafe) var later: Node?
        /// The one that was used earlier.
        unowned(unsafe) var earlier: Node?

        init(_ key: Key, _ value: Value) {
            self.key = key
            self.value = value
        }
    }

    private struct State {
        /// Keeps the nodes alive.
        var nodes: [Key: Node] = [:]
        unowned(unsafe) var newest: Node?
        unowned(unsafe) var oldest: Node?

        mutating func link(_ node: Node) {
            node.earlier = self.newest
            node.later = nil
            self.newest?.later = node
            self.newest = node
            if self.oldest == nil { self.oldest = node }
        }

        mutating func unlink(_ node: Node) {
            if let later = node.later { later.earlier = node.earlier } else { self.newest = node.earlier }
            if let earlier = node.earlier { earlier.later = node.later } else { self.oldest = node.later }
        }
    }

    private let state = Mutex(State())
    private let capacity: Int

    package init(capacity: Int) { self.capacity = capacity }

    package func cached(_ key: Key) -> Value? {
        self.state.withLock { state in
            guard let node = state.nodes[key] else { return nil }
            state.unlink(node)
            state.link(node)
            return node.value
        }
    }

    package func put(_ value: Value, for key: Key) {
        self.state.withLock { state in
            if let node = state.nodes[key] {
                node.value = value
                state.unlink(node)
                state.link(node)
                return
            }
            let node = Node(key, value)
            state.nodes[key] = node
            state.link(node)
            guard state.nodes.count > self.capacity, let oldest = state.oldest else { return }
            state.unlink(oldest)
            state.nodes[oldest.key] = nil
        }
    }
}

extension NodeLRU: BenchedMemory where Key == Int, Value == Int {}
