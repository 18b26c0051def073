// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// A walk through nodes in the order of their paths: pure.
struct NodeWalk {
    /// A node.
    struct Place {
        let path: String
        /// The parts of the path, by which places are ordered.
        let parts: [Substring]

        init(_ path: String) {
            self.path = path
            self.parts = LockPath.parts(of: path).filter { !$0.isEmpty }
        }

        func isBefore(_ other: Place) -> Bool {
            self.parts.lexicographicallyPrecedes(other.parts) { $0.utf8.lexicographicallyPrecedes($1.utf8) }
        }
    }

    /// A node with a queue.
    struct Candidate {
        let place: Place
        let resource: Resource
        let view: QueueView
    }

    /// How many nodes are listed at once.
    private static let width = 256

    private let root: String
    private let after: Place?
    /// What has to be listed, the last first.
    private var stack: [Place] = []
    private var hasNews = false
    /// What was listed and has a queue.
    private var candidates: [Candidate] = []

    /// Begins a walk.
    ///
    /// - Parameters:
    ///   - root: Where to begin; empty for the top.
    ///   - cursor: The last path of the walk before.
    init(root: String, after cursor: String?) {
        self.root = root
        self.after = cursor.map(Place.init)
        self.stack = [Place(root.isEmpty ? "/" : root)]
    }

    /// The nodes to list now, or `nil` when all have been.
    mutating func next() -> [Place]? {
        guard !self.stack.isEmpty else { return nil }
        let places = self.stack.suffix(Self.width).reversed()
        self.stack.removeLast(places.count)
        return Array(places)
    }

    /// Takes the children of a node.
    mutating func found(_ children: [String], at place: Place, _ layout: ZooKeeperConfiguration.Layout) {
        let base = place.path == "/" ? "" : place.path
        for child in children {
            guard LockName.read(child, as: layout) == .junk else { continue }
            if base == self.root, LockPath.isOwnRoom(child) || (base.isEmpty && child == "zookeeper") { continue }
            let next = Place("\(base)/\(child)")
            if self.mayHaveNew(next) {
                self.stack.append(next)
                self.hasNews = true
            }
        }
    }

    /// Takes a node with a queue, unless it belongs to a page before.
    mutating func add(_ candidate: Candidate) {
        if self.after.map({ $0.isBefore(candidate.place) }) ?? true { self.candidates.append(candidate) }
    }

    /// The candidates before which nothing is left to list, in order.
    mutating func takeReady() -> [Candidate] {
        if self.hasNews { self.stack.sort { $1.isBefore($0) } }
        self.hasNews = false
        self.candidates.sort { $0.place.isBefore($1.place) }
        guard let limit = self.stack.last else {
            defer { self.candidates = [] }
            return self.candidates
        }
        let count = self.candidates.prefix { $0.place.isBefore(limit) }.count
        defer { self.candidates.removeFirst(count) }
        return Array(self.candidates.prefix(count))
    }

    /// Whether a place, or one below it, comes after the cursor.
    private func mayHaveNew(_ place: Place) -> Bool {
        guard let after else { return true }
        return after.isBefore(place) || after.parts.starts(with: place.parts)
    }
}
