// SPDX-License-Identifier: Apache-2.0

/// Evicts the entry with the fewest uses, of equals the one that got its last use longest ago; uses are halved now and then.
///
/// One list for each count, as in Shah, Mitra and Matani, "An O(1) algorithm for implementing the LFU cache eviction scheme"
/// (2010). Without aging, entries that were popular once never leave; here all counts are halved after ten uses for each
/// entry, by joining lists two by two: a constant number of steps, however many entries there are. A node's count is brought
/// up to date when it is next touched.
public struct LFUPolicy: EvictionPolicy {
    /// The largest count.
    private static let most = 63
    /// Uses between halvings, for each entry.
    private static let periodPerEntry = 10
    private static let place = SlotNode.listed

    /// The sum of weights that fits.
    public let capacity: Int
    /// It does not go by deadlines.
    public var heedsDeadlines: Bool { false }
    /// The sum of weights of the entries, pinned ones not counted.
    public private(set) var weight = 0

    /// A node's mark is its count when it was last touched, its tag the number of halvings before.
    private var nodes = SlotNodes()
    /// By count, 0 to 63.
    private var lists = ContiguousArray(repeating: SlotList(), count: LFUPolicy.most + 1)
    private var count = 0
    private var halvings: UInt32 = 0
    private var uses = 0

    /// Makes a policy; LFU makes no random choices, so the seed is not used.
    public init(capacity: Int, seed: UInt64) { self.capacity = max(1, capacity) }

    /// An entry came in: others leave until it fits.
    public mutating func insert(_ entry: EvictionEntry, evicted: inout [Int32]) {
        guard entry.weight <= self.capacity else {
            evicted.append(entry.slot)
            return
        }
        self.shrink(to: self.capacity - entry.weight, evicted: &evicted)
        self.nodes.open(entry)
        if entry.weight > 0 { self.link(entry.slot, uses: 1) }
    }

    /// Counts the use.
    public mutating func hit(_ slot: Int32) {
        guard self.nodes.contains(slot), self.nodes[slot].place == Self.place else { return }
        let uses = self.uses(of: slot)
        self.unlink(slot)
        self.link(slot, uses: min(uses + 1, Self.most))
        self.uses += 1
        if self.uses >= self.count * Self.periodPerEntry { self.halve() }
    }

    /// An entry's weight changed: it keeps its count, and the next victims leave, itself among them if it is one.
    public mutating func update(_ entry: EvictionEntry, evicted: inout [Int32]) {
        guard self.nodes.contains(entry.slot) else { return }
        let uses = self.nodes[entry.slot].place == Self.place ? self.uses(of: entry.slot) : 1
        self.remove(entry.slot)
        guard entry.weight <= self.capacity else {
            evicted.append(entry.slot)
            return
        }
        self.nodes.open(entry)
        if entry.weight > 0 { self.link(entry.slot, uses: uses) }
        self.shrink(to: self.capacity, evicted: &evicted)
    }

    /// Forgets an entry.
    public mutating func remove(_ slot: Int32) {
        guard self.nodes.contains(slot) else { return }
        if self.nodes[slot].place == Self.place { self.unlink(slot) }
        self.nodes.close(slot)
    }

    private func uses(of slot: Int32) -> Int {
        let missed = self.halvings &- self.nodes[slot].tag
        return missed > 6 ? 0 : Int(self.nodes[slot].mark) >> Int(missed)
    }

    private mutating func link(_ slot: Int32, uses: Int) {
        self.nodes[slot].mark = UInt8(uses)
        self.nodes[slot].tag = self.halvings
        self.nodes.prepend(slot, to: &self.lists[uses], at: Self.place)
        self.weight += self.nodes[slot].weight
        self.count += 1
    }

    private mutating func unlink(_ slot: Int32) {
        self.nodes.unlink(slot, from: &self.lists[self.uses(of: slot)])
        self.weight -= self.nodes[slot].weight
        self.count -= 1
    }

    private mutating func shrink(to limit: Int, evicted: inout [Int32]) {
        while self.weight > limit, let victim = self.lists.first(where: { $0.count > 0 })?.tail {
            self.remove(victim)
            evicted.append(victim)
        }
    }

    private mutating func halve() {
        self.uses = 0
        self.halvings &+= 1
        for target in 0...Self.most / 2 {
            var (more, fewer) = (self.lists[2 * target + 1], self.lists[2 * target])
            var joined = SlotList()
            self.nodes.append(&more, to: &joined)
            self.nodes.append(&fewer, to: &joined)
            self.lists[target] = joined
        }
        for index in (Self.most / 2 + 1)...Self.most { self.lists[index] = SlotList() }
    }
}
