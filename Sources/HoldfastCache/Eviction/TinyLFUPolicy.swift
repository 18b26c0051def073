// SPDX-License-Identifier: Apache-2.0

/// The default: W-TinyLFU whose window, and whose way to let entries into the main queue, follow the traffic.
///
/// A window for what is recent, a main queue for what is frequent, a sketch that judges who may pass from one to the other
/// (Einziger, Friedman and Manes, "TinyLFU: A Highly Efficient Cache Admission Policy", ACM ToS 2017), a ghost that corrects
/// the sketch (see `TinyLFUCore`), and small models that tell which division is best (see `ShapeJudge`).
///
/// The keys of one part of a divided memory are a fair sample of all, so only one part in eight has models; the others take
/// its shape. (To let a few sets decide for all is how a processor's cache chooses its policy: Qureshi, Jaleel, Patt,
/// Steely and Emer, "Adaptive Insertion Policies for High Performance Caching", ISCA 2007.)
public struct TinyLFUPolicy: EvictionPolicy {
    private var core: TinyLFUCore
    private var sketch: FrequencySketch
    /// Who tells which shape is best; `nil` where another part's does.
    private var judge: ShapeJudge?
    /// Where the shape stands that several parts have in common; `nil` for a memory that is not divided.
    private var board: ShapeBoard?
    /// Which of the shapes the core has.
    private(set) var number: Int

    /// Whether it has models of its own.
    var judges: Bool { self.judge != nil }

    /// How many parts go by one judge.
    private static let partsOfJudge = 8

    /// Makes a policy.
    public init(capacity: Int, seed: UInt64) {
        // Half of what an integer holds, so that no sum of two can overflow.
        let capacity = min(max(1, capacity), Int.max / 2)
        let judge = ShapeJudge(capacity: capacity, seed: seed)
        self.judge = judge
        self.number = judge.number
        self.core = TinyLFUCore(capacity: capacity, shape: ShapeJudge.shapes[judge.number], seed: seed)
        self.sketch = FrequencySketch(entries: 0, seed: seed)
    }

    /// The policies of the parts of one memory.
    ///
    /// - Parameters:
    ///   - capacities: What fits into each.
    ///   - seed: Gives a seed for each.
    /// - Returns: The policies, in the same order.
    static func parts(_ capacities: [Int], seed: () -> UInt64) -> [any EvictionPolicy] {
        var policies = capacities.map { TinyLFUPolicy(capacity: $0, seed: seed()) }
        for number in policies.indices where policies.count > 1 {
            if number % Self.partsOfJudge == 0 {
                policies[number].board = ShapeBoard(policies[number].number)
            } else {
                policies[number].board = policies[number - 1].board
                policies[number].judge = nil
            }
        }
        return policies
    }

    /// The sum of weights that fits.
    public var capacity: Int { self.core.capacity }
    /// It does not go by deadlines.
    public var heedsDeadlines: Bool { false }
    /// The sum of weights of the entries, pinned ones not counted.
    public var weight: Int { self.core.weight }

    /// An entry came in: it enters the window, or the main queue if it left not long ago, and others leave.
    public mutating func insert(_ entry: EvictionEntry, evicted: inout [Int32]) {
        let hash = entry.foldedHash
        self.follow()
        if entry.weight > 0, entry.weight <= self.core.capacity { self.count(hash, weight: entry.weight, isHit: false) }
        self.core.insert(entry, hash: hash, sketch: self.sketch, evicted: &evicted)
        let entries = self.core.count
        if entries > self.sketch.entries || entries < self.sketch.entries / 4 { self.sketch.reserve(entries) }
        self.judge?.fit(entries: entries, sketch: self.sketch)
    }

    /// Counts the use.
    public mutating func hit(_ slot: Int32) {
        guard self.core.nodes.contains(slot) else { return }
        let node = self.core.nodes[slot]
        guard node.place != SlotNode.pinned else { return }
        self.core.hit(slot)
        self.count(node.tag, weight: node.weight, isHit: true)
    }

    /// An entry's weight changed: it keeps its place, and others leave if need be.
    public mutating func update(_ entry: EvictionEntry, evicted: inout [Int32]) {
        guard self.core.nodes.contains(entry.slot), self.core.nodes[entry.slot].weight != entry.weight else { return }
        self.judge?.change(self.core.nodes[entry.slot].tag, weight: entry.weight, sketch: self.sketch)
        self.core.reweigh(entry, sketch: self.sketch, evicted: &evicted)
    }

    /// Forgets an entry.
    public mutating func remove(_ slot: Int32) {
        guard self.core.nodes.contains(slot) else { return }
        self.judge?.change(self.core.nodes[slot].tag, weight: 0, sketch: self.sketch)
        self.core.remove(slot)
    }

    private mutating func count(_ hash: UInt32, weight: Int, isHit: Bool) {
        self.sketch.add(hash)
        guard let isSampled = self.judge?.samples(hash), isSampled else { return }
        if self.judge?.access(hash, weight: weight, isHit: isHit, sketch: self.sketch) == true { self.rule() }
    }

    /// Takes the shape that the judge has found to be best, and tells the others.
    private mutating func rule() {
        guard let number = self.judge?.number else { return }
        self.take(number)
        self.board?.write(number)
    }

    /// Takes the shape that another part's judge has found to be best.
    private mutating func follow() {
        guard self.judge == nil, let number = self.board?.number, number != self.number else { return }
        self.take(number)
    }

    private mutating func take(_ number: Int) {
        self.number = number
        self.core.reshape(ShapeJudge.shapes[number])
    }
}
