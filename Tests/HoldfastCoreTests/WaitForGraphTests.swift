// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import HoldfastTesting
import Testing

@Suite("Who waits for whom")
struct WaitForGraphTests {
    private func status(
        _ resource: Resource,
        holders: [(String, LockMode)],
        waiters: [(String, LockMode, [String])]
    ) -> ResourceStatus {
        ResourceStatus(
            resource: resource,
            holders: holders.map { reference, mode in
                Holder(reference: reference, owner: nil, mode: mode, fencingToken: nil, heldFor: nil, remaining: nil)
            },
            waiters: waiters.enumerated().map { index, waiter in
                Waiter(
                    reference: waiter.0,
                    owner: nil,
                    mode: waiter.1,
                    waitingFor: .seconds(100 - index),
                    holding: waiter.2
                )
            }
        )
    }

    @Test("Waits that converge in a diamond are no circle (matrixone 26302, neo4j 9465)")
    func diamond() {
        let graph = WaitForGraph([
            self.status("a", holders: [("g1", .exclusive)], waiters: [("w2", .exclusive, ["g2"])]),
            self.status("b", holders: [("g1b", .exclusive)], waiters: [("w3", .exclusive, ["g3"])]),
            self.status("c", holders: [("g2", .shared), ("g3", .shared)], waiters: [("w4", .exclusive, ["g4"])]),
        ])
        #expect(graph.nodes.count == 3)
        #expect(graph.deadlocks.isEmpty)
        #expect(graph.deadlock(of: "w4") == nil)
    }

    @Test("Who waits behind a deadlock is not in it")
    func behind() {
        let graph = WaitForGraph([
            self.status("a", holders: [("g1", .exclusive)], waiters: [("w2", .exclusive, ["g2"])]),
            self.status(
                "b",
                holders: [("g2", .exclusive)],
                waiters: [("w1", .exclusive, ["g1"]), ("w3", .exclusive, ["g3"])]
            ),
        ])
        #expect(graph.deadlocks.count == 1)
        #expect(graph.deadlock(of: "w3") == nil)
        #expect(graph.deadlock(of: "w1") != nil)
        #expect(graph.deadlock(of: "w1") == graph.deadlock(of: "w2"))
    }

    @Test("A reader that stands behind a writer is held up by it: the circle goes through the queue")
    func throughQueue() {
        // p reads x and wants z; q wants to write x; r holds z and wants to read x, behind q.
        let graph = WaitForGraph([
            self.status(
                "x",
                holders: [("px", .shared)],
                waiters: [("q", .exclusive, []), ("r", .shared, ["rz"])]
            ),
            self.status("z", holders: [("rz", .exclusive)], waiters: [("p", .exclusive, ["px"])]),
        ])
        let found = graph.deadlock(of: "r")
        #expect(found != nil)
        // The one in the middle holds nothing: its end would help, but it is not what the others wait for.
        #expect(found.map { ["p", "r"].contains($0.victim.waiter.reference) } == true)
    }

    @Test("A deadlock is proven only by a second reading that shows the same")
    func confirmation() throws {
        let a = self.status("a", holders: [("g1", .exclusive)], waiters: [("w2", .exclusive, ["g2"])])
        let b = self.status("b", holders: [("g2", .exclusive)], waiters: [("w1", .exclusive, ["g1"])])
        let other = self.status("b", holders: [("g2", .exclusive)], waiters: [("w9", .exclusive, ["g1"])])
        let first = try #require(WaitForGraph([a, b]).deadlock(of: "w2"))
        #expect(first.isConfirmed(by: WaitForGraph([b, a]).deadlock(of: "w2")))
        #expect(!first.isConfirmed(by: WaitForGraph([a, other]).deadlock(of: "w2")))
        #expect(!first.isConfirmed(by: nil))
    }

    @Test("In 10,000 random histories no deadlock is missed and none is made up", arguments: 0..<10)
    func random(block: Int) throws {
        var deadlocked = 0
        for seed in 0..<1000 {
            var world = RandomWaits(seed: UInt64(block * 1000 + seed))
            try world.play()
            if try world.check() { deadlocked += 1 }
        }
        // Both kinds have to come up for this to mean anything.
        #expect(deadlocked > 50)
        #expect(deadlocked < 950)
    }
}

/// Owners that take and hold and wait at random, and what a plain simulation says of their end.
struct RandomWaits {
    private var generator: SeededGenerator
    private var bench = TableBench()
    private let resources: [Resource] = ["a", "b", "c", "d"]
    /// What each owner holds, the innermost last, and what it waits for.
    private var owners: [(grants: [LockRequest], waits: LockRequest?)] = []
    private let seed: UInt64

    init(seed: UInt64) {
        self.seed = seed
        self.generator = SeededGenerator(seed: seed)
    }

    private struct Wrong: Error, CustomStringConvertible { let description: String }

    /// Plays a history: owners acquire nested locks, some release, some give up.
    mutating func play() throws {
        self.owners = Array(repeating: ([], nil), count: Int.random(in: 2...6, using: &self.generator))
        for _ in 0..<Int.random(in: 5...30, using: &self.generator) {
            let index = Int.random(in: self.owners.indices, using: &self.generator)
            self.bench.pass(.milliseconds(1))
            if let request = self.owners[index].waits {
                if self.generator.chance(0.1) {
                    _ = self.bench.table.withdraw(request.key, at: self.bench.now, signals: &self.bench.signals)
                    self.owners[index].waits = nil
                } else {
                    try self.ask(request, index)
                }
            } else if self.generator.chance(0.25), let last = self.owners[index].grants.popLast() {
                _ = self.bench.table.release(last.key, at: self.bench.now, signals: &self.bench.signals)
            } else if self.owners[index].grants.count < 3 {
                try self.ask(self.newRequest(index), index)
            }
        }
    }

    private mutating func newRequest(_ index: Int) -> LockRequest {
        let resource = self.resources[Int.random(in: 0..<4, using: &self.generator)]
        // The last resource is a semaphore.
        let modes: [LockMode] = resource == "d" ? [.permit(of: 2)] : [.exclusive, .exclusive, .shared, .update]
        var request = self.bench.request(resource, mode: modes.randomElement(using: &self.generator) ?? .exclusive)
        request.holding = self.owners[index].grants.reversed().map(\.id.reference)
        request.fairness = self.generator.chance(0.1) ? .barging : .fair
        return request
    }

    private mutating func ask(_ request: LockRequest, _ index: Int) throws {
        switch try self.bench.acquire(request) {
        case .granted:
            self.owners[index].waits = nil
            self.owners[index].grants.append(request)
        case .waiting: self.owners[index].waits = request
        case .busy, .finished: throw Wrong(description: "seed \(self.seed): an odd answer")
        }
    }

    /// Compares what the graph says with what happens when everybody who can go on does.
    ///
    /// - Returns: Whether there is a deadlock.
    mutating func check() throws -> Bool {
        let statuses = self.resources.map { self.bench.table.status(of: $0, at: self.bench.now) }
        let graph = WaitForGraph(statuses)
        let found = graph.deadlocks
        let stuck = try self.whoNeverEnds()
        guard found.isEmpty == stuck.isEmpty else {
            throw Wrong(description: "seed \(self.seed): found \(found), but stuck are \(stuck)")
        }
        for deadlock in found {
            let members = deadlock.cycle.map(\.from.waiter.reference)
            guard Set(members).isSubset(of: stuck) else {
                throw Wrong(description: "seed \(self.seed): \(members) are not all among \(stuck)")
            }
            for reference in members where graph.deadlock(of: reference)?.victim != deadlock.victim {
                throw Wrong(description: "seed \(self.seed): \(reference) sees another victim")
            }
        }
        return !found.isEmpty
    }

    /// Lets all owners that do not wait release everything, and those then granted, until nothing changes.
    private mutating func whoNeverEnds() throws -> Set<String> {
        var isChanged = true
        while isChanged {
            isChanged = false
            for index in self.owners.indices {
                if let request = self.owners[index].waits {
                    try self.ask(request, index)
                    if self.owners[index].waits == nil { isChanged = true }
                } else if let last = self.owners[index].grants.popLast() {
                    _ = self.bench.table.release(last.key, at: self.bench.now, signals: &self.bench.signals)
                    isChanged = true
                }
            }
        }
        return Set(self.owners.compactMap { $0.waits?.id.reference })
    }
}
