// SPDX-License-Identifier: Apache-2.0

/// One entry of a policy: its neighbours in the list that it is in, and what the policies keep with it.
struct SlotNode: Sendable {
    /// Not in use.
    static let absent: UInt8 = 0
    /// Known, but in no list: never evicted.
    static let pinned: UInt8 = 1
    /// The first of the numbers that a policy gives to its own lists.
    static let listed: UInt8 = 2

    /// The neighbour towards the head, -1 for none.
    var previous: Int32 = -1
    /// The neighbour towards the tail, -1 for none.
    var next: Int32 = -1
    var weight = 0
    /// A policy's own: a folded hash, an epoch.
    var tag: UInt32 = 0
    /// Which list it is in, or one of the two numbers above.
    var place = SlotNode.absent
    /// A policy's own: a reference bit, a count.
    var mark: UInt8 = 0
}

/// The two ends of a doubly linked list, and what it weighs.
struct SlotList: Sendable {
    /// The youngest, -1 for none.
    fileprivate(set) var head: Int32 = -1
    /// The oldest, -1 for none.
    fileprivate(set) var tail: Int32 = -1
    fileprivate(set) var weight = 0
    fileprivate(set) var count = 0
}

/// The nodes of all lists of a policy, one for each slot.
///
/// The links are inside the nodes, and the nodes in one array that is as long as the largest slot ever used: moving an
/// entry never allocates.
struct SlotNodes: Sendable {
    private var nodes: ContiguousArray<SlotNode> = []

    subscript(slot: Int32) -> SlotNode {
        _read { yield self.nodes[Int(slot)] }
        _modify { yield &self.nodes[Int(slot)] }
    }

    /// Whether the policy knows the slot.
    func contains(_ slot: Int32) -> Bool {
        slot >= 0 && Int(slot) < self.nodes.count && self.nodes[Int(slot)].place != SlotNode.absent
    }

    /// Makes the slot's node ready: pinned, with the entry's weight and nothing else.
    ///
    /// The array grows by doubling.
    mutating func open(_ entry: EvictionEntry) {
        precondition(entry.slot >= 0 && !self.contains(entry.slot), "A new entry needs a slot that is not in use")
        precondition(entry.weight >= 0, "A weight is 0 or more")
        while Int(entry.slot) >= self.nodes.count { self.nodes.append(SlotNode()) }
        self.nodes[Int(entry.slot)] = SlotNode(weight: entry.weight, place: SlotNode.pinned)
    }

    /// Forgets the slot, which must be in no list.
    mutating func close(_ slot: Int32) { self.nodes[Int(slot)].place = SlotNode.absent }

    /// Puts a slot, which must be in no list, at the head of one.
    mutating func prepend(_ slot: Int32, to list: inout SlotList, at place: UInt8) {
        let old = list.head
        var nodes = self.nodes.mutableSpan
        nodes[Int(slot)].place = place
        nodes[Int(slot)].previous = -1
        nodes[Int(slot)].next = old
        if old >= 0 { nodes[Int(old)].previous = slot } else { list.tail = slot }
        list.head = slot
        list.weight += nodes[Int(slot)].weight
        list.count += 1
    }

    /// Takes a slot out of its list.
    ///
    /// It is pinned then, until it is put into another list or closed.
    mutating func unlink(_ slot: Int32, from list: inout SlotList) {
        var nodes = self.nodes.mutableSpan
        let (previous, next) = (nodes[Int(slot)].previous, nodes[Int(slot)].next)
        if previous >= 0 { nodes[Int(previous)].next = next } else { list.head = next }
        if next >= 0 { nodes[Int(next)].previous = previous } else { list.tail = previous }
        nodes[Int(slot)].place = SlotNode.pinned
        list.weight -= nodes[Int(slot)].weight
        list.count -= 1
    }

    /// Moves a slot to the head of the list that it is in.
    mutating func promote(_ slot: Int32, in list: inout SlotList) {
        let head = list.head
        if head == slot { return }
        // A span looks once whether the array is the only owner, and not at each write. The slot is not the head, so there
        // is one before it; the list weighs what it weighed.
        var nodes = self.nodes.mutableSpan
        let (previous, next) = (nodes[Int(slot)].previous, nodes[Int(slot)].next)
        nodes[Int(previous)].next = next
        if next >= 0 { nodes[Int(next)].previous = previous } else { list.tail = previous }
        nodes[Int(slot)].previous = -1
        nodes[Int(slot)].next = head
        nodes[Int(head)].previous = slot
        list.head = slot
    }

    /// Gives a slot in a list another weight.
    mutating func reweigh(_ slot: Int32, to weight: Int, in list: inout SlotList) {
        list.weight += weight - self.nodes[Int(slot)].weight
        self.nodes[Int(slot)].weight = weight
    }

    /// Joins a whole list to the tail of another, in constant time; the places of its nodes stay as they were.
    mutating func append(_ other: inout SlotList, to list: inout SlotList) {
        guard other.count > 0 else { return }
        if list.tail >= 0 { self.nodes[Int(list.tail)].next = other.head } else { list.head = other.head }
        self.nodes[Int(other.head)].previous = list.tail
        list.tail = other.tail
        list.weight += other.weight
        list.count += other.count
        other = SlotList()
    }

    /// The slots of a list from head to tail, for tests; also checks the links, the places and the sums.
    func slots(of list: SlotList) -> [Int32]? {
        var found: [Int32] = []
        var (previous, slot, weight) = (Int32(-1), list.head, 0)
        while slot >= 0 {
            let node = self[slot]
            guard node.previous == previous, node.place >= SlotNode.listed, found.count < list.count else { return nil }
            found.append(slot)
            weight += node.weight
            (previous, slot) = (slot, node.next)
        }
        return previous == list.tail && weight == list.weight && found.count == list.count ? found : nil
    }
}
