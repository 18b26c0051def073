// SPDX-License-Identifier: Apache-2.0

/// A binary heap of slots that knows where each slot is: the least priority first, and of equals the one put in first.
struct SlotHeap<Priority: Comparable & Sendable>: Sendable {
    private struct Item: Sendable {
        var priority: Priority
        var order: UInt64
        var slot: Int32

        static func < (left: Item, right: Item) -> Bool {
            left.priority == right.priority ? left.order < right.order : left.priority < right.priority
        }
    }

    private var items: ContiguousArray<Item> = []
    /// For each slot its place among the items, -1 for none.
    private var places: ContiguousArray<Int32> = []
    private var order: UInt64 = 0

    /// The slot with the least priority.
    var first: Int32? { self.items.first?.slot }
    /// The least priority.
    var firstPriority: Priority? { self.items.first?.priority }

    func contains(_ slot: Int32) -> Bool {
        slot >= 0 && Int(slot) < self.places.count && self.places[Int(slot)] >= 0
    }

    /// Puts a slot in, or moves it to where another priority puts it.
    mutating func set(_ slot: Int32, to priority: Priority) {
        self.order += 1
        let item = Item(priority: priority, order: self.order, slot: slot)
        while Int(slot) >= self.places.count { self.places.append(-1) }
        var place = Int(self.places[Int(slot)])
        if place < 0 {
            place = self.items.count
            self.items.append(item)
        }
        self.settle(item, at: place)
    }

    /// Takes a slot out.
    mutating func remove(_ slot: Int32) {
        guard self.contains(slot) else { return }
        let place = Int(self.places[Int(slot)])
        self.places[Int(slot)] = -1
        guard let last = self.items.popLast(), last.slot != slot else { return }
        self.settle(last, at: place)
    }

    /// Writes an item at a place that is free for it, or at the one where it belongs.
    private mutating func settle(_ item: Item, at start: Int) {
        var place = start
        while place > 0, item < self.items[(place - 1) / 2] {
            self.put(self.items[(place - 1) / 2], at: place)
            place = (place - 1) / 2
        }
        while true {
            var child = 2 * place + 1
            guard child < self.items.count else { break }
            if child + 1 < self.items.count, self.items[child + 1] < self.items[child] { child += 1 }
            guard self.items[child] < item else { break }
            self.put(self.items[child], at: place)
            place = child
        }
        self.put(item, at: place)
    }

    private mutating func put(_ item: Item, at place: Int) {
        self.items[place] = item
        self.places[Int(item.slot)] = Int32(place)
    }
}
