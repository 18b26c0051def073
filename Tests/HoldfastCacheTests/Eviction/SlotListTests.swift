// SPDX-License-Identifier: Apache-2.0

import HoldfastTesting
import Testing

@testable import HoldfastCache

@Suite("The list of slots, the heap of slots and the ghost")
struct SlotListTests {
    @Test(arguments: [1, 2, 3, 4])
    func linksStaySoundUnderRandomMoves(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        var nodes = SlotNodes()
        var lists = [SlotList(), SlotList()]
        var model: [[Int32]] = [[], []]
        for slot in Int32(0)..<40 {
            nodes.open(EvictionEntry(slot: slot, hash: 0, weight: Int(slot) + 1))
        }
        for _ in 0..<5000 {
            let slot = Int32.random(in: 0..<40, using: &generator)
            let target = Int.random(in: 0..<2, using: &generator)
            if let source = model.firstIndex(where: { $0.contains(slot) }) {
                model[source].removeAll { $0 == slot }
                if Bool.random(using: &generator) {
                    nodes.promote(slot, in: &lists[source])
                    model[source].insert(slot, at: 0)
                } else {
                    nodes.unlink(slot, from: &lists[source])
                }
            } else {
                nodes.prepend(slot, to: &lists[target], at: SlotNode.listed + UInt8(target))
                model[target].insert(slot, at: 0)
            }
            for index in 0..<2 { #expect(nodes.slots(of: lists[index]) == model[index]) }
        }
        var (first, second) = (lists[0], lists[1])
        nodes.append(&second, to: &first)
        #expect(nodes.slots(of: first) == model[0] + model[1])
        #expect(second.count == 0)
    }

    @Test(arguments: [1, 2, 3])
    func heapGivesTheLeastPriorityAndOfEqualsTheFirst(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var heap = SlotHeap<Int>()
        var model: [(priority: Int, order: Int, slot: Int32)] = []
        for order in 0..<3000 {
            let slot = Int32.random(in: 0..<60, using: &generator)
            model.removeAll { $0.slot == slot }
            if Int.random(in: 0..<3, using: &generator) == 0 {
                heap.remove(slot)
            } else {
                let priority = Int.random(in: 0..<20, using: &generator)
                heap.set(slot, to: priority)
                model.append((priority, order, slot))
            }
            let least = model.min { ($0.priority, $0.order) < ($1.priority, $1.order) }
            #expect(heap.first == least?.slot)
            #expect(heap.contains(slot) == model.contains { $0.slot == slot })
        }
    }

    @Test
    func ghostRemembersTheLatestDeparturesAndForgetsOlderOnes() {
        var ghost = GhostTable()
        for hash in 1...UInt32(4000) { ghost.add(hash &* 2_654_435_761, span: 1000) }
        let remembered = (3001...UInt32(4000)).filter { ghost.take($0 &* 2_654_435_761, span: 1000) }
        let forgotten = (1...UInt32(3000)).filter { !ghost.take($0 &* 2_654_435_761, span: 1000) }
        #expect(remembered.count > 970)
        #expect(forgotten.count > 2990)
        let isTakenTwice = ghost.take(3500 &* 2_654_435_761, span: 1000)
        #expect(!isTakenTwice)
    }
}
