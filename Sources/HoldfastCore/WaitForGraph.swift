// SPDX-License-Identifier: Apache-2.0

/// Who waits for whom, over any number of resources: pure.
///
/// Its nodes are waiting requests. A request waits for the holders that its mode does not fit, and for every fair request
/// before it in the queue; for a permit of a semaphore, one holder of several is enough. A holder can be waited for in
/// vain only when requests wait that keep its grant (``Waiter/holding``): work that goes on beside a wait of the same
/// owner is not held up by it.
///
/// A request that can go on by the rules once those before it have gone on is no part of a deadlock; what is left when
/// all of these are struck out is deadlocked, or behind a deadlock. (The reduction of a general resource graph: Holt,
/// "Some Deadlock Properties of Computer Systems", ACM Computing Surveys 4(3), 1972.)
public struct WaitForGraph: Sendable {
    /// One waiting request.
    public struct Node: Sendable, Hashable {
        /// What it waits for.
        public let resource: Resource
        /// The request.
        public let waiter: Waiter
    }

    /// One request waiting for another.
    public struct Edge: Sendable, Hashable {
        /// The waiting request.
        public let from: Node
        /// The request that it waits for.
        public let to: Node
        /// The grant in the way, kept by ``to``; `nil` when ``to`` stands before ``from`` in the same queue.
        public let grant: Holder?
    }

    /// The waiting requests, in the order of the resources' names and their queues.
    public let nodes: [Node]
    private let needs: [WaitNeed]
    private let stuck: [Bool]

    /// Makes the graph of what some resources say.
    ///
    /// - Parameter resources: The resources, as they were at one moment. Of one that comes twice the last one counts.
    public init(_ resources: [ResourceStatus]) { self.init(stores: [resources]) }

    /// Makes the graph of what the resources of several stores say, where one name may mean several locks.
    ///
    /// - Parameter stores: The resources of each store.
    package init(stores: [[ResourceStatus]]) {
        var statuses: [ResourceStatus] = []
        for resources in stores {
            var byName: [Resource: ResourceStatus] = [:]
            for resource in resources { byName[resource.resource] = resource }
            statuses += byName.values.sorted { $0.resource < $1.resource }
        }
        var nodes: [Node] = []
        var keepers: [String: [Int]] = [:]
        var firsts: [Int] = []
        for status in statuses {
            firsts.append(nodes.count)
            for waiter in status.waiters {
                for reference in waiter.holding { keepers[reference, default: []].append(nodes.count) }
                nodes.append(Node(resource: status.resource, waiter: waiter))
            }
        }
        var needs: [WaitNeed] = []
        for (status, first) in zip(statuses, firsts) {
            for index in status.waiters.indices {
                needs.append(WaitNeed(of: index, in: status, first: first, keepers: keepers))
            }
        }
        self.nodes = nodes
        self.stuck = WaitNeed.stuck(among: needs)
        self.needs = needs
    }

    /// Who waits for whom.
    public var edges: [Edge] {
        self.nodes.indices.flatMap { index in
            self.needs[index].edges(among: self.needs) { _ in true }.map { edge in
                Edge(from: self.nodes[index], to: self.nodes[edge.node], grant: edge.grant)
            }
        }
    }

    /// The deadlock that a request is in.
    ///
    /// A request that waits behind a deadlock without being part of it is in none.
    ///
    /// - Parameter reference: The request.
    /// - Returns: The deadlock, or `nil`. The same for every request that is in it.
    public func deadlock(of reference: String) -> Deadlock? { self.deadlock(of: reference, ignoringAges: false) }

    /// The same.
    ///
    /// - Parameters:
    ///   - reference: The request.
    ///   - ignoresAges: Whether to choose who gives up by priority and reference alone, which is the same for all who
    ///     look; ages are not where they were read on several clocks, or at several moments.
    /// - Returns: The deadlock, or `nil`.
    package func deadlock(of reference: String, ignoringAges ignoresAges: Bool) -> Deadlock? {
        for start in self.nodes.indices where self.nodes[start].waiter.reference == reference {
            let members = self.component(of: start)
            if !members.isEmpty { return self.deadlock(among: members, ignoringAges: ignoresAges) }
        }
        return nil
    }

    /// All deadlocks, each once.
    public var deadlocks: [Deadlock] {
        var seen: Set<Int> = []
        var found: [Deadlock] = []
        for start in self.nodes.indices where !seen.contains(start) {
            let members = self.component(of: start)
            seen.formUnion(members)
            if let deadlock = self.deadlock(among: members) { found.append(deadlock) }
        }
        return found
    }

    // MARK: - Search

    private func stuckEdges(of node: Int) -> [(node: Int, grant: Holder?)] {
        self.stuck[node] ? self.needs[node].edges(among: self.needs) { self.stuck[$0] } : []
    }

    /// All nodes that can be reached from a node and reach it in turn; empty when it does not reach itself.
    private func component(of start: Int) -> Set<Int> {
        guard self.stuck[start] else { return [] }
        let forward = self.reach(from: start) { self.stuckEdges(of: $0).map(\.node) }
        guard forward.contains(start) else { return [] }
        var back: [Int: [Int]] = [:]
        for node in forward { for edge in self.stuckEdges(of: node) { back[edge.node, default: []].append(node) } }
        return forward.intersection(self.reach(from: start) { back[$0] ?? [] })
    }

    /// What a depth-first search finds beyond a node; the node itself only when a way leads back to it.
    private func reach(from start: Int, next: (Int) -> [Int]) -> Set<Int> {
        var found: Set<Int> = []
        var stack = next(start)
        while let node = stack.popLast() {
            if found.insert(node).inserted { stack += next(node) }
        }
        return found
    }

    private func deadlock(among members: Set<Int>, ignoringAges ignoresAges: Bool = false) -> Deadlock? {
        // Only one who keeps a grant that another member waits for can end the deadlock by giving up.
        let keepers = Set(
            members.flatMap { self.stuckEdges(of: $0) }.filter { $0.grant != nil && members.contains($0.node) }.map(
                \.node
            )
        )
        guard let victim = keepers.min(by: { self.givesUpSooner($0, $1, ignoresAges) }) else { return nil }
        return Deadlock(cycle: self.cycle(from: victim, within: members))
    }

    /// Lower priority before higher, younger before older; ties by reference, so that everybody chooses alike.
    private func givesUpSooner(_ left: Int, _ right: Int, _ ignoresAges: Bool) -> Bool {
        let (left, right) = (self.nodes[left].waiter, self.nodes[right].waiter)
        if ignoresAges { return (left.priority, left.reference) < (right.priority, right.reference) }
        let (leftAge, rightAge) = (left.waitingFor ?? .zero, right.waitingFor ?? .zero)
        return (left.priority, leftAge, left.reference) < (right.priority, rightAge, right.reference)
    }

    /// The shortest way from a node back to itself.
    private func cycle(from start: Int, within members: Set<Int>) -> [Edge] {
        var cameBy: [Int: (node: Int, grant: Holder?)] = [:]
        var queue = [start]
        var index = 0
        while index < queue.count, cameBy[start] == nil {
            let node = queue[index]
            index += 1
            for edge in self.stuckEdges(of: node) where members.contains(edge.node) && cameBy[edge.node] == nil {
                cameBy[edge.node] = (node, edge.grant)
                queue.append(edge.node)
            }
        }
        var way: [Edge] = []
        var node = start
        repeat {
            guard let step = cameBy[node] else { return [] }
            way.append(Edge(from: self.nodes[step.node], to: self.nodes[node], grant: step.grant))
            node = step.node
        } while node != start
        return way.reversed()
    }

    // MARK: - Gathering

    /// Collects the resources that an owner's requests hang on.
    ///
    /// - Parameters:
    ///   - owner: Where to begin.
    ///   - waits: What an owner waits for.
    ///   - status: Describes a resource.
    /// - Returns: The resources, at most ``Limits/maximumWaitGraph``.
    /// - Throws: What the closures throw.
    package static func reach<Failure: Error>(
        of owner: OwnerID,
        waits: (OwnerID) throws(Failure) -> [Resource],
        status: (Resource) throws(Failure) -> ResourceStatus
    ) throws(Failure) -> [ResourceStatus] {
        var found: [ResourceStatus] = []
        var owners: Set<OwnerID> = [owner]
        var resources: Set<Resource> = []
        var next = [owner]
        while let owner = next.popLast() {
            for resource in try waits(owner) where resources.insert(resource).inserted {
                guard found.count < Limits.maximumWaitGraph else { return found }
                let status = try status(resource)
                found.append(status)
                let inTheWay = status.holders.compactMap(\.owner) + status.waiters.compactMap(\.owner)
                next += inTheWay.filter { owners.insert($0).inserted }
            }
        }
        return found
    }
}
